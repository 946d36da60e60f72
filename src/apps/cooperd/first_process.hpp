// The first process of a container: what `docker exec` and probes of Kubernetes join the namespaces of. A user's daemon
// moves into a user namespace of its own, which nobody outside may join, so that it is a child of this process.
#pragma once

#include "base/result.hpp"

#include <string>
#include <vector>

namespace cooper::cooperd {

// Runs this program again with the same words, hands SIGTERM and SIGINT on to it, reaps whatever else becomes a child
// of ours, and returns its exit status. To be called while there is one thread.
[[nodiscard]] Result<int> watch_over_daemon(const std::vector<std::string>& words);

}  // namespace cooper::cooperd
