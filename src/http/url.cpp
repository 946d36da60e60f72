#include "http/url.hpp"

#include "base/text.hpp"

#include <algorithm>

namespace cooper::http {
namespace {

constexpr std::size_t kMaxUrlBytes = 16 * 1024;

std::uint16_t default_port(std::string_view scheme) { return scheme == "https" ? 443 : 80; }

bool is_unreserved(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
           c == '_' || c == '~';
}

// RFC 3986 section 5.2.4.
std::string remove_dot_segments(std::string_view path) {
    std::vector<std::string> kept;
    const std::vector<std::string> parts = split(path, '/');
    for (std::size_t i = 0; i < parts.size(); ++i) {
        const bool last = i + 1 == parts.size();
        if (parts[i] == "." || parts[i] == "..") {
            if (parts[i] == ".." && kept.size() > 1) kept.pop_back();
            if (last) kept.emplace_back();
            continue;
        }
        kept.push_back(parts[i]);
    }
    std::string joined = join(kept, "/");
    if (!joined.starts_with('/')) joined.insert(0, "/");
    return joined;
}

Result<> parse_authority(std::string_view authority, std::string_view text, Url& url) {
    if (const std::size_t at = authority.rfind('@'); at != std::string_view::npos) {
        url.userinfo = authority.substr(0, at);
        authority = authority.substr(at + 1);
    }
    std::string_view port;
    if (authority.starts_with('[')) {
        const std::size_t close = authority.find(']');
        if (close == std::string_view::npos) return bad_input("URL {}: the address lacks its ']'", quoted(text));
        url.host = to_lower(authority.substr(1, close - 1));
        const std::string_view rest = authority.substr(close + 1);
        if (!rest.empty() && !rest.starts_with(':')) return bad_input("URL {}: bad host", quoted(text));
        if (!rest.empty()) port = rest.substr(1);
    } else {
        const auto [host, after] = cut(authority, ':');
        url.host = to_lower(host);
        if (after) port = *after;
    }
    if (url.host.empty()) return bad_input("URL {} has no host", quoted(printable(text)));
    url.port = default_port(url.scheme);
    if (port.empty()) return {};
    const auto number = parse_int(port);
    if (!number || *number < 1 || *number > 65535) return bad_input("URL {}: bad port", quoted(printable(text)));
    url.port = static_cast<std::uint16_t>(*number);
    return {};
}

}  // namespace

Result<Url> Url::parse(std::string_view text) {
    if (text.size() > kMaxUrlBytes) return bad_input("a URL is longer than {} bytes", kMaxUrlBytes);
    if (std::ranges::any_of(text, [](char c) { return static_cast<unsigned char>(c) <= ' ' || c == '\x7f'; })) {
        return bad_input("URL {} contains a space or a control byte", quoted(printable(text)));
    }
    const std::size_t colon = text.find("://");
    if (colon == std::string_view::npos) return bad_input("{} is not an http or https URL", quoted(printable(text)));
    Url url;
    url.scheme = to_lower(text.substr(0, colon));
    if (url.scheme != "http" && url.scheme != "https") {
        return bad_input("{} is not an http or https URL", quoted(printable(text)));
    }
    std::string_view rest = text.substr(colon + 3);
    rest = rest.substr(0, rest.find('#'));
    const std::size_t end = rest.find_first_of("/?");
    TRY(parse_authority(rest.substr(0, end), text, url));
    if (end != std::string_view::npos) {
        const auto [path, query] = cut(rest.substr(end), '?');
        url.path = path;
        if (query) url.query = *query;
    }
    if (url.path.empty()) url.path = "/";
    return url;
}

std::string Url::authority() const {
    std::string text = host.contains(':') ? "[" + host + "]" : host;
    if (port != default_port(scheme)) text += fmt::format(":{}", port);
    return text;
}

std::string Url::to_string() const {
    std::string text = scheme + "://";
    if (!userinfo.empty()) text += userinfo + "@";
    text += authority() + path;
    if (!query.empty()) text += "?" + query;
    return text;
}

bool Url::same_origin(const Url& other) const {
    return scheme == other.scheme && host == other.host && port == other.port;
}

Result<Url> resolve(const Url& base, std::string_view reference) {
    reference = reference.substr(0, reference.find('#'));
    const std::size_t colon = reference.find(':');
    if (colon != std::string_view::npos && colon < reference.find_first_of("/?")) return Url::parse(reference);
    if (reference.starts_with("//")) return Url::parse(base.scheme + ":" + std::string(reference));
    Url url = base;
    url.userinfo.clear();
    const auto [path, query] = cut(reference, '?');
    url.query = query.value_or(path.empty() ? std::string_view(base.query) : std::string_view());
    if (path.starts_with('/')) {
        url.path = remove_dot_segments(path);
    } else if (!path.empty()) {
        const std::string folder = base.path.substr(0, base.path.rfind('/') + 1);
        url.path = remove_dot_segments(folder + std::string(path));
    }
    return Url::parse(url.to_string());
}

std::string percent_encode(std::string_view text) {
    std::string out;
    for (const char c : text) {
        if (is_unreserved(c)) {
            out += c;
        } else {
            out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
        }
    }
    return out;
}

std::string percent_decode(std::string_view text) {
    const auto digit = [](char c) {
        if (c >= '0' && c <= '9') return c - '0';
        if (c >= 'a' && c <= 'f') return c - 'a' + 10;
        if (c >= 'A' && c <= 'F') return c - 'A' + 10;
        return -1;
    };
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '%' && i + 2 < text.size() && digit(text[i + 1]) >= 0 && digit(text[i + 2]) >= 0) {
            out += static_cast<char>(digit(text[i + 1]) * 16 + digit(text[i + 2]));
            i += 2;
        } else {
            out += text[i];
        }
    }
    return out;
}

std::string printable(std::string_view url) {
    std::string text(url.substr(0, url.find_first_of("?#")));
    const std::size_t scheme = text.find("://");
    const std::size_t start = scheme == std::string::npos ? 0 : scheme + 3;
    const std::size_t slash = text.find('/', start);
    const std::size_t at = text.rfind('@', slash == std::string::npos ? text.size() : slash);
    if (at != std::string::npos && at >= start) text.erase(start, at + 1 - start);
    return text;
}

}  // namespace cooper::http
