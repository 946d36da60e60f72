// Platform: what a thing runs on ("linux/arm64", "linux/arm/v7"), with containerd's rules of
// normalisation and of what can run what.
#pragma once

#include "base/result.hpp"

#include <compare>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::oci {

struct Platform {
    std::string os;
    std::string architecture;
    std::string variant;
    std::string os_version;
    std::vector<std::string> os_features;

    friend auto operator<=>(const Platform&, const Platform&) = default;
    friend bool operator==(const Platform&, const Platform&) = default;
};

// "os", "arch", "os/arch", "os/arch/variant", "os(version)/arch". What is left out is the host's.
// The result is normalised. Bad input names the part that is unknown.
[[nodiscard]] Result<Platform> parse_platform(std::string_view text);
// "linux/arm/v7"; os version and features are left out. "unknown" without an os.
[[nodiscard]] std::string format_platform(const Platform& platform);
// With the version: "windows(10.0.17763)/amd64".
[[nodiscard]] std::string format_platform_all(const Platform& platform);
// Lower case; aliases (x86_64, aarch64, armhf …) resolved; the variants that mean nothing dropped
// (arm64/v8, amd64/v1) and the one that is understood added (arm -> arm/v7).
[[nodiscard]] Platform normalize(Platform platform);
[[nodiscard]] Platform host_platform();

// How good `offered` is for someone who wants `wanted`: 0 = exact, higher = a fallback that also runs
// (arm/v6 for arm/v7, amd64 for amd64/v3), nullopt = does not run. Both are normalised inside.
[[nodiscard]] std::optional<int> match_rank(const Platform& wanted, const Platform& offered);
[[nodiscard]] bool matches(const Platform& wanted, const Platform& offered);

}  // namespace cooper::oci
