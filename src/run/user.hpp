// Who a process runs as: "name|uid[:group|gid]" looked up in the container's own /etc/passwd and
// /etc/group, as BuildKit and Docker do.
#pragma once

#include "base/result.hpp"
#include "sys/rooted_dir.hpp"

#include <string>
#include <string_view>
#include <sys/types.h>
#include <vector>

namespace cooper::run {

struct UserIds {
    uid_t uid = 0;
    gid_t gid = 0;
    std::vector<gid_t> groups;  // supplementary
};

// Empty = 0:0. Two numbers are taken as they are, without supplementary groups; anything else reads
// the files (missing ones count as empty). A name that is not there is bad_input.
[[nodiscard]] Result<UserIds> resolve_user(const sys::RootedDir& root, std::string_view user);

// The home directory of a user; "/" when /etc/passwd has no line with this number.
[[nodiscard]] Result<std::string> home_of(const sys::RootedDir& root, uid_t uid);

}  // namespace cooper::run
