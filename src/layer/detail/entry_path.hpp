// Names of archive entries as paths: relative, clean, without a leading '/'; "" is the root.
#pragma once

#include "base/result.hpp"

#include <cstddef>
#include <string>
#include <string_view>

namespace cooper::layer::detail {

// "./a//b/../c/" is "a/c". A name that climbs above the root, or is too long, is bad input.
[[nodiscard]] Result<std::string> clean_entry_path(std::string_view name, std::size_t max_bytes);

struct ParentAndName {
    std::string_view parent;  // "" = the root
    std::string_view name;
};
[[nodiscard]] ParentAndName split_entry_path(std::string_view path);

}  // namespace cooper::layer::detail
