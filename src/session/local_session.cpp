#include "session/local_session.hpp"

#include "base/text.hpp"
#include "session/socket_forward.hpp"
#include "sys/process.hpp"

#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace cooper::session {

namespace {

constexpr std::size_t kMaxSecret = 512U << 10U;

// The agent that holds the private keys named with --ssh id=key; it ends with this object.
struct Agent {
    sys::TempDir dir;
    sys::Child process;
    std::string socket;
};

class ForwardedSocket final : public SshSocket {
public:
    ForwardedSocket(sys::TempDir dir, std::string path, std::unique_ptr<SocketForward> forward)
        : dir_(std::move(dir)), path_(std::move(path)), forward_(std::move(forward)) {}
    const std::string& host_path() const override { return path_; }

private:
    sys::TempDir dir_;
    std::string path_;
    std::unique_ptr<SocketForward> forward_;
};

bool is_socket(const std::string& path) {
    struct stat st{};
    return ::stat(path.c_str(), &st) == 0 && S_ISSOCK(st.st_mode);
}

Result<std::unique_ptr<Agent>> start_agent(const std::vector<std::string>& keys, const std::string& scratch_dir) {
    auto agent = std::make_unique<Agent>();
    agent->dir = TRY(sys::TempDir::create(scratch_dir, "agent-"));
    agent->socket = agent->dir.path() + "/agent.sock";
    const auto program = sys::find_program("ssh-agent");
    if (!program) return program.error().with_hint("--ssh id=KEY needs ssh-agent (package openssh-client)");
    sys::SpawnSpec spec;
    spec.program = *program;
    spec.args = {"ssh-agent", "-D", "-a", agent->socket};
    agent->process = TRY(sys::Child::spawn(spec));
    for (int i = 0; i < 200 && !is_socket(agent->socket); ++i) ::usleep(10'000);
    sys::SpawnSpec add;
    add.program = TRY(sys::find_program("ssh-add"));
    add.args = {"ssh-add", "-q"};
    for (const auto& key : keys) add.args.push_back(key);
    std::vector<std::string> env = {"SSH_AUTH_SOCK=" + agent->socket, "SSH_ASKPASS_REQUIRE=never"};
    for (const char* name : {"PATH", "HOME"}) {
        if (const char* value = std::getenv(name)) env.push_back(std::string(name) + "=" + value);
    }
    add.env = std::move(env);
    const auto added = TRY(sys::run_captured(std::move(add), "", 4096, Stop{}));
    if (added.status.code != 0) return bad_input("cannot use SSH key {}: {}", join(keys, ", "), trim(added.err));
    return agent;
}

}  // namespace

Secret::~Secret() {
    // The compiler may not drop this: explicit_bzero is made for it.
    ::explicit_bzero(value_.data(), value_.size());
}

struct LocalSession::Agents {
    Guarded<std::map<std::string, std::unique_ptr<Agent>>> running;
};

LocalSession::~LocalSession() = default;

Result<std::unique_ptr<LocalSession>> LocalSession::create(std::map<std::string, LocalSecret> secrets,
                                                           std::map<std::string, std::vector<std::string>> ssh,
                                                           std::string scratch_dir) {
    for (const auto& [id, secret] : secrets) {
        if (!secret.env.empty()) continue;
        struct stat st{};
        if (::stat(secret.file.c_str(), &st) != 0)
            return fail_errno(errno, fmt::format("secret {}: {}", id, secret.file));
        if (!S_ISREG(st.st_mode) && !S_ISFIFO(st.st_mode))
            return bad_input("secret {}: {} is not a file", id, secret.file);
        if (st.st_size > static_cast<off_t>(kMaxSecret)) {
            return bad_input("secret {}: {} is larger than 512 KiB", id, secret.file);
        }
    }
    for (const auto& [id, paths] : ssh) {
        if (paths.empty()) {
            const char* socket = std::getenv("SSH_AUTH_SOCK");
            if (socket == nullptr || *socket == '\0') {
                return bad_input("--ssh {}: there is no SSH agent: SSH_AUTH_SOCK is not set", id)
                    .with_hint(fmt::format("start ssh-agent, or name a key: --ssh {}=$HOME/.ssh/id_ed25519", id));
            }
        }
        for (const auto& path : paths) {
            if (::access(path.c_str(), R_OK) != 0) return fail_errno(errno, fmt::format("--ssh {}: {}", id, path));
        }
    }
    auto session = std::unique_ptr<LocalSession>(new LocalSession);
    session->secrets_ = std::move(secrets);
    session->ssh_ = std::move(ssh);
    session->scratch_dir_ = std::move(scratch_dir);
    session->agents_ = std::make_unique<Agents>();
    return session;
}

Result<std::optional<Secret>> LocalSession::find_secret(const std::string& id, Stop /*stop*/) {
    const auto found = secrets_.find(id);
    if (found == secrets_.end()) return std::optional<Secret>{};
    if (!found->second.env.empty()) {
        const char* value = std::getenv(found->second.env.c_str());
        if (value == nullptr) return std::optional<Secret>{};
        return std::optional<Secret>(Secret(value));
    }
    const sys::Fd file(::open(found->second.file.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.valid()) return fail_errno(errno, fmt::format("secret {}: {}", id, found->second.file));
    std::string value = TRY_CONTEXT(sys::read_to_end(file.get(), kMaxSecret), "secret {}", id);
    return std::optional<Secret>(Secret(std::move(value)));
}

Result<std::string> LocalSession::agent_socket(const std::string& id) {
    const auto& paths = ssh_.at(id);
    if (paths.empty()) {
        const char* socket = std::getenv("SSH_AUTH_SOCK");
        return std::string(socket != nullptr ? socket : "");
    }
    if (paths.size() == 1 && is_socket(paths[0])) return paths[0];
    auto running = agents_->running.lock();
    auto& agent = (*running)[id];
    if (agent == nullptr) agent = TRY(start_agent(paths, scratch_dir_));
    return agent->socket;
}

Result<std::unique_ptr<SshSocket>> LocalSession::open_ssh(const std::string& id, const SocketOwner& owner,
                                                          Stop /*stop*/) {
    if (!ssh_.contains(id)) return std::unique_ptr<SshSocket>{};
    const std::string target = TRY(agent_socket(id));
    sys::TempDir dir = TRY(sys::TempDir::create(scratch_dir_, "ssh-"));
    const std::string path = dir.path() + "/agent.sock";
    auto forward = TRY_CONTEXT(SocketForward::start(path, target), "forward SSH agent {}", id);
    if (::chown(path.c_str(), owner.uid, owner.gid) != 0) return fail_errno(errno, "SSH socket owner");
    if (::chmod(path.c_str(), owner.mode) != 0) return fail_errno(errno, "SSH socket mode");
    return std::unique_ptr<SshSocket>(std::make_unique<ForwardedSocket>(std::move(dir), path, std::move(forward)));
}

}  // namespace cooper::session
