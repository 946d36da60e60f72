// AgentSocket: a unix socket of this machine whose connections are carried to an SSH agent of a client, one
// SSH/ForwardAgent call each.
//
// Everything ends with the object: the socket, its connections, their threads.
#pragma once

#include "base/result.hpp"
#include "base/stop.hpp"
#include "rpc/grpc_types.hpp"
#include "session/session.hpp"
#include "sys/fd.hpp"
#include "sys/temp_dir.hpp"

#include <list>
#include <memory>
#include <string>
#include <thread>

namespace cooper::daemon {

class AgentSocket final : public session::SshSocket {
public:
    // The socket is made in a directory of its own below scratch_dir.
    static Result<std::unique_ptr<AgentSocket>> create(std::shared_ptr<grpc::Channel> channel, std::string agent_id,
                                                       const std::string& scratch_dir,
                                                       const session::SocketOwner& owner);
    AgentSocket(const AgentSocket&) = delete;
    AgentSocket& operator=(const AgentSocket&) = delete;
    ~AgentSocket() override;

    [[nodiscard]] const std::string& host_path() const override { return path_; }

private:
    class Connection;
    AgentSocket() = default;
    void accept_all(const Stop& stop) noexcept;

    std::shared_ptr<grpc::Channel> channel_;
    std::string agent_id_;
    sys::TempDir dir_;
    std::string path_;
    sys::Fd listener_;
    std::list<std::unique_ptr<Connection>> connections_;  // of the thread
    std::jthread thread_;
};

}  // namespace cooper::daemon
