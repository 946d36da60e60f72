#include "base/text.hpp"
#include "run/namespace_pool.hpp"
#include "run/netlink.hpp"
#include "run/network.hpp"
#include "sys/file_lock.hpp"
#include "sys/namespaces.hpp"
#include "sys/process.hpp"

#include <array>
#include <cerrno>
#include <fcntl.h>
#include <mutex>
#include <random>
#include <sys/stat.h>

namespace cooper::run {
namespace {

constexpr const char* kBridge = "cooper0";
constexpr const char* kLockDir = "/run/cooper/net";  // of the host, not of a state directory: so is the bridge
constexpr std::array kSubnets{"10.88.64.0/20", "10.197.64.0/20", "172.29.64.0/20", "192.168.208.0/20"};

std::string read_text(const std::string& path) {
    const sys::Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid()) return {};
    return sys::read_to_end(fd.get(), 1 << 20).value_or("");
}

// That of the interface with the default route, so that packets fit the way out.
int uplink_mtu() {
    for (const std::string& line : split(read_text("/proc/net/route"), '\n')) {
        const std::vector<std::string> words = split(line, '\t');
        if (words.size() < 2 || words[1] != "00000000") continue;
        const auto mtu = parse_int(trim(read_text(fmt::format("/sys/class/net/{}/mtu", words[0]))));
        if (mtu && *mtu >= 576 && *mtu <= 65535) return static_cast<int>(*mtu);
    }
    return 1500;
}

Result<> run_tool(const std::string& program, std::vector<std::string> args, std::string_view input, const Stop& stop) {
    sys::SpawnSpec spec;
    spec.program = program;
    spec.args = std::move(args);
    const sys::Captured result = TRY(sys::run_captured(spec, input, 65536, stop));
    if (result.status.code == 0) return {};
    return fail(Code::failed_precondition, Blame::world, "{} failed: {}", join(spec.args, " "), trim(result.err));
}

// Docker and firewalls make forwarding forbidden by default; their tables then need a word from us.
void allow_forwarding(const std::string& iptables, const Stop& stop) {
    sys::SpawnSpec list;
    list.program = iptables;
    list.args = {"iptables", "-w", "-S", "FORWARD"};
    const auto rules = sys::run_captured(list, "", 1 << 20, stop);
    if (!rules || rules->out.find("-P FORWARD DROP") == std::string::npos) return;
    for (const char* direction : {"-i", "-o"}) {
        if (rules->out.find(fmt::format("{} {} -j ACCEPT", direction, kBridge)) != std::string::npos) continue;
        static_cast<void>(
            run_tool(iptables, {"iptables", "-w", "-I", "FORWARD", direction, kBridge, "-j", "ACCEPT"}, "", stop));
    }
}

Result<> set_up_nat(const Ipv4Subnet& subnet, const Stop& stop) {
    const auto iptables = sys::find_program("iptables");
    if (const auto nft = sys::find_program("nft")) {
        // One transaction, the same however often it is made.
        const std::string rules = fmt::format(
            "table ip cooper {{\n chain postrouting {{\n type nat hook postrouting priority 100;\n }}\n}}\n"
            "flush chain ip cooper postrouting\n"
            "add rule ip cooper postrouting ip saddr {} oifname != \"{}\" masquerade\n",
            subnet.to_string(), kBridge);
        TRY(run_tool(*nft, {"nft", "-f", "-"}, rules, stop));
    } else if (iptables) {
        const std::vector<std::string> rule{"POSTROUTING", "-s", subnet.to_string(), "!", "-o",
                                            kBridge,       "-j", "MASQUERADE"};
        std::vector<std::string> check{"iptables", "-w", "-t", "nat", "-C"};
        std::vector<std::string> append{"iptables", "-w", "-t", "nat", "-A"};
        check.insert(check.end(), rule.begin(), rule.end());
        append.insert(append.end(), rule.begin(), rule.end());
        if (!run_tool(*iptables, check, "", stop)) TRY(run_tool(*iptables, append, "", stop));
    } else {
        return fail(Code::failed_precondition, Blame::world, "neither nft nor iptables is installed")
            .with_hint("apt-get install nftables, or use --network=host");
    }
    if (iptables) allow_forwarding(*iptables, stop);
    const sys::Fd forward(::open("/proc/sys/net/ipv4/ip_forward", O_WRONLY | O_CLOEXEC));
    if (read_text("/proc/sys/net/ipv4/ip_forward") != "1\n") {
        if (!forward.valid()) return fail_errno(errno, "switch on IP forwarding");
        TRY_CONTEXT(sys::write_all(forward.get(), "1"), "switch on IP forwarding");
    }
    return {};
}

Result<Ipv4Subnet> choose_subnet(Netlink& netlink, const std::string& wanted) {
    if (!wanted.empty()) {
        const auto subnet = Ipv4Subnet::parse(wanted);
        if (!subnet) return bad_input("network subnet {} is not like 10.88.64.0/20", quoted(wanted));
        return *subnet;
    }
    const std::vector<Ipv4Subnet> taken = TRY(netlink.routes());
    for (const char* text : kSubnets) {
        const Ipv4Subnet subnet = *Ipv4Subnet::parse(text);
        bool is_free = true;
        for (const Ipv4Subnet& other : taken) is_free = is_free && !subnet.overlaps(other);
        if (is_free) return subnet;
    }
    return fail(Code::failed_precondition, Blame::world, "all subnets we know are in use on this host")
        .with_hint("name a free one in the configuration: [network] subnet = \"10.1.0.0/20\"");
}

// One namespace on the bridge. The kernel removes the veth pair with the namespace.
struct BridgeNamespace {
    sys::Fd fd;
    sys::FileLock lease;
    std::uint32_t address = 0;
    std::uint32_t gateway = 0;
};

class Bridge {
public:
    explicit Bridge(std::string subnet) : wanted_(std::move(subnet)) {}

    Result<BridgeNamespace> make(const Stop& stop) {
        TRY(set_up(stop));
        BridgeNamespace made;
        made.fd = TRY(sys::make_network_namespace());
        TRY(lease_address(made));
        made.gateway = subnet_.address + 1;
        Netlink netlink = TRY(Netlink::open());
        const std::string name = fmt::format("vcoop{:x}", made.address & 0xfffff);
        // A namespace that died a moment ago may not have taken its veth along yet.
        if (netlink.find_link(name)) static_cast<void>(netlink.remove_link(name));
        TRY(netlink.add_veth(name, "eth0", made.fd.get(), index_, mtu_));
        TRY(sys::in_network_namespace(made.fd.get(), [this, &made] { return configure_inside(made.address); }));
        return made;
    }

private:
    Result<> set_up(const Stop& stop);
    Result<> lease_address(BridgeNamespace& made) const;
    Result<> configure_inside(std::uint32_t address) const;

    const std::string wanted_;
    Guarded<bool> ready_{false};
    Ipv4Subnet subnet_;
    int index_ = 0;
    int mtu_ = 1500;
};

Result<> Bridge::set_up(const Stop& stop) {
    auto ready = ready_.lock();
    if (*ready) return {};
    for (const char* dir : {"/run/cooper", kLockDir}) {
        if (::mkdir(dir, 0700) != 0 && errno != EEXIST) return fail_errno(errno, fmt::format("make {}", dir));
    }
    const sys::FileLock lock =
        TRY(sys::FileLock::acquire(fmt::format("{}/lock", kLockDir), sys::LockMode::exclusive, stop));
    Netlink netlink = TRY(Netlink::open());
    mtu_ = uplink_mtu();
    auto index = netlink.find_link(kBridge);
    if (!index) {
        TRY(netlink.add_bridge(kBridge));
        index = netlink.find_link(kBridge);
        if (!index) return fail(Code::internal, Blame::world, "the new bridge {} is gone", kBridge);
    }
    const std::vector<Ipv4Subnet> existing = TRY(netlink.addresses(*index));
    if (existing.empty()) {
        subnet_ = TRY(choose_subnet(netlink, wanted_));
        TRY(netlink.add_address(*index, subnet_.address + 1, subnet_.prefix));
    } else {
        subnet_ = {existing.front().address - 1, existing.front().prefix};
    }
    TRY(netlink.set_up(*index));
    TRY(set_up_nat(subnet_, stop));
    index_ = *index;
    *ready = true;
    return {};
}

Result<> Bridge::lease_address(BridgeNamespace& made) const {
    const std::uint32_t usable = subnet_.size() - 3;  // not the network, the bridge, the broadcast address
    const std::uint32_t start = std::random_device{}() % usable;
    for (std::uint32_t i = 0; i < usable; i++) {
        const std::uint32_t address = subnet_.address + 2 + (start + i) % usable;
        auto lock = TRY(
            sys::FileLock::try_acquire(fmt::format("{}/{}", kLockDir, ipv4_text(address)), sys::LockMode::exclusive));
        if (!lock) continue;
        made.lease = std::move(*lock);
        made.address = address;
        return {};
    }
    return fail(Code::resource_exhausted, Blame::world, "no free address in {}", subnet_.to_string());
}

Result<> Bridge::configure_inside(std::uint32_t address) const {
    Netlink netlink = TRY(Netlink::open());
    const auto index = netlink.find_link("eth0");
    if (!index) return fail(Code::internal, Blame::world, "the veth pair has no end in the namespace");
    TRY(netlink.add_address(*index, address, subnet_.prefix));
    TRY(netlink.set_up(*index));
    return netlink.add_default_route(subnet_.address + 1);
}

using Pool = NamespacePool<BridgeNamespace>;

class BridgeLease final : public NetworkLease {
public:
    BridgeLease(Pool& pool, BridgeNamespace used) : pool_(pool), used_(std::move(used)) {}
    ~BridgeLease() override {
        if (!spoilt_) pool_.give_back(std::move(used_));
    }
    int namespace_fd() const override { return used_.fd.get(); }
    std::vector<std::string> name_servers() const override { return {}; }
    std::string address() const override { return ipv4_text(used_.address); }
    std::string host_address() const override { return ipv4_text(used_.gateway); }
    void spoil() override { spoilt_ = true; }

private:
    Pool& pool_;
    BridgeNamespace used_;
    bool spoilt_ = false;
};

class BridgeNetwork final : public Network {
public:
    explicit BridgeNetwork(BridgeOptions options)
        : bridge_(std::move(options.subnet)), pool_([this](const Stop& stop) { return bridge_.make(stop); }) {}
    Result<std::unique_ptr<NetworkLease>> acquire(const Stop& stop) override {
        BridgeNamespace taken = TRY_CONTEXT(pool_.take(stop), "set up the network of a step");
        return std::unique_ptr<NetworkLease>(std::make_unique<BridgeLease>(pool_, std::move(taken)));
    }
    void warm_up() override { pool_.warm_up(); }
    std::string describe() const override { return "bridge"; }

private:
    Bridge bridge_;
    Pool pool_;  // its thread uses the bridge: destroyed first
};

}  // namespace

std::unique_ptr<Network> make_bridge_network(BridgeOptions options) {
    return std::make_unique<BridgeNetwork>(std::move(options));
}

}  // namespace cooper::run
