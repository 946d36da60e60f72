#include "registry/config.hpp"

#include "base/text.hpp"

namespace cooper::registry {

const HostConfig& RegistryConfig::host(const std::string& domain) const {
    static const HostConfig kDefault;
    if (const auto found = hosts.find(domain); found != hosts.end()) return found->second;
    return kDefault;
}

std::string endpoint_host(const std::string& domain) {
    return domain == "docker.io" || domain == "index.docker.io" ? "registry-1.docker.io" : domain;
}

bool is_loopback(const std::string& host_port) {
    std::string host = host_port;
    if (host.starts_with('[')) {
        host = host.substr(1, host.find(']') - 1);
    } else {
        host = host.substr(0, host.find(':'));
    }
    if (host == "localhost" || host.ends_with(".localhost") || host == "::1") return true;
    // 127.0.0.0/8, and nothing that merely starts alike ("127.evil.example").
    const std::vector<std::string> parts = split(host, '.');
    if (parts.size() != 4 || parts[0] != "127") return false;
    for (const std::string& part : parts) {
        const auto number = parse_int(part);
        if (!number || *number < 0 || *number > 255) return false;
    }
    return true;
}

}  // namespace cooper::registry
