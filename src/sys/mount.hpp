// Mounts as data, and their execution. DetachedMount is a mount that nobody can see: it is reached
// through its descriptor only, and is gone when the last descriptor is closed, however the process
// ends. AttachedMount is one at a place of this process's mount namespace.
// Needs CAP_SYS_ADMIN in the user namespace that owns the mount namespace (permission_denied with a
// hint otherwise). Thread-safe.
#pragma once

#include "base/result.hpp"
#include "sys/fd.hpp"
#include "sys/rooted_dir.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace cooper::sys {

// One mount(2) as data.
struct Mount {
    std::string source;
    std::string target;
    std::string type;                  // "bind", "overlay", "tmpfs", "proc", …
    std::vector<std::string> options;  // "size=65536", "ro", "nosuid", … (words that are flags become flags)
};
using MountPlan = std::vector<Mount>;

// An overlay file system. Directories are host paths of any length: up to 500 layers fit, whatever
// their paths, because the kernel is given descriptors.
struct OverlayPlan {
    std::vector<std::string> lower;    // bottom first; at least one
    std::string upper;                 // empty = read-only
    std::string work;                  // on the file system of upper; empty directory
    std::vector<std::string> options;  // further ones: "userxattr"
};

class AttachedMount;

class DetachedMount {
public:
    DetachedMount() = default;
    explicit DetachedMount(Fd fd) : fd_(std::move(fd)) {}
    [[nodiscard]] int fd() const { return fd_.get(); }
    [[nodiscard]] bool valid() const { return fd_.valid(); }
    // Another descriptor of the same mount.
    [[nodiscard]] Result<Fd> duplicate() const { return fd_.duplicate(); }
    // The root of the mounted tree, for *at() calls.
    [[nodiscard]] Result<RootedDir> root() const;
    [[nodiscard]] Result<AttachedMount> attach(const std::string& target) &&;

private:
    Fd fd_;
};

class AttachedMount {
public:
    AttachedMount() = default;
    explicit AttachedMount(std::string target) : target_(std::move(target)) {}
    AttachedMount(AttachedMount&& other) noexcept : target_(std::exchange(other.target_, {})) {}
    AttachedMount& operator=(AttachedMount&& other) noexcept;
    ~AttachedMount();
    [[nodiscard]] const std::string& target() const { return target_; }
    Result<> unmount() &&;

private:
    std::string target_;
};

// Mounted without syncs ("volatile"), without redirects, metacopy and index, as layers demand.
[[nodiscard]] Result<DetachedMount> mount_overlay(const OverlayPlan& plan);
// size_bytes 0 = the kernel's default.
[[nodiscard]] Result<DetachedMount> mount_tmpfs(std::uint64_t size_bytes, std::uint32_t mode);
// A copy of the tree at what fd refers to (directory, file or socket; O_PATH is enough).
[[nodiscard]] Result<DetachedMount> clone_tree(int fd);
// Executes one mount(2)-like entry at its target.
[[nodiscard]] Result<AttachedMount> attach(const Mount& mount);

}  // namespace cooper::sys
