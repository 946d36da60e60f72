// Time as a dependency, so that tests own it.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace cooper {

// Nanoseconds since the Unix epoch.
using Timestamp = std::chrono::sys_time<std::chrono::nanoseconds>;

class Clock {
public:
    virtual ~Clock() = default;
    [[nodiscard]] virtual Timestamp now() const = 0;
};

class SystemClock final : public Clock {
public:
    [[nodiscard]] Timestamp now() const override;
};

class FakeClock final : public Clock {
public:
    [[nodiscard]] Timestamp now() const override { return now_; }
    void advance(std::chrono::nanoseconds by) { now_ += by; }

private:
    Timestamp now_{std::chrono::seconds(1'700'000'000)};
};

// RFC 3339 in UTC as Go prints time.Time: no fraction when zero, trailing zeros cut, "Z".
[[nodiscard]] std::string format_rfc3339(Timestamp time);

}  // namespace cooper
