// Which proxy a URL is reached through, from HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY (lower
// case first), by the rules of Go's httpproxy: loopback is never proxied; NO_PROXY holds "*", hosts
// (with their subdomains), ".suffix", host:port, addresses and CIDR ranges.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace cooper::http {

struct ProxySettings {
    std::string http_proxy;
    std::string https_proxy;
    std::string all_proxy;
    std::string no_proxy;

    // lookup(name) returns the value of a variable or "".
    static ProxySettings from_environment(const std::function<std::string(const std::string&)>& lookup);
    static ProxySettings from_process_environment();
    // Empty = go there directly.
    [[nodiscard]] std::string proxy_for(std::string_view url) const;
};

}  // namespace cooper::http
