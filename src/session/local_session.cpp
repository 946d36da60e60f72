#include "session/local_session.hpp"

#include "base/text.hpp"
#include "session/socket_forward.hpp"
#include "sys/process.hpp"
#include "sys/rooted_dir.hpp"

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

Result<std::unique_ptr<LocalSession>> LocalSession::create(LocalOffers offers) {
    for (const auto& [id, secret] : offers.secrets) {
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
    for (const auto& [id, paths] : offers.ssh) {
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
    session->offers_ = std::move(offers);
    session->agents_ = std::make_unique<Agents>();
    return session;
}

namespace {

class HostDirectory final : public LocalFiles {
public:
    explicit HostDirectory(std::string host_path) : host_path_(std::move(host_path)) {}
    [[nodiscard]] const std::string& host_path() const override { return host_path_; }

private:
    std::string host_path_;
};

class FdSource final : public ByteSource {
public:
    explicit FdSource(sys::Fd fd) : fd_(std::move(fd)) {}
    Result<std::size_t> read(std::span<std::byte> buffer) override {
        while (true) {
            const ssize_t got = ::read(fd_.get(), buffer.data(), buffer.size());
            if (got >= 0) return static_cast<std::size_t>(got);
            if (errno != EINTR) return fail_errno(errno, "read");
        }
    }

private:
    sys::Fd fd_;
};

}  // namespace

Result<std::shared_ptr<LocalFiles>> LocalSession::local_files(const LocalRequest& request, VertexProgress& progress,
                                                              Stop stop) {
    const auto found = offers_.directories.find(request.name);
    if (found == offers_.directories.end()) return Session::local_files(request, progress, std::move(stop));
    return std::shared_ptr<LocalFiles>(std::make_shared<HostDirectory>(found->second));
}

Result<sys::Fd> LocalSession::open_content(const std::string& store, const Digest& digest) const {
    const auto found = offers_.layouts.find(store);
    if (found == offers_.layouts.end() || digest.algorithm() != Digest::Algorithm::sha256) {
        return fail(Code::not_found, Blame::user, "there is no {} in the content store {}", digest.to_string(), store);
    }
    const sys::RootedDir dir = TRY(sys::RootedDir::open_host(found->second));
    auto file = dir.open("blobs/sha256/" + digest.hex(), O_RDONLY | O_NONBLOCK, sys::Follow::no, 0);
    if (!file && file.error().code() == Code::not_found) {
        return fail(Code::not_found, Blame::user, "OCI layout {} has no blob {}", found->second, digest.to_string());
    }
    return file;
}

Result<std::unique_ptr<ByteSource>> LocalSession::read_content(const std::string& store, const Digest& digest,
                                                               std::uint64_t offset, Stop /*stop*/) {
    sys::Fd file = TRY(open_content(store, digest));
    if (::lseek(file.get(), static_cast<off_t>(offset), SEEK_SET) < 0) return fail_errno(errno, "seek in a blob");
    return std::unique_ptr<ByteSource>(std::make_unique<FdSource>(std::move(file)));
}

Result<std::uint64_t> LocalSession::content_size(const std::string& store, const Digest& digest, Stop /*stop*/) {
    const sys::Fd file = TRY(open_content(store, digest));
    struct stat st{};
    if (::fstat(file.get(), &st) != 0) return fail_errno(errno, "size of a blob");
    // Whoever asks may count on it from here on: sweep_layout() spares it. Not where it may not be written to.
    static_cast<void>(::futimens(file.get(), nullptr));
    return static_cast<std::uint64_t>(st.st_size);
}

Result<> LocalSession::write_content(const std::string& store, const Digest& digest, std::uint64_t size_bytes,
                                     ByteSource& source, Stop stop) {
    const auto found = offers_.layouts.find(store);
    if (found == offers_.layouts.end() || digest.algorithm() != Digest::Algorithm::sha256)
        return fail(Code::not_found, Blame::cooper, "there is no content store {}", store);
    const std::string& place = found->second;
    if (::mkdir(place.c_str(), 0755) != 0 && errno != EEXIST) return fail_errno(errno, place);
    const sys::RootedDir dir = TRY(sys::RootedDir::open_host(place));
    TRY_CONTEXT(dir.make_dirs("blobs/sha256", 0755), "{}", place);
    const std::string name = "blobs/sha256/" + digest.hex();
    if (const auto there = dir.open(name, O_RDONLY | O_NONBLOCK, sys::Follow::no, 0)) {
        struct stat st{};
        if (::fstat(there->get(), &st) == 0 && static_cast<std::uint64_t>(st.st_size) == size_bytes) {
            static_cast<void>(::futimens(there->get(), nullptr));
            return {};
        }
    }
    // Another writer of the same layout has a file of its own; whoever is last replaces equal bytes.
    const std::string temporary = fmt::format("blobs/sha256/.{}.{}", digest.hex(), ::getpid());
    const auto write = [&]() -> Result<> {
        sys::Fd file = TRY(dir.open(temporary, O_WRONLY | O_CREAT | O_TRUNC, sys::Follow::no, 0644));
        std::vector<std::byte> buffer(std::size_t{256} << 10U);
        std::uint64_t written = 0;
        while (const std::size_t got = TRY(source.read(buffer))) {
            TRY(check_stop(stop));
            TRY(sys::write_all(file.get(), std::span<const std::byte>(buffer).first(got)));
            written += got;
        }
        if (written != size_bytes)
            return fail(Code::data_loss, Blame::cooper, "{} has {} bytes, not {}", digest.to_string(), written,
                        size_bytes);
        TRY(std::move(file).close());
        if (::renameat(dir.fd(), temporary.c_str(), dir.fd(), name.c_str()) != 0) return fail_errno(errno, name);
        return {};
    };
    auto done = write();
    if (!done) ::unlinkat(dir.fd(), temporary.c_str(), 0);
    if (!done) return done.error().with_context(place);
    return {};
}

Result<std::optional<Secret>> LocalSession::find_secret(const std::string& id, Stop /*stop*/) {
    const auto found = offers_.secrets.find(id);
    if (found == offers_.secrets.end()) return std::optional<Secret>{};
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
    const auto& paths = offers_.ssh.at(id);
    if (paths.empty()) {
        const char* socket = std::getenv("SSH_AUTH_SOCK");
        return std::string(socket != nullptr ? socket : "");
    }
    if (paths.size() == 1 && is_socket(paths[0])) return paths[0];
    auto running = agents_->running.lock();
    auto& agent = (*running)[id];
    if (agent == nullptr) agent = TRY(start_agent(paths, offers_.scratch_dir));
    return agent->socket;
}

Result<std::unique_ptr<SshSocket>> LocalSession::open_ssh(const std::string& id, const SocketOwner& owner,
                                                          Stop /*stop*/) {
    if (!offers_.ssh.contains(id)) return std::unique_ptr<SshSocket>{};
    const std::string target = TRY(agent_socket(id));
    sys::TempDir dir = TRY(sys::TempDir::create(offers_.scratch_dir, "ssh-"));
    const std::string path = dir.path() + "/agent.sock";
    auto forward = TRY_CONTEXT(SocketForward::start(path, target), "forward SSH agent {}", id);
    if (::chown(path.c_str(), owner.uid, owner.gid) != 0) return fail_errno(errno, "SSH socket owner");
    if (::chmod(path.c_str(), owner.mode) != 0) return fail_errno(errno, "SSH socket mode");
    return std::unique_ptr<SshSocket>(std::make_unique<ForwardedSocket>(std::move(dir), path, std::move(forward)));
}

}  // namespace cooper::session
