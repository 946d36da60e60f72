// A directory of the caller's as a daemon asks for it: what patterns leave of it, and what links in it lead to.
#pragma once

#include "snapshot/live_dir.hpp"

#include <string>
#include <vector>

namespace cooper::filesync {

struct LocalPatterns {
    std::vector<std::string> include;       // empty with no follow paths: everything
    std::vector<std::string> exclude;       // as in .dockerignore
    std::vector<std::string> follow_paths;  // included, with all that symbolic links on the way lead to
    snapshot::Modes modes = snapshot::Modes::as_they_are;
};

// Owners are 0:0, sockets are left out.
[[nodiscard]] Result<snapshot::TreeRef> open_local_tree(const std::string& host_path, const LocalPatterns& patterns);

// The paths and every link on the way to them, as include patterns: sorted, none below another. Links are resolved
// inside the tree; a wildcard stays a pattern, the links it matches are followed. Empty: everything. Missing paths are
// kept. At most 100,000 links are followed.
[[nodiscard]] Result<std::vector<std::string>> follow_links(const snapshot::Tree& tree,
                                                            const std::vector<std::string>& paths);

}  // namespace cooper::filesync
