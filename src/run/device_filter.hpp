// The device rules of cgroup v2: a BPF program attached to a cgroup directory. Docker's defaults: any
// node may be made, only the harmless ones may be opened.
#pragma once

#include "run/device.hpp"

#include <array>
#include <cstdint>
#include <span>

namespace cooper::run {

struct DeviceNumber {
    std::uint32_t major;
    std::int32_t minor;  // -1 = any
};
// Character devices: null, zero, full, random, urandom, tty, console, ptmx, pts/*.
constexpr std::array<DeviceNumber, 9> kOpenDevices{
    {{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 1}, {5, 2}, {136, -1}}};

// `further` may be opened as they say. False when the kernel does not let us (no privilege, no
// CONFIG_CGROUP_BPF).
[[nodiscard]] bool attach_device_filter(int cgroup_dir_fd, std::span<const DeviceNode> further);

}  // namespace cooper::run
