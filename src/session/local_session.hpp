// LocalSession: the session of a build in the caller's own process. Secrets are files or variables of
// the caller; SSH agents are the caller's agent socket, or key files for which an ssh-agent is run.
#pragma once

#include "base/guarded.hpp"
#include "session/session.hpp"
#include "sys/temp_dir.hpp"

#include <map>

namespace cooper::session {

struct LocalSecret {
    std::string file;  // host path, or
    std::string env;   // name of a variable
};

class LocalSession final : public Session {
public:
    // ssh: id → agent socket or private key files; no paths = $SSH_AUTH_SOCK. Sockets are made in
    // folders of their own below scratch_dir. Missing secret files are found out here, not in the step.
    static Result<std::unique_ptr<LocalSession>> create(std::map<std::string, LocalSecret> secrets,
                                                        std::map<std::string, std::vector<std::string>> ssh,
                                                        std::string scratch_dir);
    ~LocalSession() override;

    Result<std::optional<Secret>> find_secret(const std::string& id, Stop stop) override;
    Result<std::unique_ptr<SshSocket>> open_ssh(const std::string& id, const SocketOwner& owner, Stop stop) override;

private:
    LocalSession() = default;
    struct Agents;
    Result<std::string> agent_socket(const std::string& id);

    std::map<std::string, LocalSecret> secrets_;
    std::map<std::string, std::vector<std::string>> ssh_;
    std::string scratch_dir_;
    std::unique_ptr<Agents> agents_;
};

}  // namespace cooper::session
