// google.protobuf.Timestamp to ours.
#pragma once

#include "base/clock.hpp"

#include <google/protobuf/timestamp.pb.h>

namespace cooper::client::detail {

[[nodiscard]] inline Timestamp to_time(const google::protobuf::Timestamp& time) {
    // Years 1 to 9999 are allowed on the wire; nanoseconds since 1970 hold less.
    constexpr std::int64_t kLimit = 9'000'000'000;
    const std::int64_t seconds = std::min(std::max(time.seconds(), -kLimit), kLimit);
    return Timestamp(std::chrono::seconds(seconds) + std::chrono::nanoseconds(time.nanos()));
}

}  // namespace cooper::client::detail
