// How large a directory is, looked at for a short while only. Blocks on the file system.
#pragma once

#include "base/result.hpp"
#include "base/stop.hpp"
#include "frontend/bridge.hpp"

#include <string>

namespace cooper::engine {

// At most kMaxCounted entries are looked at; links are not followed. What cannot be read counts nothing.
inline constexpr std::uint64_t kMaxCounted = 20'000;
[[nodiscard]] Result<frontend::ContextSize> measure_directory(const std::string& host_path, const Stop& stop);

}  // namespace cooper::engine
