#include "run/port_proxy.hpp"

#include "base/text.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fcntl.h>
#include <list>
#include <map>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

namespace cooper::run {
namespace {

using SteadyTime = std::chrono::steady_clock::time_point;
constexpr auto kUdpIdle = std::chrono::seconds(60);
constexpr std::size_t kMaxConnections = 1024;

sockaddr_in address_of(const std::string& host, std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    if (::inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1) address.sin_addr.s_addr = htonl(INADDR_ANY);
    return address;
}

const sockaddr* generic(const sockaddr_in& address) { return reinterpret_cast<const sockaddr*>(&address); }

Result<sys::Fd> listen_on(PublishedPort& port) {
    const bool tcp = port.protocol == PublishedPort::Protocol::tcp;
    in_addr probe{};
    if (!port.host_address.empty() && ::inet_pton(AF_INET, port.host_address.c_str(), &probe) != 1) {
        return bad_input("cannot publish on {}: not an IPv4 address", quoted(port.host_address));
    }
    sys::Fd fd(::socket(AF_INET, (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd.valid()) return fail_errno(errno, "socket");
    const int on = 1;
    if (tcp) ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in address = address_of(port.host_address, port.host_port);
    if (::bind(fd.get(), generic(address), sizeof address) != 0 || (tcp && ::listen(fd.get(), 128) != 0)) {
        const int why = errno;
        return fail_errno(why, fmt::format("publish port {}", port.host_port))
            .with_hint(why == EADDRINUSE
                           ? "another program listens there: choose another host port, or 0 for any free one"
                           : "ports below 1024 need root");
    }
    socklen_t size = sizeof address;
    if (::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0)
        port.host_port = ntohs(address.sin_port);
    return fd;
}

// One direction of a TCP connection.
struct Flow {
    std::array<char, 65536> buffer;
    std::size_t begin = 0;
    std::size_t end = 0;
    bool source_ended = false;
    bool finished = false;  // the end has been passed on

    [[nodiscard]] bool wants_read() const { return !source_ended && end < buffer.size(); }
    [[nodiscard]] bool wants_write() const { return begin < end; }
    // False when the connection is broken.
    bool fill(int from) {
        const ssize_t n = ::recv(from, buffer.data() + end, buffer.size() - end, 0);
        if (n < 0) return errno == EAGAIN || errno == EINTR;
        if (n == 0) source_ended = true;
        end += static_cast<std::size_t>(n);
        return true;
    }
    bool drain(int to) {
        if (begin < end) {
            const ssize_t n = ::send(to, buffer.data() + begin, end - begin, MSG_NOSIGNAL);
            if (n < 0) return errno == EAGAIN || errno == EINTR;
            begin += static_cast<std::size_t>(n);
        }
        if (begin == end) begin = end = 0;
        if (source_ended && begin == end && !finished) {
            ::shutdown(to, SHUT_WR);
            finished = true;
        }
        return true;
    }
};

struct Connection {
    sys::Fd outside;
    sys::Fd inside;
    bool connected = false;
    Flow inward;
    Flow outward;
    [[nodiscard]] bool done() const { return inward.finished && outward.finished; }
};

struct UdpPeer {
    sys::Fd inside;
    sockaddr_in client{};
    SteadyTime last_used;
};

struct Listener {
    sys::Fd fd;
    PublishedPort port;
    std::map<std::pair<std::uint32_t, std::uint16_t>, UdpPeer> peers;  // UDP only, by client
};

}  // namespace

class PortProxy::Server {
public:
    Result<> start(std::vector<PublishedPort> ports, int namespace_fd, const std::string& address) {
        target_ = address.empty() ? "127.0.0.1" : address;
        for (PublishedPort& port : ports) {
            sys::Fd fd = TRY(listen_on(port));
            listeners_.push_back({std::move(fd), port, {}});
        }
        ports_ = std::move(ports);
        wake_ = sys::Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
        if (!wake_.valid()) return fail_errno(errno, "eventfd");
        namespace_ = sys::Fd(::fcntl(namespace_fd, F_DUPFD_CLOEXEC, 3));
        if (!namespace_.valid()) return fail_errno(errno, "duplicate descriptor");
        thread_ = std::jthread([this](const Stop& stop) noexcept { serve(stop); });
        return {};
    }
    ~Server() {
        thread_.request_stop();
        const std::uint64_t one = 1;
        if (wake_.valid()) [[maybe_unused]]
            const ssize_t n = ::write(wake_.get(), &one, sizeof one);
    }
    const std::vector<PublishedPort>& ports() const { return ports_; }

private:
    void serve(const Stop& stop);
    void accept_from(Listener& listener);
    void pass_datagrams(Listener& listener);
    void pass_replies(Listener& listener, UdpPeer& peer);
    void forget_idle_peers();
    sys::Fd connect_inside(std::uint16_t port, int type) const;
    static bool move_bytes(Connection& connection, short outside, short inside);

    std::string target_;
    std::vector<PublishedPort> ports_;
    std::vector<Listener> listeners_;
    std::list<Connection> connections_;
    sys::Fd wake_;
    sys::Fd namespace_;
    std::jthread thread_;  // last: ends first
};

sys::Fd PortProxy::Server::connect_inside(std::uint16_t port, int type) const {
    // This thread lives in the container's network namespace, so its new sockets do.
    sys::Fd fd(::socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const sockaddr_in address = address_of(target_, port);
    if (fd.valid() && ::connect(fd.get(), generic(address), sizeof address) != 0 && errno != EINPROGRESS)
        fd = sys::Fd();
    return fd;
}

void PortProxy::Server::accept_from(Listener& listener) {
    while (connections_.size() < kMaxConnections) {
        sys::Fd outside(::accept4(listener.fd.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (!outside.valid()) return;
        sys::Fd inside = connect_inside(listener.port.container_port, SOCK_STREAM);
        if (!inside.valid()) continue;  // closing the outside tells the client
        const int on = 1;
        ::setsockopt(outside.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        ::setsockopt(inside.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        Connection& connection = connections_.emplace_back();
        connection.outside = std::move(outside);
        connection.inside = std::move(inside);
    }
}

void PortProxy::Server::pass_datagrams(Listener& listener) {
    std::array<char, 65536> datagram;
    while (true) {
        sockaddr_in client{};
        socklen_t size = sizeof client;
        const ssize_t n = ::recvfrom(listener.fd.get(), datagram.data(), datagram.size(), 0,
                                     reinterpret_cast<sockaddr*>(&client), &size);
        if (n < 0) return;
        const std::pair key{client.sin_addr.s_addr, client.sin_port};
        auto peer = listener.peers.find(key);
        if (peer == listener.peers.end()) {
            if (listener.peers.size() >= kMaxConnections) continue;
            sys::Fd inside = connect_inside(listener.port.container_port, SOCK_DGRAM);
            if (!inside.valid()) continue;
            peer = listener.peers.emplace(key, UdpPeer{std::move(inside), client, {}}).first;
        }
        peer->second.last_used = std::chrono::steady_clock::now();
        ::send(peer->second.inside.get(), datagram.data(), static_cast<std::size_t>(n), MSG_NOSIGNAL);
    }
}

void PortProxy::Server::pass_replies(Listener& listener, UdpPeer& peer) {
    std::array<char, 65536> datagram;
    while (true) {
        const ssize_t n = ::recv(peer.inside.get(), datagram.data(), datagram.size(), 0);
        if (n < 0) return;
        peer.last_used = std::chrono::steady_clock::now();
        ::sendto(listener.fd.get(), datagram.data(), static_cast<std::size_t>(n), MSG_NOSIGNAL, generic(peer.client),
                 sizeof peer.client);
    }
}

void PortProxy::Server::forget_idle_peers() {
    const SteadyTime oldest = std::chrono::steady_clock::now() - kUdpIdle;
    for (Listener& listener : listeners_) {
        std::erase_if(listener.peers, [oldest](const auto& entry) { return entry.second.last_used < oldest; });
    }
}

bool PortProxy::Server::move_bytes(Connection& connection, short outside, short inside) {
    constexpr short kIn = POLLIN | POLLHUP | POLLERR;
    if (!connection.connected && inside != 0) {
        int error = 0;
        socklen_t size = sizeof error;
        ::getsockopt(connection.inside.get(), SOL_SOCKET, SO_ERROR, &error, &size);
        if (error != 0) return false;
        connection.connected = true;
    }
    if ((outside & kIn) != 0 && connection.inward.wants_read() && !connection.inward.fill(connection.outside.get()))
        return false;
    if (!connection.connected) return true;
    if ((inside & kIn) != 0 && connection.outward.wants_read() && !connection.outward.fill(connection.inside.get()))
        return false;
    return connection.inward.drain(connection.inside.get()) && connection.outward.drain(connection.outside.get()) &&
           !connection.done();
}

void PortProxy::Server::serve(const Stop& stop) {
    if (::setns(namespace_.get(), CLONE_NEWNET) != 0) return;
    while (!stop.stop_requested()) {
        std::vector<pollfd> fds{{wake_.get(), POLLIN, 0}};
        bool any_peer = false;
        for (const Listener& listener : listeners_) {
            // Full: who wants to connect waits in the kernel's queue.
            const bool full =
                listener.port.protocol == PublishedPort::Protocol::tcp && connections_.size() >= kMaxConnections;
            fds.push_back({full ? -1 : listener.fd.get(), POLLIN, 0});
            for (const auto& [key, peer] : listener.peers) fds.push_back({peer.inside.get(), POLLIN, 0});
            any_peer = any_peer || !listener.peers.empty();
        }
        const auto events = [](const Flow& reads, const Flow& writes) {
            return static_cast<short>((reads.wants_read() ? POLLIN : 0) | (writes.wants_write() ? POLLOUT : 0));
        };
        // A side with nothing to do is left out: its hang-up would wake us for ever.
        for (const Connection& connection : connections_) {
            const short outside = events(connection.inward, connection.outward);
            const short inside = connection.connected ? events(connection.outward, connection.inward) : short{POLLOUT};
            fds.push_back({outside != 0 ? connection.outside.get() : -1, outside, 0});
            fds.push_back({inside != 0 ? connection.inside.get() : -1, inside, 0});
        }
        if (::poll(fds.data(), fds.size(), any_peer ? 5000 : -1) < 0 && errno != EINTR) return;

        std::size_t at = 1;
        const std::size_t known = connections_.size();
        for (Listener& listener : listeners_) {
            const bool ready = fds[at++].revents != 0;
            for (auto& [key, peer] : listener.peers) {
                if (fds[at++].revents != 0) pass_replies(listener, peer);
            }
            if (!ready) continue;
            if (listener.port.protocol == PublishedPort::Protocol::tcp) {
                accept_from(listener);
            } else {
                pass_datagrams(listener);
            }
        }
        auto connection = connections_.begin();
        for (std::size_t i = 0; i < known; i++) {
            const short outside = fds[at++].revents;
            const short inside = fds[at++].revents;
            const bool alive = (outside == 0 && inside == 0) || move_bytes(*connection, outside, inside);
            connection = alive ? std::next(connection) : connections_.erase(connection);
        }
        if (any_peer) forget_idle_peers();
    }
}

PortProxy::PortProxy() = default;
PortProxy::~PortProxy() = default;

Result<> PortProxy::start(std::vector<PublishedPort> ports, int namespace_fd, const std::string& address) {
    server_ = std::make_unique<Server>();
    return server_->start(std::move(ports), namespace_fd, address);
}

const std::vector<PublishedPort>& PortProxy::ports() const {
    static const std::vector<PublishedPort> none;
    return server_ ? server_->ports() : none;
}

}  // namespace cooper::run
