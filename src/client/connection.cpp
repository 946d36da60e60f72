#include "client/connection.hpp"

#include "base/text.hpp"
#include "rpc/address.hpp"
#include "rpc/channel.hpp"
#include "rpc/status.hpp"

#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <fmt/format.h>
#include <grpcpp/channel.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <map>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace cooper::client {

namespace {

constexpr std::size_t kMaxPem = 1UL << 20U;

Result<> wait_connected(int fd, std::chrono::milliseconds timeout, const Stop& stop) {
    const auto end = std::chrono::steady_clock::now() + timeout;
    while (std::chrono::steady_clock::now() < end) {
        TRY(check_stop(stop));
        pollfd entry{.fd = fd, .events = POLLOUT, .revents = 0};
        if (::poll(&entry, 1, 100) <= 0) continue;
        int error = 0;
        socklen_t size = sizeof error;
        ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error != 0) return fail_errno(error, "connect");
        return {};
    }
    return fail(Code::unavailable, Blame::world, "connect: no answer within {} s", timeout.count() / 1000);
}

Result<sys::Fd> connect_unix(const std::string& path) {
    sys::Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!fd.valid()) return fail_errno(errno, "socket");
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        const Error error = fail_errno(errno, "connect");
        return errno == EACCES ? error.with_hint("the socket belongs to another user or group") : error;
    }
    return fd;
}

Result<sys::Fd> connect_tcp(const rpc::Address& address, std::chrono::milliseconds timeout, const Stop& stop) {
    addrinfo wanted{};
    wanted.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    const std::string host = address.host.empty() ? "localhost" : address.host;
    const int failed = ::getaddrinfo(host.c_str(), std::to_string(address.port).c_str(), &wanted, &found);
    if (failed != 0) return fail(Code::unavailable, Blame::world, "{}: {}", host, ::gai_strerror(failed));
    const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> all(found, &::freeaddrinfo);
    Error last = fail(Code::unavailable, Blame::world, "{} has no address", host);
    for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
        sys::Fd fd(::socket(one->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        if (!fd.valid()) continue;
        Result<> connected;
        if (::connect(fd.get(), one->ai_addr, one->ai_addrlen) != 0) {
            connected =
                errno == EINPROGRESS ? wait_connected(fd.get(), timeout, stop) : Result<>(fail_errno(errno, "connect"));
        }
        if (!connected) {
            if (connected.error().is_cancelled()) return connected.error();
            last = connected.error();
            continue;
        }
        ::fcntl(fd.get(), F_SETFL, ::fcntl(fd.get(), F_GETFL) & ~O_NONBLOCK);
        const int on = 1;
        ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        ::setsockopt(fd.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
        return fd;
    }
    return last;
}

Result<std::string> read_pem(const std::string& path) {
    if (path.empty()) return std::string();
    const sys::Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid()) return fail_errno(errno, path);
    return TRY_CONTEXT(sys::read_to_end(fd.get(), kMaxPem), "{}", path);
}

Result<std::shared_ptr<grpc::Channel>> open_tls(const rpc::Address& address, const TlsFiles& tls) {
    if (tls.certificate.empty() != tls.key.empty()) {
        return bad_input("a certificate needs its key, and a key its certificate");
    }
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = TRY(read_pem(tls.ca));
    options.pem_cert_chain = TRY(read_pem(tls.certificate));
    options.pem_private_key = TRY(read_pem(tls.key));
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(rpc::kMaxMessageBytes);
    arguments.SetMaxSendMessageSize(rpc::kMaxMessageBytes);
    arguments.SetInt(GRPC_ARG_MAX_METADATA_SIZE, rpc::kMaxMetadataBytes);
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    if (!tls.server_name.empty()) arguments.SetSslTargetNameOverride(tls.server_name);
    const std::string host = address.host.contains(':') ? "[" + address.host + "]" : address.host;
    return grpc::CreateCustomChannel(fmt::format("{}:{}", host, address.port), grpc::SslCredentials(options),
                                     arguments);
}

struct Url {
    std::string scheme;
    std::string host;  // with user and port
    std::string path;  // with its slash
    std::map<std::string, std::string> query;
};
Url parse_url(const std::string& text) {
    Url url;
    const std::size_t mark = text.find("://");
    url.scheme = text.substr(0, mark);
    std::string rest = mark == std::string::npos ? "" : text.substr(mark + 3);
    const auto [before, query] = cut(rest, '?');
    for (const auto& pair : query ? split(*query, '&') : std::vector<std::string>()) {
        const auto [key, value] = cut(pair, '=');
        url.query[std::string(key)] = value.value_or("");
    }
    rest = before;
    const std::size_t slash = rest.find('/');
    url.host = rest.substr(0, slash);
    if (slash != std::string::npos) url.path = rest.substr(slash);
    return url;
}

// Words that another program reads must not look like its options.
Result<std::string> operand(const std::string& word, const std::string& address) {
    if (word.empty() || word.starts_with('-')) return bad_input("address {}: no name", quoted(address));
    return word;
}

}  // namespace

std::string default_address() {
    if (const char* host = std::getenv("BUILDKIT_HOST"); host != nullptr && *host != '\0') return host;
    std::vector<std::string> paths;
    if (::geteuid() != 0) {
        const char* runtime = std::getenv("XDG_RUNTIME_DIR");
        const std::string base = runtime != nullptr && *runtime != '\0' ? runtime : "/run";
        paths = {base + "/cooper/cooperd.sock", base + "/buildkit/buildkitd.sock"};
    } else {
        paths = {"/run/cooper/cooperd.sock", "/run/buildkit/buildkitd.sock"};
    }
    for (const auto& path : paths) {
        if (::access(path.c_str(), F_OK) == 0) return "unix://" + path;
    }
    return "unix://" + paths.front();
}

Result<std::vector<std::string>> proxy_command(const std::string& address) {
    const Url url = parse_url(address);
    std::vector<std::string> command;
    if (url.scheme == "docker-container" || url.scheme == "podman-container" || url.scheme == "nerdctl-container") {
        const std::string program = url.scheme.substr(0, url.scheme.find('-'));
        command = {program};
        if (const auto context = url.query.find("context"); context != url.query.end() && program == "docker") {
            command.push_back("--context=" + context->second);
        }
        for (const char* word : {"exec", "-i"}) command.emplace_back(word);
        command.push_back(TRY(operand(url.host, address)));
        for (const char* word : {"buildctl", "dial-stdio"}) command.emplace_back(word);
    } else if (url.scheme == "kube-pod") {
        command = {"kubectl"};
        for (const char* name : {"context", "namespace"}) {
            if (const auto value = url.query.find(name); value != url.query.end()) {
                command.push_back(fmt::format("--{}={}", name, value->second));
            }
        }
        command.emplace_back("exec");
        if (const auto container = url.query.find("container"); container != url.query.end()) {
            command.push_back("--container=" + container->second);
        }
        command.emplace_back("-i");
        command.push_back(TRY(operand(url.host, address)));
        for (const char* word : {"--", "buildctl", "dial-stdio"}) command.emplace_back(word);
    } else if (url.scheme == "ssh") {
        command = {"ssh", "-o", "ConnectTimeout=30", "-T"};
        std::string host = TRY(operand(url.host, address));
        const std::size_t colon = host.rfind(':');
        if (colon != std::string::npos && host.find(']', colon) == std::string::npos) {
            for (const auto& word : {std::string("-p"), host.substr(colon + 1)}) command.push_back(word);
            host.resize(colon);
        }
        command.push_back(TRY(operand(host, address)));
        for (const char* word : {"--", "buildctl"}) command.emplace_back(word);
        if (!url.path.empty() && url.path != "/") command.push_back("--addr=unix://" + url.path);
        command.emplace_back("dial-stdio");
    }
    return command;
}

Result<sys::Fd> connect_socket(const std::string& text, std::chrono::milliseconds timeout, const Stop& stop) {
    const rpc::Address address = TRY(rpc::parse_address(text));
    switch (address.kind) {
        case rpc::Address::Kind::unix_socket:
            return TRY_CONTEXT(connect_unix(address.path), "daemon at {}", text);
        case rpc::Address::Kind::tcp:
            return TRY_CONTEXT(connect_tcp(address, timeout, stop), "daemon at {}", text);
        case rpc::Address::Kind::fd:
            break;
    }
    return bad_input("address {}: a daemon listens there, nobody can connect to it", quoted(text));
}

Result<std::unique_ptr<Connection>> Connection::open(const ConnectOptions& options, const Stop& stop) {
    rpc::start_library();
    auto connection = std::unique_ptr<Connection>(new Connection);
    connection->address_ = options.address;
    if (const auto command = TRY(proxy_command(options.address)); !command.empty()) {
        std::array<int, 2> ends{};
        if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) return fail_errno(errno, "socket");
        sys::Fd ours(ends[0]);
        const sys::Fd theirs(ends[1]);
        sys::SpawnSpec spec;
        spec.program = TRY_CONTEXT(sys::find_program(command[0]), "daemon at {}", options.address);
        spec.args = command;
        spec.fds = {{0, theirs.get()}, {1, theirs.get()}, {2, STDERR_FILENO}};
        connection->proxy_ = TRY(sys::Child::spawn(spec));
        connection->channel_ = rpc::channel_over(std::move(ours));
        return connection;
    }
    const rpc::Address address = TRY(rpc::parse_address(options.address));
    if (address.kind == rpc::Address::Kind::tcp && !options.tls.empty()) {
        connection->channel_ = TRY(open_tls(address, options.tls));
        return connection;
    }
    connection->channel_ = rpc::channel_over(TRY(connect_socket(options.address, options.timeout, stop)));
    return connection;
}

Error Connection::to_error(const grpc::Status& status) const {
    const Error error = rpc::from_status(status);
    if (error.code() != Code::unavailable) return error;
    return error.with_context("daemon at " + address_);
}

}  // namespace cooper::client
