// A unified diff of two texts, as diff -u prints it. Pure.
#pragma once

#include <string>
#include <string_view>

namespace cooper::cli {

// Empty when they are equal. Texts that differ very much are shown as one replaced by the other.
[[nodiscard]] std::string unified_diff(std::string_view before, std::string_view after, std::string_view name_before,
                                       std::string_view name_after);

}  // namespace cooper::cli
