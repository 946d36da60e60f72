#include "daemon/listener.hpp"

#include "base/log.hpp"
#include "base/text.hpp"
#include "rpc/address.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

namespace cooper::daemon {

namespace {

constexpr int kFirstPassed = 3;  // sd_listen_fds(3)
constexpr int kBacklog = 128;

int passed_sockets() {
    const char* pid = std::getenv("LISTEN_PID");
    const char* count = std::getenv("LISTEN_FDS");
    if (count == nullptr || (pid != nullptr && parse_int(pid) != ::getpid())) return 0;
    return static_cast<int>(std::clamp<std::int64_t>(parse_int(count).value_or(0), 0, 64));
}

bool is_unix_socket(int fd) {
    struct sockaddr_storage name{};
    socklen_t size = sizeof name;
    return ::getsockname(fd, reinterpret_cast<struct sockaddr*>(&name), &size) == 0 && name.ss_family == AF_UNIX;
}

// Whether somebody answers there: a file that a killed daemon left is replaced.
bool is_served(const struct sockaddr_un& name) {
    const sys::Fd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    return ::connect(probe.get(), reinterpret_cast<const struct sockaddr*>(&name), sizeof name) == 0;
}

Result<> make_parents(const std::string& path) {
    for (std::size_t end = path.find('/', 1); end != std::string::npos; end = path.find('/', end + 1)) {
        const std::string part = path.substr(0, end);
        if (::mkdir(part.c_str(), 0711) != 0 && errno != EEXIST) return fail_errno(errno, "create " + part);
    }
    return {};
}

Result<ListeningSocket> listen_unix(const std::string& path, const SocketOwnership& ownership) {
    struct sockaddr_un name{};
    name.sun_family = AF_UNIX;
    if (path.size() >= sizeof name.sun_path) return bad_input("the path of the socket is too long: {}", path);
    std::memcpy(name.sun_path, path.data(), path.size());
    TRY(make_parents(path));
    struct stat st{};
    if (::lstat(path.c_str(), &st) == 0) {
        if (!S_ISSOCK(st.st_mode)) return bad_input("cannot listen at {}: there is a file that is no socket", path);
        if (is_served(name)) {
            return fail(Code::already_exists, Blame::user, "cannot listen at {}: another daemon does", path)
                .with_hint("end it, or choose another --addr");
        }
        ::unlink(path.c_str());
    }
    sys::Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!socket.valid()) return fail_errno(errno, "make a socket");
    // Nobody may connect before the file has its owner and mode.
    if (::fchmod(socket.get(), 0600) != 0 ||
        ::bind(socket.get(), reinterpret_cast<const struct sockaddr*>(&name), sizeof name) != 0) {
        return fail_errno(errno, "listen at " + path);
    }
    const uid_t uid = ownership.uid.value_or(::geteuid());
    const gid_t gid = ownership.gid.value_or(::getegid());
    if (::chown(path.c_str(), uid, gid) != 0) return fail_errno(errno, fmt::format("give {} to {}:{}", path, uid, gid));
    if (::chmod(path.c_str(), 0660) != 0) return fail_errno(errno, "chmod " + path);
    if (::listen(socket.get(), kBacklog) != 0) return fail_errno(errno, "listen at " + path);
    return ListeningSocket{std::move(socket), "unix://" + path, path, true};
}

Result<ListeningSocket> listen_tcp(const std::string& host, std::uint16_t port) {
    struct addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
    struct addrinfo* found = nullptr;
    const std::string service = std::to_string(port);
    const int status = ::getaddrinfo(host.empty() ? nullptr : host.c_str(), service.c_str(), &hints, &found);
    if (status != 0) return bad_input("cannot listen at {}:{}: {}", host, port, ::gai_strerror(status));
    const std::unique_ptr<struct addrinfo, void (*)(struct addrinfo*)> owner(found, ::freeaddrinfo);
    int why = EADDRNOTAVAIL;
    for (const struct addrinfo* at = found; at != nullptr; at = at->ai_next) {
        sys::Fd socket(::socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, 0));
        const int yes = 1;
        if (!socket.valid() || ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0 ||
            ::bind(socket.get(), at->ai_addr, at->ai_addrlen) != 0 || ::listen(socket.get(), kBacklog) != 0) {
            why = errno;
            continue;
        }
        struct sockaddr_storage name{};
        socklen_t size = sizeof name;
        std::uint16_t chosen = port;
        if (::getsockname(socket.get(), reinterpret_cast<struct sockaddr*>(&name), &size) == 0) {
            chosen = ntohs(name.ss_family == AF_INET6 ? reinterpret_cast<struct sockaddr_in6*>(&name)->sin6_port
                                                      : reinterpret_cast<struct sockaddr_in*>(&name)->sin_port);
        }
        const bool bracket = host.find(':') != std::string::npos;
        return ListeningSocket{std::move(socket),
                               fmt::format(fmt::runtime(bracket ? "tcp://[{}]:{}" : "tcp://{}:{}"), host, chosen), "",
                               false};
    }
    return fail_errno(why, fmt::format("listen at {}:{}", host, port));
}

Result<ListeningSocket> adopt(int fd) {
    int listening = 0;
    socklen_t size = sizeof listening;
    if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0 || listening == 0)
        return bad_input("descriptor {} that was passed is no listening socket", fd);
    sys::Fd socket(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
    if (!socket.valid()) return fail_errno(errno, fmt::format("take descriptor {}", fd));
    ::close(fd);
    const bool is_unix = is_unix_socket(socket.get());
    return ListeningSocket{std::move(socket), fmt::format("fd://{}", fd), "", is_unix};
}

}  // namespace

Result<std::vector<ListeningSocket>> listen_at(const std::string& text, const SocketOwnership& ownership) {
    std::vector<ListeningSocket> sockets;
    if (text == "fd://" || text == "fd://*") {
        const int count = passed_sockets();
        if (count == 0) {
            return bad_input("no sockets were passed for {}", text)
                .with_hint("the service manager passes them when the socket unit starts the service");
        }
        for (int i = 0; i < count; ++i) {
            auto socket = TRY(adopt(kFirstPassed + i));
            sockets.push_back(std::move(socket));
        }
        return sockets;
    }
    const rpc::Address address = TRY(rpc::parse_address(text));
    switch (address.kind) {
        case rpc::Address::Kind::unix_socket: {
            auto socket = TRY(listen_unix(address.path, ownership));
            sockets.push_back(std::move(socket));
            break;
        }
        case rpc::Address::Kind::tcp: {
            auto socket = TRY(listen_tcp(address.host, address.port));
            sockets.push_back(std::move(socket));
            break;
        }
        case rpc::Address::Kind::fd: {
            auto socket = TRY(adopt(address.fd));
            sockets.push_back(std::move(socket));
            break;
        }
    }
    return sockets;
}

Result<ListeningSocket> listen_for_debug(const std::string& text) {
    auto sockets = TRY(listen_at(text.find("://") == std::string::npos ? "tcp://" + text : text, {}));
    return std::move(sockets.front());
}

Listener::Listener(ListeningSocket socket, std::function<void(sys::Fd)> take)
    : socket_(std::move(socket)), take_(std::move(take)), thread_([this](const Stop& stop) { run(stop); }) {}

Listener::~Listener() {
    thread_.request_stop();
    thread_.join();
    if (!socket_.remove_path.empty()) ::unlink(socket_.remove_path.c_str());
}

void Listener::run(const Stop& stop) noexcept {
    while (!stop.stop_requested()) {
        if (!sys::wait_readable(socket_.socket.get(), stop)) return;
        sys::Fd client(::accept4(socket_.socket.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (client.valid()) {
            const int yes = 1;
            if (!socket_.is_unix) ::setsockopt(client.get(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
            take_(std::move(client));
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            log::warn("a client cannot be accepted", {{"error", std::strerror(errno)}, {"at", socket_.address}});
            std::this_thread::sleep_for(std::chrono::milliseconds(100));
        }
    }
}

}  // namespace cooper::daemon
