// Go's path.Match (which on Linux is also filepath.Match), exactly: '*' and '?' do not match '/', character classes
// with '^' for negation, backslash escapes, matching by UTF-8 code point. And the lexical path functions
// path.Clean, path.Join, path.Base and path.Dir that BuildKit's rules are written in. Pure; any thread.
#pragma once

#include "base/result.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace cooper::codec {

// A malformed pattern is bad input ("syntax error in pattern") – also when the mismatch was already certain.
[[nodiscard]] Result<bool> path_match(std::string_view pattern, std::string_view name);

// Lexical: "a//b/../c/" is "a/c"; "" is "."; a rooted path never rises above "/".
[[nodiscard]] std::string clean_path(std::string_view path);
// clean_path("/" + path): what every tree path is.
[[nodiscard]] std::string rooted_path(std::string_view path);
[[nodiscard]] std::string join_path(std::string_view a, std::string_view b);
[[nodiscard]] std::string_view base_name(std::string_view path);  // "/" for the root, "." for ""
[[nodiscard]] std::string_view dir_name(std::string_view clean);  // of a clean path; "." or "/" at the top

// Whether an unescaped '*', '?' or '[' occurs.
[[nodiscard]] bool has_wildcard(std::string_view name);
// fsutil's split of a source path: the components before the first one with a wildcard, and the rest.
struct WildcardSplit {
    std::string fixed;    // "/" or "/a/b" (or "" for a relative pattern that begins with a wildcard)
    std::string pattern;  // empty when there is no wildcard
};
[[nodiscard]] WildcardSplit split_wildcard(std::string_view path);

}  // namespace cooper::codec
