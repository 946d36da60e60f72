// RemoteSession: a client that called Control/Session, asked through the tunnel in that call. Its answers are not
// trusted: sizes, names and orders are checked where they come in.
//
// Errors: a client that has gone is Code::unavailable with SessionLost, whatever it was asked. Any thread.
#pragma once

#include "rpc/grpc_types.hpp"
#include "session/session.hpp"

#include <chrono>
#include <memory>
#include <set>
#include <string>

namespace cooper::daemon {

class LocalSlots;

struct SessionInfo {
    std::string id;
    std::string shared_key;         // names the client's directory, so that its next session finds what it sent
    std::set<std::string> methods;  // that it serves: "/package.service/method", lower case
};

class RemoteSession final : public session::Session {
public:
    // slots outlives it. Sockets are made below scratch_dir.
    RemoteSession(SessionInfo info, std::shared_ptr<grpc::Channel> channel, LocalSlots& slots, std::string scratch_dir);
    ~RemoteSession() override;

    [[nodiscard]] const std::string& id() const override { return info_.id; }
    [[nodiscard]] bool serves(const std::string& lower_case_method) const;
    // Whether the client answers at all.
    Result<> check_health(std::chrono::milliseconds timeout, Stop stop);
    // For services that this class does not know (exporters, policies).
    [[nodiscard]] const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }

    Result<std::shared_ptr<session::LocalFiles>> local_files(const session::LocalRequest& request,
                                                             VertexProgress& progress, Stop stop) override;
    Result<> export_directory(int exporter, const std::vector<session::DirectoryExport>& trees,
                              const session::DirectoryOptions& options, VertexProgress& progress, Stop stop) override;
    Result<std::unique_ptr<FileExport>> export_file(int exporter, const std::map<std::string, std::string>& metadata,
                                                    Stop stop) override;
    Result<std::unique_ptr<ByteSource>> read_content(const std::string& store, const Digest& digest,
                                                     std::uint64_t offset, Stop stop) override;
    Result<std::uint64_t> content_size(const std::string& store, const Digest& digest, Stop stop) override;
    Result<> write_content(const std::string& store, const Digest& digest, std::uint64_t size_bytes, ByteSource& source,
                           Stop stop) override;
    Result<std::unique_ptr<ByteSource>> read_upload(const std::string& name, Stop stop) override;
    Result<registry::Credential> find_credential(const std::string& host, Stop stop) override;
    Result<std::optional<session::Secret>> find_secret(const std::string& id, Stop stop) override;
    Result<std::unique_ptr<session::SshSocket>> open_ssh(const std::string& id, const session::SocketOwner& owner,
                                                         Stop stop) override;

private:
    const SessionInfo info_;
    const std::shared_ptr<grpc::Channel> channel_;
    LocalSlots& slots_;
    const std::string scratch_dir_;
};

}  // namespace cooper::daemon
