#include "rpc/address.hpp"

#include "base/text.hpp"

#include <sys/un.h>

namespace cooper::rpc {

namespace {

constexpr std::size_t kMaxPath = sizeof(sockaddr_un{}.sun_path) - 1;
constexpr int kFirstPassed = 3;

Result<Address> parse_tcp(std::string_view rest, std::string_view text) {
    Address address{.kind = Address::Kind::tcp};
    const std::size_t colon = rest.rfind(':');
    if (colon == std::string_view::npos) {
        return bad_input("address {}: no port", quoted(text)).with_hint("write tcp://HOST:PORT");
    }
    std::string_view host = rest.substr(0, colon);
    if (host.starts_with('[') && host.ends_with(']')) {
        host = host.substr(1, host.size() - 2);
    } else if (host.find(':') != std::string_view::npos) {
        return bad_input("address {}: an IPv6 address needs brackets", quoted(text));
    }
    if (host.find_first_of("[]/ ") != std::string_view::npos) {
        return bad_input("address {}: {} is no host", quoted(text), quoted(host));
    }
    const auto port = parse_int(rest.substr(colon + 1));
    if (!port || *port < 0 || *port > UINT16_MAX) {
        return bad_input("address {}: {} is no port", quoted(text), quoted(rest.substr(colon + 1)));
    }
    address.host = host;
    address.port = static_cast<std::uint16_t>(*port);
    return address;
}

}  // namespace

Result<Address> parse_address(std::string_view text) {
    const std::size_t mark = text.find("://");
    if (mark == std::string_view::npos) {
        return bad_input("address {}: no scheme", quoted(text)).with_hint("write unix://PATH or tcp://HOST:PORT");
    }
    const std::string_view scheme = text.substr(0, mark);
    const std::string_view rest = text.substr(mark + 3);
    if (scheme == "unix") {
        if (!rest.starts_with('/')) return bad_input("address {}: the path is not absolute", quoted(text));
        if (rest.find('\0') != std::string_view::npos) return bad_input("address {}: not a path", quoted(text));
        if (rest.size() > kMaxPath) {
            return bad_input("address {}: a socket's path has at most {} bytes, this has {}", quoted(text), kMaxPath,
                             rest.size());
        }
        return Address{.kind = Address::Kind::unix_socket, .path = std::string(rest)};
    }
    if (scheme == "tcp") return parse_tcp(rest, text);
    if (scheme == "fd") {
        Address address{.kind = Address::Kind::fd};
        if (rest.empty()) return address;
        const auto number = parse_int(rest);
        if (!number || *number < kFirstPassed || *number > INT16_MAX) {
            return bad_input("address {}: {} is no descriptor that a service manager passes", quoted(text),
                             quoted(rest))
                .with_hint("they begin with 3");
        }
        address.fd = static_cast<int>(*number);
        return address;
    }
    return bad_input("address {}: unknown scheme {}", quoted(text), quoted(scheme))
        .with_hint("unix, tcp and fd are known");
}

std::string to_string(const Address& address) {
    switch (address.kind) {
        case Address::Kind::unix_socket:
            return "unix://" + address.path;
        case Address::Kind::tcp:
            return address.host.find(':') == std::string::npos
                       ? fmt::format("tcp://{}:{}", address.host, address.port)
                       : fmt::format("tcp://[{}]:{}", address.host, address.port);
        case Address::Kind::fd:
            return fmt::format("fd://{}", address.fd);
    }
    UNREACHABLE();
}

}  // namespace cooper::rpc
