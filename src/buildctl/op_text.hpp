// Definitions for people: what `buildctl debug dump-llb` prints.
#pragma once

#include "base/result.hpp"

#include <string>
#include <string_view>

namespace cooper::buildctl {

// One line of JSON for each operation, as Go prints BuildKit's structs.
[[nodiscard]] Result<std::string> definition_json(std::string_view definition);
// A graph for Graphviz.
[[nodiscard]] Result<std::string> definition_dot(std::string_view definition);

}  // namespace cooper::buildctl
