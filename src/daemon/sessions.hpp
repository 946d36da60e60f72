// Sessions: the clients that are connected, by the ids that they chose. A client calls Control/Session; the call is the
// tunnel through which it is asked, and lives as long as the session.
//
// Any thread.
#pragma once

#include "base/guarded.hpp"
#include "base/result.hpp"
#include "base/stop.hpp"
#include "daemon/remote_session.hpp"
#include "rpc/grpc_types.hpp"

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace cooper::rpc {
class Joint;
}

namespace cooper::daemon {

class LocalSlots;

struct SessionsOptions {
    std::string scratch_dir;  // sockets of SSH agents are made below it
    // How long a build waits for its client: the two come in different calls, in any order.
    std::chrono::milliseconds lookup = std::chrono::seconds(5);
    // A client is asked for its health this often; two failures in a row end its session.
    std::chrono::milliseconds health_interval = std::chrono::seconds(5);
    std::chrono::milliseconds health_timeout = std::chrono::seconds(15);
    std::size_t max_sessions = 1000;
};

class Sessions {
public:
    // slots outlives it.
    Sessions(LocalSlots& slots, SessionsOptions options) : slots_(slots), options_(std::move(options)) {}
    Sessions(const Sessions&) = delete;
    Sessions& operator=(const Sessions&) = delete;
    // No call is being served any more.
    ~Sessions() = default;

    // Serves one Control/Session call: returns when the session has ended.
    grpc::Status serve(grpc::ServerContext& context,
                       grpc::ServerReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>& stream);

    // Waits for a session that is not there yet. Of "x:y" only y counts. A client that does not come is
    // Code::unavailable with SessionLost.
    Result<std::shared_ptr<RemoteSession>> find(const std::string& id, const Stop& stop);
    // nullptr when it is not there now.
    std::shared_ptr<RemoteSession> find_now(const std::string& id);
    [[nodiscard]] std::size_t count();

    // Ends all sessions, and those that begin later: the daemon ends.
    void close();

private:
    struct Entry {
        std::shared_ptr<RemoteSession> session;
        rpc::Joint* joint = nullptr;  // of the thread that serves it, which takes the entry out before it goes
    };
    struct State {
        std::map<std::string, Entry> entries;
        std::vector<rpc::Joint*> joints;  // of replaced sessions as well
        bool closed = false;
    };
    Result<> begin(const std::shared_ptr<RemoteSession>& session, rpc::Joint& joint);
    void end(const std::shared_ptr<RemoteSession>& session, rpc::Joint& joint);
    void watch_health(RemoteSession& session, rpc::Joint& joint, std::chrono::milliseconds timeout,
                      const Stop& stop) const;

    LocalSlots& slots_;
    const SessionsOptions options_;
    Guarded<State> state_;
};

}  // namespace cooper::daemon
