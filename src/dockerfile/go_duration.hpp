// Durations as Go writes them: "1h30m", "1.5s", "300ms".
#pragma once

#include "base/result.hpp"

#include <cstdint>
#include <string_view>

namespace cooper::dockerfile {

// Nanoseconds; may be negative.
[[nodiscard]] Result<std::int64_t> parse_go_duration(std::string_view text);

}  // namespace cooper::dockerfile
