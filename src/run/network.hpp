// Networks for containers. A Network hands out network namespaces; a NetworkLease is one of them, in
// use by one step at a time. Thread-safe.
#pragma once

#include "base/result.hpp"
#include "base/stop.hpp"
#include "run/process_spec.hpp"

#include <memory>
#include <string>
#include <vector>

namespace cooper::run {

class NetworkLease {
public:
    virtual ~NetworkLease() = default;  // gives the namespace back
    [[nodiscard]] virtual int namespace_fd() const = 0;
    // Name servers that only work in this network; empty = the host's are fine.
    [[nodiscard]] virtual std::vector<std::string> name_servers() const = 0;
    // The container's address as the host sees it; empty = the host cannot reach it by address.
    [[nodiscard]] virtual std::string address() const = 0;
    // Where the container finds the host; empty = nowhere.
    [[nodiscard]] virtual std::string host_address() const = 0;
    // The namespace may have been changed by its user: do not give it to anybody else.
    virtual void spoil() = 0;
};

class Network {
public:
    virtual ~Network() = default;
    // Null: the host's network.
    [[nodiscard]] virtual Result<std::unique_ptr<NetworkLease>> acquire(const Stop& stop) = 0;
    // Makes the first namespace in the background.
    virtual void warm_up() = 0;
    [[nodiscard]] virtual std::string describe() const = 0;
};

// Namespaces with nothing but a loopback.
[[nodiscard]] std::unique_ptr<Network> make_none_network();

struct BridgeOptions {
    std::string subnet;  // "10.88.64.0/20"; empty = the first free of a few
};
// A bridge of ours, one veth pair per namespace, addresses under file locks in
// /run/cooper/net (all programs of the host share the bridge), NAT to the world by nft or iptables. Needs root. Set up
// on first use.
[[nodiscard]] std::unique_ptr<Network> make_bridge_network(BridgeOptions options);

// slirp4netns or pasta, one process per namespace: works without root.
[[nodiscard]] std::unique_ptr<Network> make_user_network(std::string program);

// No namespace: whoever asks for one stays in the host's network.
[[nodiscard]] std::unique_ptr<Network> make_host_network();

// Says, when asked for a namespace, why there is none.
[[nodiscard]] std::unique_ptr<Network> make_missing_network();

}  // namespace cooper::run
