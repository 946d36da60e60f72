// Kernel namespaces of this process.
#pragma once

#include "base/result.hpp"
#include "sys/fd.hpp"

#include <string>
#include <vector>

namespace cooper::sys {

// To be called at program start while there is one thread. Gives the program its own mount namespace
// in which nothing propagates to the host, so that its mounts die with it. Needs root (or a user
// namespace, see below).
[[nodiscard]] Result<> enter_private_mount_namespace();

// True when this process has the capabilities to mount.
[[nodiscard]] bool can_mount();

// Rootless: to be called at program start while there is one thread. When the caller is not root,
// puts the program into a user namespace in which it is uid 0, with the subordinate ids of
// /etc/subuid and /etc/subgid mapped by newuidmap and newgidmap, and executes it anew with the same
// arguments. Returns (without doing anything) when already root or already inside.
[[nodiscard]] Result<> enter_user_namespace(const std::vector<std::string>& argv);
// True inside the namespace made by enter_user_namespace.
[[nodiscard]] bool in_our_user_namespace();

// A new network namespace with its loopback up. Made on a thread of its own; the caller's is untouched.
[[nodiscard]] Result<Fd> make_network_namespace();

}  // namespace cooper::sys
