// GitRef: a git repository as a Dockerfile or a command line names it:
// "https://host/x.git#ref:subdir", "git@host:x.git?tag=v1", and for contexts the old "github.com/x/y".
// Pure.
#pragma once

#include "base/result.hpp"

#include <optional>
#include <string>
#include <string_view>

namespace cooper::frontend {

struct GitRef {
    std::string remote;  // without fragment and query
    std::string ref;     // branch, tag or commit; may be empty
    std::string subdir;
    std::string checksum;
    std::string mtime;  // "", "checkout", "commit"
    std::optional<bool> keep_git_dir;
    std::optional<bool> submodules;
    bool fetch_by_commit = false;
    // "github.com/x/y": only a build context may be written so.
    bool indistinguishable_from_local = false;
};

// nullopt: not a git reference at all (a path, an archive's URL …). An error: it is one, but wrong.
[[nodiscard]] Result<std::optional<GitRef>> parse_git_ref(std::string_view text);

// Go's strconv.ParseBool: 1 t T TRUE true True 0 f F FALSE false False.
[[nodiscard]] std::optional<bool> parse_go_bool(std::string_view text);

}  // namespace cooper::frontend
