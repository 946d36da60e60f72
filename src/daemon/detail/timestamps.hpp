// Timestamps of ours and of protobuf.
#pragma once

#include "base/clock.hpp"

#include <google/protobuf/timestamp.pb.h>

namespace cooper::daemon::detail {

inline void put(Timestamp from, google::protobuf::Timestamp& to) {
    const auto seconds = std::chrono::floor<std::chrono::seconds>(from);
    to.set_seconds(seconds.time_since_epoch().count());
    to.set_nanos(static_cast<int>((from - seconds).count()));
}

inline Timestamp get(const google::protobuf::Timestamp& from) {
    return Timestamp{std::chrono::seconds(from.seconds()) + std::chrono::nanoseconds(from.nanos())};
}

}  // namespace cooper::daemon::detail
