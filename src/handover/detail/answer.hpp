// What an engine answers, as JSON. A door: it may be anything.
#pragma once

#include "base/result.hpp"

#include <nlohmann/json.hpp>
#include <string>

namespace cooper::handover::detail {

[[nodiscard]] Result<nlohmann::json> parse_answer(const std::string& text);

}  // namespace cooper::handover::detail
