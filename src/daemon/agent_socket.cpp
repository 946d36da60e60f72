#include "daemon/agent_socket.hpp"

#include "base/log.hpp"
#include "rpc/bytes_message.hpp"
#include "rpc/message_stream.hpp"

#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <sys/socket.h>
#include <sys/un.h>

namespace cooper::daemon {

namespace {

// More at once than any sane step needs.
constexpr std::size_t kMaxConnections = 32;
constexpr std::size_t kPiece = 32U << 10U;

Result<> bind_in(const sys::RootedDir& dir, int socket) {
    // Through the descriptor: the path of a state directory may be longer than an address can be.
    const std::string path = fmt::format("/proc/self/fd/{}/agent.sock", dir.fd());
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    if (::bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        return fail_errno(errno, "bind the socket of an SSH agent");
    }
    return {};
}

}  // namespace

class AgentSocket::Connection {
public:
    Connection(std::shared_ptr<grpc::Channel> channel, const std::string& agent_id, sys::Fd socket)
        : socket_(std::move(socket)),
          call_(rpc::RawCall::start(std::move(channel), "/moby.sshforward.v1.SSH/ForwardAgent",
                                    {{"buildkit.ssh.id", agent_id}}, Stop{})),
          up_([this]() noexcept { carry_up(); }),
          down_([this]() noexcept { carry_down(); }) {}
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;
    ~Connection() {
        ::shutdown(socket_.get(), SHUT_RDWR);
        call_->cancel();
    }
    [[nodiscard]] bool ended() const { return ended_; }

private:
    void carry_up() noexcept {
        std::array<std::byte, kPiece> piece;
        std::string message;
        while (true) {
            const auto got = sys::read_some(socket_.get(), piece);
            if (!got || *got == 0) break;
            rpc::wrap_bytes(as_text(std::span(piece).first(*got)), message);
            if (!call_->write(message)) return;
        }
        // The agent sees the end of the requests and may still answer.
        static_cast<void>(call_->close_write());
    }
    void carry_down() noexcept {
        std::string message;
        while (true) {
            const auto more = call_->read(message);
            if (!more) log::debug("SSH agent", {{"why", more.error().to_string()}});
            if (!more || !*more) break;
            const auto data = rpc::unwrap_bytes(message);
            if (!data || !sys::write_all(socket_.get(), *data)) break;
        }
        ::shutdown(socket_.get(), SHUT_RDWR);
        ended_ = true;
    }

    sys::Fd socket_;
    std::unique_ptr<rpc::RawCall> call_;
    std::atomic<bool> ended_ = false;
    std::jthread up_;
    std::jthread down_;
};

Result<std::unique_ptr<AgentSocket>> AgentSocket::create(std::shared_ptr<grpc::Channel> channel, std::string agent_id,
                                                         const std::string& scratch_dir,
                                                         const session::SocketOwner& owner) {
    auto agent = std::unique_ptr<AgentSocket>(new AgentSocket);
    agent->channel_ = std::move(channel);
    agent->agent_id_ = std::move(agent_id);
    agent->dir_ = TRY(sys::TempDir::create(scratch_dir, "ssh-"));
    agent->path_ = agent->dir_.path() + "/agent.sock";
    agent->listener_ = sys::Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!agent->listener_.valid()) return fail_errno(errno, "socket");
    TRY(bind_in(agent->dir_.dir(), agent->listener_.get()));
    if (::chown(agent->path_.c_str(), owner.uid, owner.gid) != 0) return fail_errno(errno, "SSH socket owner");
    if (::chmod(agent->path_.c_str(), owner.mode) != 0) return fail_errno(errno, "SSH socket mode");
    if (::listen(agent->listener_.get(), 16) != 0) return fail_errno(errno, "listen");
    agent->thread_ = std::jthread([raw = agent.get()](const Stop& stop) noexcept { raw->accept_all(stop); });
    return agent;
}

AgentSocket::~AgentSocket() {
    thread_ = {};
    connections_.clear();
}

void AgentSocket::accept_all(const Stop& stop) noexcept {
    while (sys::wait_readable(listener_.get(), stop)) {
        sys::Fd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
        std::erase_if(connections_, [](const auto& connection) { return connection->ended(); });
        // No descriptors left: the one that waits would be announced again at once.
        if (!socket.valid()) std::this_thread::sleep_for(std::chrono::milliseconds(10));
        // One that comes when all are taken is closed, which a client of an agent reports as such.
        if (!socket.valid() || connections_.size() >= kMaxConnections) continue;
        connections_.push_back(std::make_unique<Connection>(channel_, agent_id_, std::move(socket)));
    }
}

}  // namespace cooper::daemon
