#include "base/clock.hpp"

#include <ctime>
#include <fmt/format.h>

namespace cooper {

Timestamp SystemClock::now() const {
    return std::chrono::time_point_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now());
}

std::string format_rfc3339(Timestamp time) {
    const auto seconds = std::chrono::floor<std::chrono::seconds>(time);
    const auto nanos = (time - seconds).count();
    const std::time_t t = seconds.time_since_epoch().count();
    std::tm parts{};
    gmtime_r(&t, &parts);
    std::string text = fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", parts.tm_year + 1900, parts.tm_mon + 1,
                                   parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec);
    if (nanos != 0) {
        std::string fraction = fmt::format("{:09}", nanos);
        fraction.erase(fraction.find_last_not_of('0') + 1);
        text += "." + fraction;
    }
    return text + "Z";
}

}  // namespace cooper
