// Locks: what the names of remote sources meant when `cooper lock` looked, kept in a file beside the Dockerfile.
// A lock works as a source policy, so any builder that knows policies can be held to it.
#pragma once

#include "sourcepolicy/policy.hpp"

#include <map>
#include <string>
#include <string_view>

namespace cooper::sourcepolicy {

inline constexpr std::string_view kLockFile = "cooper.lock";

struct Lock {
    // By identifier ("docker-image://docker.io/library/debian:12", "https://…", "git://…#main"): the digest of an
    // image's manifest or index, of a file, or the id of a commit.
    std::map<std::string, std::string> sources;
    friend bool operator==(const Lock&, const Lock&) = default;
};

// JSON: {"version": 1, "sources": {identifier: digest or commit}}. Errors name the entry.
[[nodiscard]] Result<Lock> parse_lock(std::string_view json);
// One entry a line, sorted: made to be read in a diff.
[[nodiscard]] std::string print_lock(const Lock& lock);

// Whether a name can mean something else tomorrow: an image without a digest, a download without a checksum, a git ref.
[[nodiscard]] bool is_floating(const llb::SourceOp& source);

enum class Frozen : std::uint8_t { no, yes };
// Each locked source is what the lock says. Frozen: what is neither locked nor pinned by itself is denied.
[[nodiscard]] Policy policy_of(const Lock& lock, Frozen frozen);
// One policy that decides as `own` does and the lock's after it, for a request that has room for one: what `own` denies
// stays denied. Bad input when that cannot be said: a rule of `own` looks at the attributes of a source that is locked.
[[nodiscard]] Result<Policy> joined(const Policy& own, const Lock& lock, Frozen frozen);
[[nodiscard]] std::string to_json(const Policy& policy);

}  // namespace cooper::sourcepolicy
