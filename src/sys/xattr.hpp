// Extended attributes by descriptor (O_PATH descriptors work too) and by path below a directory.
#pragma once

#include "base/result.hpp"

#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace cooper::sys {

// All attributes of what fd refers to. File systems without attributes have none. At most 64 KiB of
// names and 64 KiB per value (the kernel's own limits).
[[nodiscard]] Result<std::map<std::string, std::string>> list_xattrs(int fd);
[[nodiscard]] Result<std::optional<std::string>> find_xattr(int fd, const std::string& name);
[[nodiscard]] Result<> set_xattr(int fd, const std::string& name, std::string_view value);
// Missing is not an error.
[[nodiscard]] Result<> remove_xattr(int fd, const std::string& name);

}  // namespace cooper::sys
