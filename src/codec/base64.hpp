// Base64 as RFC 4648 section 4 has it: the standard alphabet with padding.
#pragma once

#include "base/result.hpp"

#include <string>
#include <string_view>

namespace cooper::codec {

[[nodiscard]] std::string base64_encode(std::string_view bytes);
// Line breaks are skipped, as Go's decoder does; anything else that does not belong is bad input.
[[nodiscard]] Result<std::string> base64_decode(std::string_view text);

}  // namespace cooper::codec
