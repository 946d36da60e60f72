// Names out of images, as they may be printed: they are hostile.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace cooper::inside {

// Control bytes and what is no UTF-8 as \xNN. At most limit bytes of text, then "…".
[[nodiscard]] std::string shown(std::string_view text, std::size_t limit);
[[nodiscard]] inline std::string shown(std::string_view text) { return shown(text, SIZE_MAX); }
// "0644"
[[nodiscard]] std::string mode_shown(std::uint32_t mode);
// "1 file", "3 files"
[[nodiscard]] std::string counted(std::uint64_t count, std::string_view one, std::string_view many);

}  // namespace cooper::inside
