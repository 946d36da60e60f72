// What is said of an image, for people and as JSON. Statements are anybody's: what is not where it belongs is left out.
// Pure, any thread.
#pragma once

#include "engine/engine.hpp"

#include <string>
#include <vector>

namespace cooper::cli {

[[nodiscard]] std::string attestations_as_text(const std::vector<engine::Attested>& attestations);
// A list of {platform, subject, predicateType, statement}.
[[nodiscard]] std::string attestations_as_json(const std::vector<engine::Attested>& attestations);

}  // namespace cooper::cli
