// The seccomp profile of sandboxed steps: equivalent to Docker's default one (everything not allowed
// fails with EPERM; calls newer than the profile fail with ENOSYS, so that programs fall back).
//
// Runtimes translate a profile into a filter anew for each container, which costs them about 10 ms.
// So we make the filter ourselves, once, and hand crun the finished program; other runtimes get JSON.
// https://docs.docker.com/engine/security/seccomp/, linux Documentation/userspace-api/seccomp_filter.rst
#pragma once

#include <cstdint>
#include <linux/filter.h>
#include <span>
#include <string>
#include <vector>

namespace cooper::run {

struct AllowedSyscall {
    const char* name;
    std::int16_t x86_64;
    std::int16_t i386;
    std::int16_t arm64;
};
[[nodiscard]] std::span<const AllowedSyscall> allowed_syscalls();

// watched: no more than kMaxReservedBytes of disk are reserved by one call (fallocate fails with EOPNOTSUPP), so that
// who watches the disk sees what is written while it is written.
enum class DiskUse : std::uint8_t { free, watched };
constexpr std::uint32_t kMaxReservedBytes = 4U << 20U;

// The filter for this machine's architecture (and its 32-bit sibling). Empty on architectures we have
// no table for: the caller falls back to the JSON form.
[[nodiscard]] std::vector<sock_filter> seccomp_filter(DiskUse disk = DiskUse::free);
// The same as bytes in base64, for crun's annotation run.oci.seccomp_bpf_data. Made once.
[[nodiscard]] const std::string& seccomp_filter_base64(DiskUse disk = DiskUse::free);
// The profile as linux.seccomp of the OCI runtime specification.
[[nodiscard]] const std::string& seccomp_json();

}  // namespace cooper::run
