#include "http/proxy.hpp"

#include "base/text.hpp"
#include "http/url.hpp"

#include <arpa/inet.h>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <span>

namespace cooper::http {
namespace {

// An address as 16 bytes; IPv4 mapped into IPv6.
using Address = std::array<std::uint8_t, 16>;

struct Parsed {
    Address bytes{};
    bool v4 = false;
};

std::optional<Parsed> parse_address(const std::string& text) {
    Parsed parsed;
    in_addr v4{};
    if (inet_pton(AF_INET, text.c_str(), &v4) == 1) {
        parsed.v4 = true;
        parsed.bytes[10] = parsed.bytes[11] = 0xff;
        std::memcpy(parsed.bytes.data() + 12, &v4, 4);
        return parsed;
    }
    if (inet_pton(AF_INET6, text.c_str(), parsed.bytes.data()) == 1) return parsed;
    return std::nullopt;
}

bool in_range(const Address& address, const std::string& range) {
    const auto [base_text, bits_text] = cut(range, '/');
    const auto base = parse_address(std::string(base_text));
    const auto given = bits_text ? parse_int(*bits_text) : std::nullopt;
    if (!base || !given || *given < 0) return false;
    const std::int64_t bits = *given + (base->v4 ? 96 : 0);
    if (bits > 128) return false;
    for (std::int64_t i = 0; i < bits; ++i) {
        const auto byte = static_cast<std::size_t>(i / 8);
        const auto mask = static_cast<std::uint8_t>(0x80u >> (i % 8));
        if ((address[byte] & mask) != (base->bytes[byte] & mask)) return false;
    }
    return true;
}

bool is_loopback_host(const std::string& host) {
    if (host == "localhost" || host.ends_with(".localhost")) return true;
    const auto address = parse_address(host);
    if (!address) return false;
    return in_range(address->bytes, "127.0.0.0/8") || in_range(address->bytes, "::1/128");
}

bool rule_matches(std::string rule, const Url& url) {
    rule = to_lower(trim(rule));
    if (rule.empty()) return false;
    if (rule == "*") return true;
    const auto address = parse_address(url.host);
    if (rule.contains('/')) return address && in_range(address->bytes, rule);
    if (const auto same = parse_address(rule)) return address && address->bytes == same->bytes;
    if (const std::size_t colon = rule.rfind(':'); colon != std::string::npos) {
        const auto port = parse_int(std::string_view(rule).substr(colon + 1));
        if (!port || *port != url.port) return false;
        rule.resize(colon);
        if (rule.starts_with('[') && rule.ends_with(']')) rule = rule.substr(1, rule.size() - 2);
    }
    if (rule.starts_with("*.")) rule.erase(0, 1);
    // ".example.com" is for subdomains only, "example.com" for itself too.
    if (rule.starts_with('.')) return url.host.ends_with(rule);
    return url.host == rule || url.host.ends_with("." + rule);
}

std::string with_scheme(const std::string& proxy) {
    if (proxy.empty() || proxy.contains("://")) return proxy;
    return "http://" + proxy;
}

}  // namespace

ProxySettings ProxySettings::from_environment(const std::function<std::string(const std::string&)>& lookup) {
    const auto either = [&](const std::string& lower) {
        const std::string value = lookup(lower);
        return value.empty() ? lookup(to_upper(lower)) : value;
    };
    ProxySettings settings;
    settings.http_proxy = either("http_proxy");
    settings.https_proxy = either("https_proxy");
    settings.all_proxy = either("all_proxy");
    settings.no_proxy = either("no_proxy");
    return settings;
}

ProxySettings ProxySettings::from_process_environment() {
    return from_environment([](const std::string& name) {
        const char* value = std::getenv(name.c_str());
        return std::string(value ? value : "");
    });
}

std::string ProxySettings::proxy_for(std::string_view text) const {
    const auto url = Url::parse(text);
    if (!url || is_loopback_host(url->host)) return "";
    const std::string& own = url->scheme == "https" ? https_proxy : http_proxy;
    const std::string& proxy = own.empty() ? all_proxy : own;
    if (proxy.empty()) return "";
    for (const std::string& rule : split(no_proxy, ',')) {
        if (rule_matches(rule, *url)) return "";
    }
    return with_scheme(proxy);
}

}  // namespace cooper::http
