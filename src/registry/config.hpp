// How registries are reached: per host, as configured. A value.
#pragma once

#include "http/message.hpp"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace cooper::registry {

// automatic: http for loopback hosts (as docker), https for all else.
enum class Scheme : std::uint8_t { automatic, http, https };

struct HostConfig {
    Scheme scheme = Scheme::automatic;
    http::TlsOptions tls;
    // Asked first, in this order, for pulls of this host: "host[:port][/path-prefix]". Each is reached
    // as its own entry in RegistryConfig says.
    std::vector<std::string> mirrors;
};

struct RegistryConfig {
    std::map<std::string, HostConfig> hosts;  // by the domain as in a Reference ("docker.io")

    [[nodiscard]] const HostConfig& host(const std::string& domain) const;
};

// "docker.io" is served by registry-1.docker.io; all others by themselves.
[[nodiscard]] std::string endpoint_host(const std::string& domain);
[[nodiscard]] bool is_loopback(const std::string& host_port);

}  // namespace cooper::registry
