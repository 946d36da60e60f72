// What a step is given beside its root: devices, with the files, variables and programs they need, and
// limits. Values, shared by ProcessSpec and those who make it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

namespace cooper::run {

// A device file of the container, below /dev.
struct DeviceNode {
    std::string path;
    char type = 'c';  // c, b, p
    std::uint32_t major = 0;
    std::uint32_t minor = 0;
    std::string access = "rwm";  // what may be done with it: of r, w, m
    std::optional<std::uint32_t> mode;
    std::optional<uid_t> uid;  // without one: the process's
    std::optional<gid_t> gid;
    friend bool operator==(const DeviceNode&, const DeviceNode&) = default;
};

// A program of the host that the OCI runtime starts on the way.
struct Hook {
    std::string stage;  // createRuntime, createContainer, startContainer, prestart, poststart, poststop
    std::string program;
    std::vector<std::string> args;
    std::vector<std::string> env;
    std::optional<std::int64_t> timeout_s;
    friend bool operator==(const Hook&, const Hook&) = default;
};

// Limits of the step's cgroup. Zero and empty: none.
struct Resources {
    std::int64_t memory_bytes = 0;
    std::int64_t memory_swap_bytes = 0;  // memory and swap together; -1 = unlimited
    std::uint64_t cpu_shares = 0;
    std::uint64_t cpu_period_us = 0;
    std::int64_t cpu_quota_us = 0;
    std::string cpuset_cpus;
    std::string cpuset_mems;
    friend bool operator==(const Resources&, const Resources&) = default;
};

}  // namespace cooper::run
