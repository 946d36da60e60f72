#include "base/log.hpp"

#include "base/clock.hpp"
#include "base/text.hpp"

#include <atomic>
#include <cstdio>

namespace cooper::log {

namespace {
std::atomic<Level> threshold{Level::warn};

std::string_view name_of(Level level) {
    switch (level) {
        case Level::debug:
            return "debug";
        case Level::info:
            return "info";
        case Level::warn:
            return "warn";
        case Level::error:
            return "error";
        case Level::off:
            break;
    }
    return "off";
}
}  // namespace

void set_level(Level level) { threshold = level; }
bool enabled(Level level) { return level >= threshold.load(); }

// One write() per line, so that lines of several processes do not mix. spdlog was weighed and left
// out: it adds 10 ms of start-up and a thread pool for what is one formatted line.
void write(Level level, std::string_view phrase, std::initializer_list<Field> fields) {
    if (!enabled(level)) return;
    std::string line = format_rfc3339(SystemClock().now());
    line += " ";
    line += name_of(level);
    line += " ";
    line += phrase;
    for (const auto& [key, value] : fields) {
        line += " ";
        line += key;
        line += "=";
        line += quoted(value);
    }
    line += "\n";
    std::fwrite(line.data(), 1, line.size(), stderr);
}

}  // namespace cooper::log
