// Worker: what the daemon says of itself to clients: its id, labels, platforms, garbage collection, version.
#pragma once

#include "base/result.hpp"
#include "oci/platform.hpp"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace cooper::daemon {

// The version of BuildKit whose API this is. Clients switch features on by it.
inline constexpr std::string_view kBuildKitVersion = "v0.26.2";
inline constexpr std::string_view kDockerfileVersion = "1.20.0";
inline constexpr std::string_view kPackage = "cooper";

// One rule of garbage collection; rules apply in turn. 0 = no such bound.
struct GcPolicy {
    bool all = false;
    std::int64_t keep_duration_s = 0;
    std::vector<std::string> filters;
    std::uint64_t reserved_bytes = 0;
    std::uint64_t max_used_bytes = 0;
    std::uint64_t min_free_bytes = 0;
};

struct Worker {
    std::string id;
    std::map<std::string, std::string> labels;
    std::vector<oci::Platform> platforms;
    std::vector<GcPolicy> gc;
};

// The id is made once for a state directory and kept in this file of it.
[[nodiscard]] Result<std::string> worker_id(const std::string& path);
// BuildKit's labels, with the words of the user in place of those that have the same name.
[[nodiscard]] std::map<std::string, std::string> worker_labels(const std::map<std::string, std::string>& own);
// The machine's, with those that binfmt_misc hands to an emulator.
[[nodiscard]] std::vector<oci::Platform> worker_platforms(const std::vector<std::string>& emulated);
// "cooperd cooper v0.26.2 0.1.0": the four fields that buildx reads.
[[nodiscard]] std::string version_line();

}  // namespace cooper::daemon
