// Url: the parts of an http(s) URL, as much as redirects, proxies and messages need.
#pragma once

#include "base/result.hpp"

#include <cstdint>
#include <string>
#include <string_view>

namespace cooper::http {

struct Url {
    std::string scheme;      // lower case
    std::string userinfo;    // without '@'; empty = none
    std::string host;        // lower case; IPv6 without brackets
    std::uint16_t port = 0;  // the scheme's default when not given
    std::string path;        // begins with '/'
    std::string query;       // without '?'

    // Only http and https; control bytes and spaces are refused. The fragment is dropped.
    static Result<Url> parse(std::string_view text);
    [[nodiscard]] std::string to_string() const;
    // "host" or "host:port" when the port is not the scheme's.
    [[nodiscard]] std::string authority() const;
    [[nodiscard]] bool same_origin(const Url& other) const;
};

// RFC 3986 section 5.2: `reference` as found in a Location header, relative to base.
[[nodiscard]] Result<Url> resolve(const Url& base, std::string_view reference);
// Bytes other than letters, digits and "-._~" as %XX.
[[nodiscard]] std::string percent_encode(std::string_view text);
[[nodiscard]] std::string percent_decode(std::string_view text);
// For messages: the URL without user information and query (which may carry signatures).
[[nodiscard]] std::string printable(std::string_view url);

}  // namespace cooper::http
