// getdents64 with a large buffer: the names of one directory, in the kernel's order. For walking fast.
#pragma once

#include "base/result.hpp"

#include <functional>
#include <string_view>

namespace cooper::snapshot {

// Calls visit(name, DT_type) for all names but "." and "..". The descriptor's position is not touched.
[[nodiscard]] Result<> for_each_name(int dir_fd, const std::function<void(std::string_view, unsigned char)>& visit);

}  // namespace cooper::snapshot
