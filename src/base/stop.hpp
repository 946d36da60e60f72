// Cancellation: every function that can block takes a Stop as its last parameter.
#pragma once

#include "base/result.hpp"

#include <stop_token>

namespace cooper {

using Stop = std::stop_token;
using StopSource = std::stop_source;

// Call once per bounded unit of work (a tar entry, 1 MiB).
[[nodiscard]] inline Result<> check_stop(const Stop& stop) {
    if (stop.stop_requested()) return cancelled();
    return {};
}

}  // namespace cooper
