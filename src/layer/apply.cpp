#include "layer/apply.hpp"

#include "base/text.hpp"
#include "codec/tar.hpp"
#include "layer/detail/entry_path.hpp"
#include "layer/detail/kept_time.hpp"
#include "layer/detail/overlay_names.hpp"
#include "layer/late_links.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <optional>
#include <set>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace cooper::layer {

namespace {

using codec::TarHeader;
using codec::TarType;
using detail::ParentAndName;

constexpr std::size_t kMaxImpliedTold = 10'000;
constexpr std::int64_t kSecond = 1'000'000'000;

std::array<timespec, 2> times_of(std::int64_t mtime_ns) {
    std::int64_t seconds = mtime_ns / kSecond;
    std::int64_t rest = mtime_ns % kSecond;
    if (rest < 0) {
        --seconds;
        rest += kSecond;
    }
    const timespec time{.tv_sec = seconds, .tv_nsec = rest};
    return {time, time};
}

Error failed(std::string what) { return fail_errno(errno, std::move(what)); }

bool is_whiteout(const struct stat& there) { return S_ISCHR(there.st_mode) && there.st_rdev == 0; }

Result<std::string> path_of(int fd) {
    std::array<char, PATH_MAX> text{};
    const ssize_t got = ::readlink(fmt::format("/proc/self/fd/{}", fd).c_str(), text.data(), text.size());
    if (got < 0) return fail_errno(errno, "read the path of a directory");
    if (static_cast<std::size_t>(got) == text.size()) return bad_input("the path of a hard link is too long");
    return std::string(text.data(), static_cast<std::size_t>(got));
}

mode_t kind_bits(TarType type) {
    switch (type) {
        case TarType::char_device:
            return S_IFCHR;
        case TarType::block_device:
            return S_IFBLK;
        default:
            return S_IFIFO;
    }
}

class Applier {
public:
    Applier(codec::TarReader& tar, const sys::RootedDir& root, const ApplyLimits& limits, const Stop& stop)
        : tar_(tar),
          root_(root),
          limits_(limits),
          stop_(stop),
          late_links_("layer", [&root](const std::string& path) -> Result<LateLinks::Place> {
              auto at = TRY(root.parent_of(path));
              return LateLinks::Place{std::move(at.dir), std::move(at.name)};
          }) {}

    Result<ApplyStats> run() {
        for (;;) {
            TRY(check_stop(stop_));
            const TarHeader* header = TRY(tar_.next());
            if (header == nullptr) break;
            ++stats_.entries;
            TRY_CONTEXT(apply(*header), "layer entry {}", quoted(header->name));
        }
        TRY(leave_parent());
        TRY(late_links_.resolve(stop_));
        if (root_time_) {
            const auto times = times_of(*root_time_);
            if (::futimens(root_.fd(), times.data()) != 0) return failed("set times of the root");
        }
        TRY(tar_.drain());
        for (const auto& path : implied_) {
            if (stats_.implied_dirs.size() < kMaxImpliedTold) stats_.implied_dirs.push_back(path);
        }
        return std::move(stats_);
    }

private:
    Result<> apply(const TarHeader& header) {
        const std::string path = TRY(detail::clean_entry_path(header.name, limits_.max_path_bytes));
        if (path.empty()) return apply_root(header);
        const ParentAndName at = detail::split_entry_path(path);
        if (detail::is_aufs_metadata(path)) return {};
        const int parent = TRY(open_parent(at.parent));
        const std::string name(at.name);
        if (name == detail::kOpaqueMarker) {
            ++stats_.whiteouts;
            return mark_opaque(parent);
        }
        if (name.starts_with(detail::kWhiteoutPrefix)) {
            ++stats_.whiteouts;
            return whiteout(parent, name.substr(detail::kWhiteoutPrefix.size()));
        }
        switch (header.type) {
            case TarType::directory:
                return directory(parent, name, path, header);
            case TarType::file:
                return file(parent, name, header);
            case TarType::symlink:
                return symlink(parent, name, header);
            case TarType::hard_link:
                return hard_link(parent, name, header);
            case TarType::char_device:
            case TarType::block_device:
            case TarType::fifo:
                return device(parent, name, header);
        }
        UNREACHABLE();
    }

    Result<> apply_root(const TarHeader& header) {
        if (header.type != TarType::directory) return bad_input("the root of a layer must be a directory");
        root_time_ = header.mtime_ns;
        return set_metadata(root_.fd(), header);
    }

    // Consecutive entries of a directory share its descriptor. Valid until something is removed. Making entries changes
    // the time of their directory: it gets its own back when another one's turn comes, so that no time is kept for
    // long.
    Result<int> open_parent(std::string_view path) {
        if (parent_.valid() && parent_path_ == path) return parent_.fd();
        TRY(leave_parent());
        if (path.empty()) return root_.fd();
        auto opened = root_.open_dir(path);
        if (!opened) {
            TRY(make_parents(path));
            opened = root_.open_dir(path);
        }
        if (!opened) return std::move(opened).error().with_context(fmt::format("open {}", quoted(path)));
        parent_time_ = TRY(detail::KeptTime::of(opened->fd()));
        parent_ = std::move(*opened);
        parent_path_ = path;
        return parent_.fd();
    }

    Result<> leave_parent() {
        if (!parent_.valid()) return {};
        TRY(parent_time_.restore(parent_.fd()));
        parent_ = {};
        parent_path_.clear();
        return {};
    }

    // A parent without an entry of its own is a directory 0755 of root; one that was whited out before becomes opaque.
    Result<> make_parents(std::string_view path) {
        for (std::size_t slash = 0; slash != std::string_view::npos;) {
            slash = path.find('/', slash + 1);
            const std::string prefix(path.substr(0, slash));
            const auto there = root_.stat(prefix, sys::Follow::yes);
            if (there && S_ISDIR(there->st_mode)) continue;
            const bool whited_out = there && is_whiteout(*there);
            if (there && !whited_out) return bad_input("{} is no directory", quoted(prefix));
            const auto at = TRY(root_.parent_of(prefix));
            const auto time = TRY(detail::KeptTime::of(at.dir.get()));
            if (whited_out) TRY(root_.remove_all(prefix));
            TRY(root_.make_dirs(prefix, 0755));
            if (whited_out) {
                const auto made = TRY(root_.open_dir(prefix));
                TRY(mark_opaque(made.fd()));
            }
            TRY(time.restore(at.dir.get()));
            if (implied_.size() < kMaxImpliedTold) implied_.insert(prefix);
        }
        return {};
    }

    // Runs make(), which returns a system call's result; removes what is in the way and tries again once.
    template <class Make>
    Result<> replace(int parent, const std::string& name, const char* what, Make make) {
        if (make() == 0) return {};
        if (errno != EEXIST) return failed(what);
        TRY(sys::remove_tree_at(parent, name));
        return make() == 0 ? Result<>() : failed(what);
    }

    Result<> directory(int parent, const std::string& name, const std::string& path, const TarHeader& header) {
        bool hides_lower = false;
        if (::mkdirat(parent, name.c_str(), 0700) != 0) {
            if (errno != EEXIST) return failed("mkdir");
            struct stat there{};
            if (::fstatat(parent, name.c_str(), &there, AT_SYMLINK_NOFOLLOW) != 0) return failed("stat");
            if (!S_ISDIR(there.st_mode)) {
                // What was here replaced the lower layers' entry, so the directory must not show that again.
                hides_lower = true;
                TRY(sys::remove_tree_at(parent, name));
                if (::mkdirat(parent, name.c_str(), 0700) != 0) return failed("mkdir");
            } else if (!implied_.empty()) {
                implied_.erase(path);
            }
        }
        sys::Fd fd(::openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
        if (!fd.valid()) return failed("open");
        TRY(set_metadata(fd.get(), header));
        TRY(ask(1));
        if (hides_lower) TRY(mark_opaque(fd.get()));
        const auto times = times_of(header.mtime_ns);
        if (::futimens(fd.get(), times.data()) != 0) return failed("set times");
        // What follows is most likely in here.
        TRY(leave_parent());
        parent_time_ = TRY(detail::KeptTime::of(fd.get()));
        parent_ = sys::RootedDir(std::move(fd));
        parent_path_ = path;
        return {};
    }

    Result<> file(int parent, const std::string& name, const TarHeader& header) {
        if (header.size > limits_.max_bytes - stats_.bytes) {
            return fail(Code::resource_exhausted, Blame::user, "the layer is bigger than {} bytes", limits_.max_bytes);
        }
        stats_.bytes += header.size;
        ++stats_.files;
        int raw = -1;
        TRY(replace(parent, name, "create", [&] {
            raw = ::openat(parent, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
            return raw < 0 ? -1 : 0;
        }));
        sys::Fd fd(raw);
        TRY(header.sparse ? write_sparse(raw, header) : write_plain(raw));
        TRY(set_metadata(raw, header));
        const auto times = times_of(header.mtime_ns);
        if (::futimens(raw, times.data()) != 0) return failed("set times");
        return std::move(fd).close();
    }

    Result<> ask(std::uint64_t bytes) const {
        return limits_.before_write ? limits_.before_write((bytes + 4095) / 4096 * 4096) : Result<>();
    }

    Result<> write_plain(int fd) {
        for (;;) {
            const auto data = TRY(tar_.chunk());
            if (data.empty()) return {};
            TRY(check_stop(stop_));
            TRY(ask(data.size()));
            TRY(sys::write_all(fd, data));
        }
    }

    Result<> write_sparse(int fd, const TarHeader& header) {
        std::span<const std::byte> data;
        for (const auto& segment : header.segments) {
            if (::lseek(fd, static_cast<off_t>(segment.offset), SEEK_SET) < 0) return failed("seek");
            for (std::uint64_t left = segment.length; left > 0;) {
                TRY(check_stop(stop_));
                if (data.empty()) data = TRY(tar_.chunk());
                if (data.empty()) return bad_input("sparse file is truncated");
                const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(left, data.size()));
                TRY(ask(n));
                TRY(sys::write_all(fd, data.first(n)));
                data = data.subspan(n);
                left -= n;
            }
        }
        return ::ftruncate(fd, static_cast<off_t>(header.size)) == 0 ? Result<>() : failed("set size");
    }

    Result<> symlink(int parent, const std::string& name, const TarHeader& header) {
        if (header.linkname.empty()) return bad_input("symbolic link without a target");
        TRY(replace(parent, name, "symlink",
                    [&] { return ::symlinkat(header.linkname.c_str(), parent, name.c_str()); }));
        return set_metadata_at(parent, name, header);
    }

    Result<> hard_link(int parent, const std::string& name, const TarHeader& header) {
        const std::string target =
            TRY_CONTEXT(detail::clean_entry_path(header.linkname, limits_.max_path_bytes), "hard link target");
        if (target.empty()) return bad_input("hard link to the root");
        auto from = root_.parent_of(target);
        struct stat there{};
        const bool found = from && ::fstatat(from->dir.get(), from->name.c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0 &&
                           !is_whiteout(there);
        if (found && S_ISDIR(there.st_mode)) return bad_input("hard link to the directory {}", quoted(target));
        if (!found || late_links_.is_placeholder(from->dir.get(), from->name, there)) {
            return late_link(parent, name, target);
        }
        struct stat here{};
        if (::fstatat(parent, name.c_str(), &here, AT_SYMLINK_NOFOLLOW) == 0) {
            if (here.st_ino == there.st_ino && here.st_dev == there.st_dev) return {};
            TRY(sys::remove_tree_at(parent, name));
        }
        if (::linkat(from->dir.get(), from->name.c_str(), parent, name.c_str(), 0) != 0) {
            if (errno == ENOENT) return bad_input("hard link to {}, which is not in the layer", quoted(target));
            return failed("link");
        }
        const bool same = there.st_uid == header.uid && there.st_gid == header.gid && header.xattrs.empty() &&
                          (there.st_mode & 07777) == header.mode;
        return same ? Result<>() : set_metadata_at(parent, name, header);
    }

    // What the link is to name may still come.
    Result<> late_link(int parent, const std::string& name, const std::string& target) {
        const std::string content = TRY(late_links_.next_placeholder());
        TRY(ask(content.size()));
        int raw = -1;
        TRY(replace(parent, name, "hold the place of a link", [&] {
            raw = ::openat(parent, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
            return raw < 0 ? -1 : 0;
        }));
        const sys::Fd fd(raw);
        TRY(sys::write_all(raw, content));
        std::string path = TRY(path_inside(parent));
        path += (path.empty() ? "" : "/") + name;
        return late_links_.add(std::move(path), target);
    }

    // A directory's path below the root, without links of directories.
    Result<std::string> path_inside(int dir) {
        if (root_path_.empty()) root_path_ = TRY(path_of(root_.fd()));
        std::string path = TRY(path_of(dir));
        if (!path.starts_with(root_path_)) return bad_input("its directory is not in the layer");
        path.erase(0, root_path_.size());
        path.erase(0, std::min(path.find_first_not_of('/'), path.size()));
        return path;
    }

    Result<> device(int parent, const std::string& name, const TarHeader& header) {
        const bool fifo = header.type == TarType::fifo;
        // How overlay writes a whiteout, when somebody packed its directory as it is.
        if (header.type == TarType::char_device && header.devmajor == 0 && header.devminor == 0) {
            ++stats_.whiteouts;
            return whiteout(parent, name);
        }
        const dev_t number = fifo ? 0 : makedev(header.devmajor, header.devminor);
        bool refused = false;
        TRY(replace(parent, name, "mknod", [&] {
            const int done = ::mknodat(parent, name.c_str(), kind_bits(header.type) | 0600, number);
            refused = done != 0 && errno == EPERM && !fifo;
            return refused ? 0 : done;
        }));
        if (refused) return ++stats_.skipped_devices, Result<>();
        return set_metadata_at(parent, name, header);
    }

    // Hides what lower layers have under the name. What this layer itself has there stays, before and after.
    Result<> whiteout(int parent, const std::string& name) {
        if (name.empty() || name == "." || name == "..") return bad_input("whiteout without a name");
        if (::mknodat(parent, name.c_str(), S_IFCHR, makedev(0, 0)) == 0) return {};
        if (errno != EEXIST) return failed("make a whiteout");
        struct stat there{};
        if (::fstatat(parent, name.c_str(), &there, AT_SYMLINK_NOFOLLOW) != 0) return failed("stat");
        if (!S_ISDIR(there.st_mode)) return {};
        const sys::Fd fd(::openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
        if (!fd.valid()) return failed("open");
        return mark_opaque(fd.get());
    }

    Result<> mark_opaque(int dir) {
        if (::fsetxattr(dir, detail::kOpaqueXattr, "y", 1, 0) == 0) return {};
        if (errno == EPERM && ::fsetxattr(dir, detail::kUserOpaqueXattr, "y", 1, 0) == 0) return {};
        return failed("mark the directory opaque");
    }

    // The owner first: changing it drops setuid bits and capabilities.
    Result<> set_metadata(int fd, const TarHeader& header) {
        if (::fchown(fd, header.uid, header.gid) != 0) return owner_failed(header);
        if (::fchmod(fd, header.mode) != 0) return failed("set mode");
        for (const auto& [name, value] : header.xattrs) {
            if (detail::is_overlay_xattr(name)) continue;
            if (::fsetxattr(fd, name.c_str(), value.data(), value.size(), 0) != 0) TRY(xattr_failed(name));
        }
        return {};
    }

    Result<> set_metadata_at(int parent, const std::string& name, const TarHeader& header) {
        const char* const at = name.c_str();
        struct stat here{};
        if (::fstatat(parent, at, &here, AT_SYMLINK_NOFOLLOW) != 0) return failed("stat");
        const bool other_owner = here.st_uid != header.uid || here.st_gid != header.gid;
        if (other_owner && ::fchownat(parent, at, header.uid, header.gid, AT_SYMLINK_NOFOLLOW) != 0) {
            return owner_failed(header);
        }
        if (!S_ISLNK(here.st_mode) && ::fchmodat(parent, at, header.mode, 0) != 0) return failed("set mode");
        for (const auto& [key, value] : header.xattrs) {
            if (detail::is_overlay_xattr(key)) continue;
            const std::string path = fmt::format("/proc/self/fd/{}/{}", parent, name);
            if (::lsetxattr(path.c_str(), key.c_str(), value.data(), value.size(), 0) != 0) TRY(xattr_failed(key));
        }
        const auto times = times_of(header.mtime_ns);
        if (::utimensat(parent, at, times.data(), AT_SYMLINK_NOFOLLOW) != 0) return failed("set times");
        return {};
    }

    static Error owner_failed(const TarHeader& header) {
        const int error = errno;
        auto result = fail_errno(error, fmt::format("set owner {}:{}", header.uid, header.gid));
        if (error != EINVAL && error != EPERM) return result;
        return result.with_hint(
            "without root, the ids of a layer must lie in the ranges of /etc/subuid and /etc/subgid");
    }

    // What a file system or a kind of file cannot have is left out; capabilities that are refused are an error.
    Result<> xattr_failed(const std::string& name) {
        const bool cannot = errno == ENOTSUP || (errno == EPERM && name != "security.capability");
        if (!cannot) return failed(fmt::format("set extended attribute {}", quoted(name)));
        ++stats_.skipped_xattrs;
        return {};
    }

    codec::TarReader& tar_;
    const sys::RootedDir& root_;
    const ApplyLimits& limits_;
    const Stop& stop_;
    ApplyStats stats_;
    sys::RootedDir parent_;  // of the last entry, when that was not the root
    std::string parent_path_;
    detail::KeptTime parent_time_;
    std::optional<std::int64_t> root_time_;
    std::set<std::string> implied_;
    std::string root_path_;
    LateLinks late_links_;
};

}  // namespace

Result<ApplyStats> apply_layer_tar(ByteSource& uncompressed_tar, const sys::RootedDir& layer_dir,
                                   const ApplyLimits& limits, Stop stop) {
    codec::TarLimits tar_limits;
    tar_limits.max_entries = limits.max_entries;
    codec::TarReader tar(uncompressed_tar, tar_limits);
    return Applier(tar, layer_dir, limits, stop).run();
}

}  // namespace cooper::layer
