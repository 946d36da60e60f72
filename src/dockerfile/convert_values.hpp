// Values inside instructions that BuildKit checks while converting: ports, signals, modes. Pure.
#pragma once

#include "base/result.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::dockerfile {

// "[[ip:]host:]port[-end][/proto]" to "port/proto", one per port of a range. `has_host` when an ip or
// a host port was given (it is dropped), `casing` when the protocol was not lower case.
struct ExposedPorts {
    std::vector<std::string> ports;
    bool has_host = false;
    bool casing = false;
};
[[nodiscard]] Result<ExposedPorts> parse_port(std::string_view spec);

// "SIGTERM", "term", "15": is there such a signal on Linux?
[[nodiscard]] Result<> check_signal(std::string_view text);

// --chmod: octal 0-07777, or chmod(1)'s symbolic form (mode_str).
struct ChmodValue {
    std::optional<std::int32_t> mode;
    std::string mode_str;
};
[[nodiscard]] Result<ChmodValue> parse_chmod(std::string_view text);

}  // namespace cooper::dockerfile
