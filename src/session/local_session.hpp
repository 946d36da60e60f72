// LocalSession: the session of a build in the caller's own process. Secrets are files or variables of
// the caller; SSH agents are the caller's agent socket, or key files for which an ssh-agent is run.
#pragma once

#include "base/guarded.hpp"
#include "session/session.hpp"
#include "sys/fd.hpp"
#include "sys/temp_dir.hpp"

#include <map>

namespace cooper::session {

struct LocalSecret {
    std::string file;  // host path, or
    std::string env;   // name of a variable
};

struct LocalOffers {
    std::map<std::string, LocalSecret> secrets;
    // id → agent socket or private key files; no paths = $SSH_AUTH_SOCK.
    std::map<std::string, std::vector<std::string>> ssh;
    std::map<std::string, std::string> directories;  // name → host path
    std::map<std::string, std::string> layouts;  // content store ("oci:NAME", "local:DIR") → host path of an OCI layout
    // Sockets are made in folders of their own below it.
    std::string scratch_dir;
};

class LocalSession final : public Session {
public:
    // Missing secret files are found out here, not in the step.
    static Result<std::unique_ptr<LocalSession>> create(LocalOffers offers);
    ~LocalSession() override;

    Result<std::shared_ptr<LocalFiles>> local_files(const LocalRequest& request, VertexProgress& progress,
                                                    Stop stop) override;
    Result<std::unique_ptr<ByteSource>> read_content(const std::string& store, const Digest& digest,
                                                     std::uint64_t offset, Stop stop) override;
    Result<std::uint64_t> content_size(const std::string& store, const Digest& digest, Stop stop) override;
    Result<> write_content(const std::string& store, const Digest& digest, std::uint64_t size_bytes, ByteSource& source,
                           Stop stop) override;

    Result<std::optional<Secret>> find_secret(const std::string& id, Stop stop) override;
    Result<std::unique_ptr<SshSocket>> open_ssh(const std::string& id, const SocketOwner& owner, Stop stop) override;

private:
    LocalSession() = default;
    struct Agents;
    Result<std::string> agent_socket(const std::string& id);

    Result<sys::Fd> open_content(const std::string& store, const Digest& digest) const;

    LocalOffers offers_;
    std::unique_ptr<Agents> agents_;
};

}  // namespace cooper::session
