#include "run/netlink.hpp"

#include "base/text.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <cstring>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sys/socket.h>

namespace cooper::run {
namespace {

// A message under construction: a header, a fixed part, then attributes, some of them nested.
class Message {
public:
    template <class Fixed>
    Message(std::uint16_t type, std::uint16_t flags, const Fixed& fixed) {
        nlmsghdr header{};
        header.nlmsg_type = type;
        header.nlmsg_flags = static_cast<std::uint16_t>(flags | NLM_F_REQUEST);
        append(&header, sizeof header);
        append(&fixed, sizeof fixed);
    }
    void attribute(std::uint16_t type, const void* data, std::size_t size) {
        rtattr header{};
        header.rta_type = type;
        header.rta_len = static_cast<std::uint16_t>(RTA_LENGTH(size));
        append(&header, sizeof header);
        append(data, size);
    }
    void attribute(std::uint16_t type, const std::string& text) { attribute(type, text.c_str(), text.size() + 1); }
    void attribute(std::uint16_t type, std::uint32_t value) { attribute(type, &value, sizeof value); }
    // Attributes added until end(place) lie inside this one.
    std::size_t begin(std::uint16_t type) {
        const std::size_t place = bytes_.size();
        attribute(type, nullptr, 0);
        return place;
    }
    void end(std::size_t place) {
        const auto size = static_cast<std::uint16_t>(bytes_.size() - place);
        std::memcpy(bytes_.data() + place, &size, sizeof size);
    }
    template <class Fixed>
    void raw(const Fixed& fixed) {
        append(&fixed, sizeof fixed);
    }
    std::string& bytes() { return bytes_; }

private:
    void append(const void* data, std::size_t size) {
        if (size != 0) bytes_.append(static_cast<const char*>(data), size);
        bytes_.resize((bytes_.size() + 3) & ~std::size_t{3});
    }
    std::string bytes_;
};

std::uint32_t mask_of(int prefix) { return prefix == 0 ? 0 : ~0U << (32 - prefix); }

// Calls visit(type, data, size) for each attribute.
template <class Visit>
void each_attribute(std::string_view bytes, Visit visit) {
    while (bytes.size() >= sizeof(rtattr)) {
        rtattr header{};
        std::memcpy(&header, bytes.data(), sizeof header);
        if (header.rta_len < sizeof header || header.rta_len > bytes.size()) return;
        visit(header.rta_type, bytes.substr(sizeof header, header.rta_len - sizeof header));
        bytes.remove_prefix(std::min<std::size_t>(bytes.size(), RTA_ALIGN(header.rta_len)));
    }
}

std::uint32_t network_word(std::string_view bytes) {
    std::uint32_t value = 0;
    if (bytes.size() >= sizeof value) std::memcpy(&value, bytes.data(), sizeof value);
    return ntohl(value);
}

}  // namespace

bool Ipv4Subnet::overlaps(const Ipv4Subnet& other) const {
    const std::uint32_t mask = mask_of(std::min(prefix, other.prefix));
    return (address & mask) == (other.address & mask);
}

std::string ipv4_text(std::uint32_t address) {
    return fmt::format("{}.{}.{}.{}", address >> 24, address >> 16 & 255, address >> 8 & 255, address & 255);
}

std::string Ipv4Subnet::to_string() const { return fmt::format("{}/{}", ipv4_text(address), prefix); }

std::optional<Ipv4Subnet> Ipv4Subnet::parse(std::string_view text) {
    const auto [address, prefix] = cut(text, '/');
    in_addr raw{};
    const auto bits = parse_int(prefix.value_or(""));
    if (!bits || *bits < 8 || *bits > 30 || ::inet_pton(AF_INET, std::string(address).c_str(), &raw) != 1) {
        return std::nullopt;
    }
    Ipv4Subnet subnet{ntohl(raw.s_addr), static_cast<int>(*bits)};
    subnet.address &= mask_of(subnet.prefix);
    return subnet;
}

Result<Netlink> Netlink::open() {
    Netlink netlink;
    netlink.socket_ = sys::Fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
    if (!netlink.socket_.valid()) return fail_errno(errno, "netlink socket");
    return netlink;
}

Result<> Netlink::request(std::string& message, const std::string& what) {
    auto* header = reinterpret_cast<nlmsghdr*>(message.data());
    header->nlmsg_len = static_cast<std::uint32_t>(message.size());
    header->nlmsg_flags |= NLM_F_ACK;
    header->nlmsg_seq = ++sequence_;
    if (::send(socket_.get(), message.data(), message.size(), 0) < 0) return fail_errno(errno, what);
    std::array<char, 8192> reply;
    while (true) {
        const ssize_t n = ::recv(socket_.get(), reply.data(), reply.size(), 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_errno(errno, what);
        nlmsghdr answer{};
        nlmsgerr error{};
        if (static_cast<std::size_t>(n) < sizeof answer + sizeof error) continue;
        std::memcpy(&answer, reply.data(), sizeof answer);
        if (answer.nlmsg_type != NLMSG_ERROR || answer.nlmsg_seq != sequence_) continue;
        std::memcpy(&error, reply.data() + sizeof answer, sizeof error);
        if (error.error != 0) return fail_errno(-error.error, what);
        return {};
    }
}

Result<std::vector<std::string>> Netlink::dump(std::string& message) {
    auto* header = reinterpret_cast<nlmsghdr*>(message.data());
    header->nlmsg_len = static_cast<std::uint32_t>(message.size());
    header->nlmsg_seq = ++sequence_;
    if (::send(socket_.get(), message.data(), message.size(), 0) < 0) return fail_errno(errno, "netlink dump");
    std::vector<std::string> entries;
    std::vector<char> buffer(65536);
    while (true) {
        const ssize_t n = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_errno(errno, "netlink dump");
        std::string_view rest(buffer.data(), static_cast<std::size_t>(n));
        while (rest.size() >= sizeof(nlmsghdr)) {
            nlmsghdr entry{};
            std::memcpy(&entry, rest.data(), sizeof entry);
            if (entry.nlmsg_len < sizeof entry || entry.nlmsg_len > rest.size()) break;
            if (entry.nlmsg_type == NLMSG_DONE) return entries;
            if (entry.nlmsg_type == NLMSG_ERROR) return fail(Code::unknown, Blame::world, "netlink dump failed");
            entries.emplace_back(rest.substr(sizeof entry, entry.nlmsg_len - sizeof entry));
            rest.remove_prefix(std::min<std::size_t>(rest.size(), NLMSG_ALIGN(entry.nlmsg_len)));
        }
    }
}

std::optional<int> Netlink::find_link(const std::string& name) const {
    // The index of the namespace of the calling thread, which is the socket's for all our uses.
    const unsigned index = ::if_nametoindex(name.c_str());
    if (index == 0) return std::nullopt;
    return static_cast<int>(index);
}

Result<> Netlink::add_bridge(const std::string& name) {
    Message message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, ifinfomsg{});
    message.attribute(IFLA_IFNAME, name);
    const std::size_t info = message.begin(IFLA_LINKINFO);
    message.attribute(IFLA_INFO_KIND, std::string("bridge"));
    message.end(info);
    return request(message.bytes(), "make bridge " + name);
}

Result<> Netlink::add_veth(const std::string& name, const std::string& peer, int namespace_fd, int bridge_index,
                           int mtu) {
    ifinfomsg link{};
    link.ifi_flags = IFF_UP;
    link.ifi_change = IFF_UP;
    Message message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, link);
    message.attribute(IFLA_IFNAME, name);
    message.attribute(IFLA_MASTER, static_cast<std::uint32_t>(bridge_index));
    message.attribute(IFLA_MTU, static_cast<std::uint32_t>(mtu));
    const std::size_t info = message.begin(IFLA_LINKINFO);
    message.attribute(IFLA_INFO_KIND, std::string("veth"));
    const std::size_t data = message.begin(IFLA_INFO_DATA);
    const std::size_t other = message.begin(VETH_INFO_PEER);
    message.raw(ifinfomsg{});
    message.attribute(IFLA_IFNAME, peer);
    message.attribute(IFLA_MTU, static_cast<std::uint32_t>(mtu));
    message.attribute(IFLA_NET_NS_FD, static_cast<std::uint32_t>(namespace_fd));
    message.end(other);
    message.end(data);
    message.end(info);
    return request(message.bytes(), "make veth " + name);
}

Result<> Netlink::remove_link(const std::string& name) {
    Message message(RTM_DELLINK, 0, ifinfomsg{});
    message.attribute(IFLA_IFNAME, name);
    return request(message.bytes(), "remove link " + name);
}

Result<> Netlink::set_up(int index) {
    ifinfomsg link{};
    link.ifi_index = index;
    link.ifi_flags = IFF_UP;
    link.ifi_change = IFF_UP;
    Message message(RTM_NEWLINK, 0, link);
    return request(message.bytes(), "bring up link");
}

Result<> Netlink::add_address(int index, std::uint32_t address, int prefix) {
    ifaddrmsg fixed{};
    fixed.ifa_family = AF_INET;
    fixed.ifa_prefixlen = static_cast<std::uint8_t>(prefix);
    fixed.ifa_index = static_cast<std::uint32_t>(index);
    Message message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, fixed);
    message.attribute(IFA_LOCAL, htonl(address));
    message.attribute(IFA_ADDRESS, htonl(address));
    message.attribute(IFA_BROADCAST, htonl(address | ~mask_of(prefix)));
    return request(message.bytes(), "add address " + ipv4_text(address));
}

Result<> Netlink::add_default_route(std::uint32_t gateway) {
    rtmsg fixed{};
    fixed.rtm_family = AF_INET;
    fixed.rtm_table = RT_TABLE_MAIN;
    fixed.rtm_protocol = RTPROT_STATIC;
    fixed.rtm_scope = RT_SCOPE_UNIVERSE;
    fixed.rtm_type = RTN_UNICAST;
    Message message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, fixed);
    message.attribute(RTA_GATEWAY, htonl(gateway));
    return request(message.bytes(), "add default route");
}

Result<std::vector<Ipv4Subnet>> Netlink::routes() {
    rtmsg fixed{};
    fixed.rtm_family = AF_INET;
    Message message(RTM_GETROUTE, NLM_F_DUMP, fixed);
    std::vector<Ipv4Subnet> subnets;
    for (const std::string& entry : TRY(dump(message.bytes()))) {
        rtmsg route{};
        if (entry.size() < sizeof route) continue;
        std::memcpy(&route, entry.data(), sizeof route);
        if (route.rtm_dst_len == 0 || route.rtm_table != RT_TABLE_MAIN) continue;
        Ipv4Subnet subnet{0, route.rtm_dst_len};
        each_attribute(std::string_view(entry).substr(NLMSG_ALIGN(sizeof route)),
                       [&subnet](std::uint16_t type, std::string_view data) {
                           if (type == RTA_DST) subnet.address = network_word(data);
                       });
        subnets.push_back(subnet);
    }
    return subnets;
}

Result<std::vector<Ipv4Subnet>> Netlink::addresses(int index) {
    ifaddrmsg fixed{};
    fixed.ifa_family = AF_INET;
    Message message(RTM_GETADDR, NLM_F_DUMP, fixed);
    std::vector<Ipv4Subnet> addresses;
    for (const std::string& entry : TRY(dump(message.bytes()))) {
        ifaddrmsg address{};
        if (entry.size() < sizeof address) continue;
        std::memcpy(&address, entry.data(), sizeof address);
        if (static_cast<int>(address.ifa_index) != index) continue;
        each_attribute(std::string_view(entry).substr(NLMSG_ALIGN(sizeof address)),
                       [&](std::uint16_t type, std::string_view data) {
                           if (type == IFA_LOCAL) addresses.push_back({network_word(data), address.ifa_prefixlen});
                       });
    }
    return addresses;
}

}  // namespace cooper::run
