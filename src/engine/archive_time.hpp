// How new an archive is. Blocks on the file system.
#pragma once

#include "base/result.hpp"
#include "base/stop.hpp"
#include "sys/fd.hpp"

#include <cstdint>
#include <optional>

namespace cooper::engine {

// Seconds since 1970 of the newest regular file in an archive; nullopt when it is none or has none.
[[nodiscard]] Result<std::optional<std::int64_t>> newest_file_s(sys::Fd archive, const Stop& stop);

}  // namespace cooper::engine
