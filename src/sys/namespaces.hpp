// Kernel namespaces of this process.
#pragma once

#include "base/result.hpp"
#include "base/stop.hpp"
#include "sys/fd.hpp"

#include <cstdint>
#include <functional>

namespace cooper::sys {

// To be called at program start while there is one thread. Gives the program its own mount namespace
// in which nothing propagates to the host, so that its mounts die with it. Needs root (or a user
// namespace, see below).
[[nodiscard]] Result<> enter_private_mount_namespace();

// The permitted set of this thread, one bit for each capability.
[[nodiscard]] std::uint64_t permitted_capabilities();
// True when this process has the capabilities to mount.
[[nodiscard]] bool can_mount();

// Rootless: to be called at program start while there is one thread, before
// enter_private_mount_namespace. Puts the program into a user namespace in which it is uid 0, with the
// subordinate ids of /etc/subuid and /etc/subgid mapped by newuidmap and newgidmap. Does nothing for
// uid 0. Fails with failed_precondition and a hint when the host offers no such ids.
[[nodiscard]] Result<> enter_user_namespace(const Stop& stop);
// True when uid 0 here is not uid 0 of the host.
[[nodiscard]] bool in_user_namespace();

// A new network namespace with its loopback up. Made on a thread of its own; the caller's is untouched.
[[nodiscard]] Result<Fd> make_network_namespace();
// Runs work on a thread of its own inside the network namespace, and waits for it.
[[nodiscard]] Result<> in_network_namespace(int namespace_fd, const std::function<Result<>()>& work);

}  // namespace cooper::sys
