// The few rtnetlink requests a container network needs. https://www.rfc-editor.org/rfc/rfc3549,
// rtnetlink(7). A socket works in the network namespace it was made in, whoever uses it later.
#pragma once

#include "base/result.hpp"
#include "sys/fd.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace cooper::run {

struct Ipv4Subnet {
    std::uint32_t address = 0;  // host byte order
    int prefix = 0;
    [[nodiscard]] std::uint32_t size() const { return 1U << (32 - prefix); }
    [[nodiscard]] bool overlaps(const Ipv4Subnet& other) const;
    [[nodiscard]] std::string to_string() const;
    [[nodiscard]] static std::optional<Ipv4Subnet> parse(std::string_view text);
};
[[nodiscard]] std::string ipv4_text(std::uint32_t address);

class Netlink {
public:
    [[nodiscard]] static Result<Netlink> open();

    // nullopt when there is no such interface.
    [[nodiscard]] std::optional<int> find_link(const std::string& name) const;
    Result<> add_bridge(const std::string& name);
    // One end here, attached to a bridge and up; the other named peer in the namespace.
    Result<> add_veth(const std::string& name, const std::string& peer, int namespace_fd, int bridge_index, int mtu);
    Result<> remove_link(const std::string& name);
    Result<> set_up(int index);
    Result<> add_address(int index, std::uint32_t address, int prefix);
    Result<> add_default_route(std::uint32_t gateway);
    // Destinations that are reached without a gateway, and addresses of interfaces.
    [[nodiscard]] Result<std::vector<Ipv4Subnet>> routes();
    [[nodiscard]] Result<std::vector<Ipv4Subnet>> addresses(int index);

private:
    Result<> request(std::string& message, const std::string& what);
    Result<std::vector<std::string>> dump(std::string& message);
    sys::Fd socket_;
    std::uint32_t sequence_ = 0;
};

}  // namespace cooper::run
