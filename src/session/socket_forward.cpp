#include "session/socket_forward.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <vector>

namespace cooper::session {

namespace {

// More at once than any sane step needs; further ones wait in the listener's queue.
constexpr std::size_t kMaxConnections = 32;

Result<sockaddr_un> address_of(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) return bad_input("socket path is too long: {}", path);
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    return address;
}

struct Connection {
    sys::Fd near;
    sys::Fd far;
    bool near_open = true;
    bool far_open = true;
};

// Moves what is there once; false when this direction has ended.
bool pump(int from, int to) {
    std::array<std::byte, 16384> buffer;
    const ssize_t n = ::recv(from, buffer.data(), buffer.size(), 0);
    if (n < 0 && errno == EINTR) return true;
    if (n <= 0) return false;
    std::span<const std::byte> rest = std::span(buffer).first(static_cast<std::size_t>(n));
    while (!rest.empty()) {
        const ssize_t sent = ::send(to, rest.data(), rest.size(), MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent <= 0) return false;
        rest = rest.subspan(static_cast<std::size_t>(sent));
    }
    return true;
}

}  // namespace

Result<std::unique_ptr<SocketForward>> SocketForward::start(const std::string& listen_path,
                                                            const std::string& target_path) {
    auto forward = std::unique_ptr<SocketForward>(new SocketForward);
    const sockaddr_un address = TRY(address_of(listen_path));
    TRY(address_of(target_path));
    forward->listener_ = sys::Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!forward->listener_.valid()) return fail_errno(errno, "socket");
    if (::bind(forward->listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        return fail_errno(errno, "bind " + listen_path);
    }
    if (::listen(forward->listener_.get(), 16) != 0) return fail_errno(errno, "listen");
    forward->wake_ = TRY(sys::make_pipe());
    forward->target_path_ = target_path;
    forward->thread_ = std::jthread([raw = forward.get()] { raw->serve(); });
    return forward;
}

SocketForward::~SocketForward() {
    wake_.write_end = sys::Fd();  // the thread sees the end of the pipe
    if (thread_.joinable()) thread_.join();
}

void SocketForward::serve() noexcept {
    std::vector<Connection> connections;
    const auto target = address_of(target_path_);
    while (true) {
        std::vector<pollfd> fds = {{wake_.read_end.get(), POLLIN, 0},
                                   {connections.size() < kMaxConnections ? listener_.get() : -1, POLLIN, 0}};
        for (const auto& connection : connections) {
            fds.push_back({connection.near_open ? connection.near.get() : -1, POLLIN, 0});
            fds.push_back({connection.far_open ? connection.far.get() : -1, POLLIN, 0});
        }
        if (::poll(fds.data(), fds.size(), -1) < 0 && errno != EINTR) return;
        if (fds[0].revents != 0) return;
        for (std::size_t i = 0; i < connections.size(); ++i) {
            Connection& connection = connections[i];
            if (fds[2 + 2 * i].revents != 0 && !pump(connection.near.get(), connection.far.get())) {
                connection.near_open = false;
                ::shutdown(connection.far.get(), SHUT_WR);
            }
            if (fds[3 + 2 * i].revents != 0 && !pump(connection.far.get(), connection.near.get())) {
                connection.far_open = false;
                ::shutdown(connection.near.get(), SHUT_WR);
            }
        }
        std::erase_if(connections, [](const auto& c) { return !c.far_open; });
        if (fds[1].revents != 0) {
            Connection connection;
            connection.near = sys::Fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
            connection.far = sys::Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
            if (connection.near.valid() && connection.far.valid() && target &&
                ::connect(connection.far.get(), reinterpret_cast<const sockaddr*>(&*target), sizeof *target) == 0) {
                connections.push_back(std::move(connection));
            }
        }
    }
}

}  // namespace cooper::session
