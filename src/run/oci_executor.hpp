// The Executor that runs containers with an OCI runtime (crun; runc and others work, slower).
//
// A step is a chain of three: this program, cooper-init (pid 1 of a pid namespace of its own, which
// ends when this program does), and the runtime. Mounts are made here as detached ones and attached in
// cooper-init's private mount namespace.
#pragma once

#include "run/executor.hpp"

#include <memory>
#include <string>
#include <vector>

namespace cooper::run {

struct OciExecutorOptions {
    std::string state_dir;  // absolute; made when missing. Holds stubs/, net/ (locks), sandbox/ (an empty mount point)
    std::string runtime;    // name or path; empty = crun, then runc
    std::string init_program;      // empty = $COOPER_INIT, beside this program, ../libexec/cooper/, PATH
    std::string emulators;         // as Emulators' directory
    std::string cgroup_parent;     // empty = "/cooper" below this process's own cgroup root
    std::string network_provider;  // empty = automatic; "bridge", "slirp4netns", "pasta", "host", "none"
    std::string bridge_subnet;     // empty = 10.88.64.0/20 or the first free alternative
    std::vector<std::string> dns;  // empty = the host's
    // Steps see and may end the processes of this one's process namespace. For a user's daemon in a container whose
    // /proc is partly covered: there the kernel lets nobody mount another.
    bool shares_processes = false;
};

// Fails when no runtime or no cooper-init is found (failed_precondition, with a hint).
[[nodiscard]] Result<std::unique_ptr<Executor>> make_oci_executor(OciExecutorOptions options);

}  // namespace cooper::run
