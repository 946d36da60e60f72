// Base64 (RFC 4648): the standard alphabet with padding, and the URL alphabet without. Pure; any thread.
#pragma once

#include "base/bytes.hpp"
#include "base/result.hpp"

#include <span>
#include <string>
#include <string_view>

namespace cooper::codec {

[[nodiscard]] std::string base64_encode(std::span<const std::byte> data);
[[nodiscard]] std::string base64_encode(std::string_view text);
[[nodiscard]] std::string base64url_encode(std::string_view text);  // no padding
// Strict: right length, padding and no foreign characters (line breaks are skipped, as in Go). Else bad input.
[[nodiscard]] Result<std::string> base64_decode(std::string_view text);
[[nodiscard]] Result<std::string> base64url_decode(std::string_view text);  // padding optional

}  // namespace cooper::codec
