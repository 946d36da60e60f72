#include "sys/mount.hpp"

#include "base/defer.hpp"
#include "base/text.hpp"

#include <array>
#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace cooper::sys {
namespace {

constexpr std::size_t kMaxLayers = 500;  // the kernel's own limit

Error mount_error(int errno_value, const std::string& what) {
    Error error = fail_errno(errno_value, what);
    if (errno_value == EPERM || errno_value == EACCES) {
        return error.with_hint("mounting needs root, or a user namespace with subordinate ids (see /etc/subuid)");
    }
    if (errno_value == ENODEV) return error.with_hint("this kernel lacks that file system; load its module");
    return error;
}

Result<Fd> open_path(const std::string& path) {
    Fd fd(::open(path.c_str(), O_PATH | O_CLOEXEC));
    if (!fd.valid()) return fail_errno(errno, fmt::format("open {}", path));
    return fd;
}

std::string fd_path(int fd) { return fmt::format("/proc/self/fd/{}", fd); }

// The descriptors through which the kernel is told the directories of an overlay.
struct OverlayFds {
    std::vector<Fd> lower;  // bottom first
    Fd upper;
    Fd work;
};

Result<OverlayFds> open_overlay(const OverlayPlan& plan) {
    if (plan.lower.empty()) return fail(Code::internal, Blame::cooper, "overlay without a lower directory");
    if (plan.lower.size() > kMaxLayers) {
        return fail(Code::resource_exhausted, Blame::user, "{} layers are more than overlayfs can mount ({})",
                    plan.lower.size(), kMaxLayers);
    }
    OverlayFds fds;
    fds.lower.reserve(plan.lower.size());
    for (const std::string& dir : plan.lower) fds.lower.push_back(TRY(open_path(dir)));
    if (!plan.upper.empty()) {
        fds.upper = TRY(open_path(plan.upper));
        fds.work = TRY(open_path(plan.work));
        // The mark of an earlier volatile mount: it guards against power failures in between, after which
        // nobody reuses these directories.
        ::unlinkat(fds.work.get(), "work/incompat/volatile/dirty", 0);
        ::unlinkat(fds.work.get(), "work/incompat/volatile", AT_REMOVEDIR);
    }
    return fds;
}

using KeyValue = std::pair<std::string, std::string>;

std::vector<KeyValue> overlay_settings(const OverlayPlan& plan) {
    std::vector<KeyValue> settings{{"redirect_dir", "nofollow"}, {"index", "off"}, {"metacopy", "off"}};
    for (const std::string& option : plan.options) {
        const auto [key, value] = cut(option, '=');
        settings.emplace_back(std::string(key), std::string(value.value_or("")));
    }
    return settings;
}

bool set_option(int fs, const std::string& key, const std::string& value) {
    return ::fsconfig(fs, value.empty() ? FSCONFIG_SET_FLAG : FSCONFIG_SET_STRING, key.c_str(),
                      value.empty() ? nullptr : value.c_str(), 0) == 0;
}

// The new mount interface with one option per layer (Linux 6.8). An invalid Fd means: this kernel
// cannot, use the old way.
Result<Fd> overlay_by_fsconfig(const OverlayPlan& plan, const OverlayFds& fds) {
    const Fd fs(::fsopen("overlay", FSOPEN_CLOEXEC));
    if (!fs.valid()) {
        if (errno == ENOSYS) return Fd();
        return mount_error(errno, "open overlayfs");
    }
    for (std::size_t i = fds.lower.size(); i-- > 0;) {
        if (!set_option(fs.get(), "lowerdir+", fd_path(fds.lower[i].get()))) return Fd();
    }
    if (fds.upper.valid()) {
        if (!set_option(fs.get(), "upperdir", fd_path(fds.upper.get()))) return mount_error(errno, "overlay upperdir");
        if (!set_option(fs.get(), "workdir", fd_path(fds.work.get()))) return mount_error(errno, "overlay workdir");
        if (!set_option(fs.get(), "volatile", "")) return Fd();
    }
    for (const auto& [key, value] : overlay_settings(plan)) {
        if (!set_option(fs.get(), key, value)) return mount_error(errno, fmt::format("overlay option {}", key));
    }
    if (::fsconfig(fs.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0)
        return mount_error(errno, "mount overlayfs");
    Fd mount(::fsmount(fs.get(), FSMOUNT_CLOEXEC, fds.upper.valid() ? 0 : MOUNT_ATTR_RDONLY));
    if (!mount.valid()) return mount_error(errno, "mount overlayfs");
    return mount;
}

// mount(2) at a directory nobody uses, from which a detached copy is taken. Needs a private mount
// namespace to be invisible to the host.
Result<Fd> overlay_by_mount(const OverlayPlan& plan, const OverlayFds& fds) {
    std::string data;
    for (std::size_t i = fds.lower.size(); i-- > 0;) {
        data += (data.empty() ? "lowerdir=" : ":") + fd_path(fds.lower[i].get());
    }
    if (fds.upper.valid()) {
        data += fmt::format(",upperdir={},workdir={}", fd_path(fds.upper.get()), fd_path(fds.work.get()));
    }
    for (const auto& [key, value] : overlay_settings(plan)) data += "," + key + (value.empty() ? "" : "=" + value);
    if (data.size() >= 4096) {
        return fail(Code::resource_exhausted, Blame::user, "{} layers are more than this kernel's overlayfs can mount",
                    fds.lower.size())
            .with_hint("use a newer kernel (6.8) or fewer layers");
    }
    std::string place = "/tmp/.cooper-mount-XXXXXX";
    if (::mkdtemp(place.data()) == nullptr) return fail_errno(errno, "make a mount point in /tmp");
    const Defer cleanup([&place] { ::rmdir(place.c_str()); });
    const unsigned long flags = fds.upper.valid() ? 0 : MS_RDONLY;
    const std::string with_volatile = fds.upper.valid() ? data + ",volatile" : data;
    if (::mount("overlay", place.c_str(), "overlay", flags, with_volatile.c_str()) != 0 &&
        (errno != EINVAL || ::mount("overlay", place.c_str(), "overlay", flags, data.c_str()) != 0)) {
        return mount_error(errno, "mount overlayfs");
    }
    Fd copy(::open_tree(AT_FDCWD, place.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
    const int copy_error = errno;
    ::umount2(place.c_str(), MNT_DETACH);
    if (!copy.valid()) return mount_error(copy_error, "take hold of the overlay mount");
    return copy;
}

struct FlagName {
    const char* name;
    unsigned long set;
    unsigned long clear;
};
constexpr std::array<FlagName, 14> kFlagNames{{
    {"ro", MS_RDONLY, 0},
    {"rw", 0, MS_RDONLY},
    {"nosuid", MS_NOSUID, 0},
    {"suid", 0, MS_NOSUID},
    {"nodev", MS_NODEV, 0},
    {"dev", 0, MS_NODEV},
    {"noexec", MS_NOEXEC, 0},
    {"exec", 0, MS_NOEXEC},
    {"noatime", MS_NOATIME, 0},
    {"relatime", MS_RELATIME, 0},
    {"bind", MS_BIND, 0},
    {"rbind", MS_BIND | MS_REC, 0},
    {"private", MS_PRIVATE, 0},
    {"rprivate", MS_PRIVATE | MS_REC, 0},
}};

}  // namespace

Result<DetachedMount> mount_overlay(const OverlayPlan& plan) {
    const OverlayFds fds = TRY(open_overlay(plan));
    Fd mount = TRY(overlay_by_fsconfig(plan, fds));
    if (!mount.valid()) mount = TRY(overlay_by_mount(plan, fds));
    return DetachedMount(std::move(mount));
}

Result<DetachedMount> mount_tmpfs(std::uint64_t size_bytes, std::uint32_t mode) {
    const Fd fs(::fsopen("tmpfs", FSOPEN_CLOEXEC));
    if (!fs.valid()) return mount_error(errno, "open tmpfs");
    if ((size_bytes != 0 && !set_option(fs.get(), "size", std::to_string(size_bytes))) ||
        !set_option(fs.get(), "mode", fmt::format("{:o}", mode)) ||
        ::fsconfig(fs.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
        return mount_error(errno, "mount tmpfs");
    }
    Fd mount(::fsmount(fs.get(), FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV));
    if (!mount.valid()) return mount_error(errno, "mount tmpfs");
    return DetachedMount(std::move(mount));
}

Result<DetachedMount> clone_tree(int fd) {
    Fd copy(::open_tree(fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE));
    if (!copy.valid()) return mount_error(errno, "clone a mount");
    return DetachedMount(std::move(copy));
}

Result<RootedDir> DetachedMount::root() const {
    Fd dir(::openat(fd_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!dir.valid()) return fail_errno(errno, "open the root of a mount");
    return RootedDir(std::move(dir));
}

Result<AttachedMount> DetachedMount::attach(const std::string& target) && {
    if (::move_mount(fd_.get(), "", AT_FDCWD, target.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0) {
        return mount_error(errno, fmt::format("mount at {}", target));
    }
    fd_ = Fd();
    return AttachedMount(target);
}

Result<AttachedMount> attach(const Mount& mount) {
    unsigned long flags = mount.type == "bind" ? MS_BIND : 0;
    std::string data;
    for (const std::string& option : mount.options) {
        const FlagName* known = nullptr;
        for (const FlagName& flag : kFlagNames) {
            if (option == flag.name) known = &flag;
        }
        if (known != nullptr) {
            flags = (flags | known->set) & ~known->clear;
        } else {
            data += (data.empty() ? "" : ",") + option;
        }
    }
    const char* type = mount.type == "bind" ? nullptr : mount.type.c_str();
    if (::mount(mount.source.c_str(), mount.target.c_str(), type, flags, data.c_str()) != 0) {
        return mount_error(errno, fmt::format("mount {} at {}", mount.type, mount.target));
    }
    AttachedMount attached(mount.target);
    // A bind mount takes its other flags only in a second call.
    constexpr unsigned long kBindOnly = MS_BIND | MS_REC;
    if ((flags & MS_BIND) != 0 && (flags & ~kBindOnly) != 0 &&
        ::mount(nullptr, mount.target.c_str(), nullptr, flags | MS_REMOUNT, nullptr) != 0) {
        return mount_error(errno, fmt::format("remount {}", mount.target));
    }
    return attached;
}

AttachedMount& AttachedMount::operator=(AttachedMount&& other) noexcept {
    if (this != &other) {
        if (!target_.empty()) ::umount2(target_.c_str(), MNT_DETACH);
        target_ = std::exchange(other.target_, {});
    }
    return *this;
}

AttachedMount::~AttachedMount() {
    if (!target_.empty()) ::umount2(target_.c_str(), MNT_DETACH);
}

Result<> AttachedMount::unmount() && {
    const std::string target = std::exchange(target_, {});
    if (!target.empty() && ::umount2(target.c_str(), MNT_DETACH) != 0) {
        return fail_errno(errno, fmt::format("unmount {}", target));
    }
    return {};
}

}  // namespace cooper::sys
