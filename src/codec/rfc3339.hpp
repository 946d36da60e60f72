// Times as texts: RFC 3339, with any offset. The way back is format_rfc3339 in base/clock.hpp.
#pragma once

#include "base/clock.hpp"

#include <optional>
#include <string_view>

namespace cooper::codec {

// "2024-01-02T03:04:05.678Z", "2024-01-02T03:04:05+02:00"; nullopt for anything else, and for years that 64 bits of
// nanoseconds cannot hold.
[[nodiscard]] std::optional<Timestamp> parse_rfc3339(std::string_view text);

}  // namespace cooper::codec
