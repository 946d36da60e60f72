// Address: where a daemon listens and clients connect, as BuildKit writes it.
//
//     unix:///run/cooper/cooperd.sock   tcp://0.0.0.0:1234   tcp://[::1]:1234   fd://   fd://4
#pragma once

#include "base/result.hpp"

#include <cstdint>
#include <string>
#include <string_view>

namespace cooper::rpc {

struct Address {
    enum class Kind : std::uint8_t { unix_socket, tcp, fd };
    Kind kind = Kind::unix_socket;
    std::string path;        // unix_socket: absolute, shorter than 108 bytes
    std::string host;        // tcp: a name, an IPv4 address, or an IPv6 address without brackets; empty = all
    std::uint16_t port = 0;  // tcp; 0 = any (listening only)
    int fd = 3;              // fd: of those that the service manager passes, from 3
    friend bool operator==(const Address&, const Address&) = default;
};

[[nodiscard]] Result<Address> parse_address(std::string_view text);
[[nodiscard]] std::string to_string(const Address& address);

}  // namespace cooper::rpc
