// One line of comma separated values with "quoted" fields, as --mount has them.
#pragma once

#include "base/result.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace cooper::dockerfile {

[[nodiscard]] Result<std::vector<std::string>> parse_csv_line(std::string_view line);

}  // namespace cooper::dockerfile
