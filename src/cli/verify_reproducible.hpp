// `cooper build --verify-reproducible`: the same build twice, without cache, the second in a state of its own.
#pragma once

#include "cli/command.hpp"

namespace cooper::cli {

// 0 and the digest on standard output when both gave the same; 1 when not, with the first difference and what made it.
[[nodiscard]] Result<int> verify_reproducible(engine::BuildRequest request, const engine::Config& config,
                                              const std::string& root, ProgressMode progress, const Session& session);

}  // namespace cooper::cli
