// The config.json handed to the OCI runtime.
// https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md
#pragma once

#include "run/process_spec.hpp"
#include "run/user.hpp"

#include <optional>
#include <string>
#include <vector>

namespace cooper::run {

// A bind mount whose source has been prepared in the bundle.
struct RuntimeMount {
    std::string target;
    std::string type;  // "bind", "tmpfs"
    std::string source;
    std::vector<std::string> options;
};

enum class SeccompForm : std::uint8_t { none, filter, profile };

struct RuntimeConfig {
    const ProcessSpec& spec;
    UserIds user;
    std::string home;  // HOME unless the environment has one; empty = leave it out
    std::string hostname;
    std::vector<RuntimeMount> mounts;  // after the standard ones, in this order
    SeccompForm seccomp = SeccompForm::filter;
    bool cgroup_namespace = true;
    bool cgroup_mount = true;
    std::string cgroups_path;       // empty = the runtime makes none
    bool shares_processes = false;  // this process's /proc, and no process namespace
    // The step runs in a user namespace of its own, with the same ids, where this hook registers emulators. Its sysfs
    // is made in advance: in such a namespace it cannot be.
    std::optional<Hook> emulators;
    std::string sysfs;             // host path; used with emulators
    bool may_make_devices = true;  // false takes CAP_MKNOD: nothing else keeps device nodes from working
};

[[nodiscard]] std::string make_runtime_config(const RuntimeConfig& config);

// Later duplicates replace earlier ones in place; PATH is added when missing; with a tty also TERM.
[[nodiscard]] std::vector<std::string> effective_env(const ProcessSpec& spec);

}  // namespace cooper::run
