// What is done to JSON as plain text, so that no other header needs a JSON library: a bound on its
// size and depth before it is parsed, and Go's escaping after it is printed.
#pragma once

#include "base/result.hpp"

#include <cstddef>
#include <string>
#include <string_view>

namespace cooper::oci {

inline constexpr std::size_t kMaxJsonDepth = 64;

// Fails when the text is larger than max_bytes or nests deeper than kMaxJsonDepth. `what` names the
// document in the message.
[[nodiscard]] Result<> check_json_bounds(std::string_view json, std::size_t max_bytes, std::string_view what);
// Go's encoding/json escapes < > & U+2028 and U+2029 inside strings; outside of strings they cannot
// occur in JSON.
[[nodiscard]] std::string go_escape(std::string_view json);

}  // namespace cooper::oci
