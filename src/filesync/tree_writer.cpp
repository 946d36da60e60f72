#include "filesync/detail/tree_writer.hpp"

#include "base/text.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/openat2.h>
#include <random>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace cooper::filesync::detail {

namespace {

using snapshot::Kind;

constexpr std::size_t kMaxDepth = 700;  // one descriptor each
constexpr std::size_t kMaxPath = 4096;
constexpr std::size_t kMaxName = 255;
constexpr std::int64_t kSecond = 1'000'000'000;

Result<sys::Fd> open_beneath(int root, const std::string& path, int flags) {
    struct open_how how{};
    how.flags = static_cast<std::uint64_t>(flags | O_CLOEXEC | O_NOFOLLOW);
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
    sys::Fd fd(static_cast<int>(::syscall(SYS_openat2, root, path.empty() ? "." : path.c_str(), &how, sizeof how)));
    if (!fd.valid()) return fail_errno(errno, quoted(path));
    return fd;
}

std::pair<std::string, std::string> split_path(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    if (slash == std::string::npos) return {"", path};
    return {path.substr(0, slash), path.substr(slash + 1)};
}

timespec to_timespec(std::int64_t ns) {
    timespec time{.tv_sec = ns / kSecond, .tv_nsec = ns % kSecond};
    if (time.tv_nsec < 0) {
        --time.tv_sec;
        time.tv_nsec += kSecond;
    }
    return time;
}
std::array<timespec, 2> times_of(const Stat& stat) { return {to_timespec(stat.mtime_ns), to_timespec(stat.mtime_ns)}; }

// Without privileges all owners but one's own fail, and that one need not be set.
bool owner_matters(const Stat& stat) {
    static const uid_t uid = ::geteuid();
    static const gid_t gid = ::getegid();
    return uid == 0 || stat.uid != uid || stat.gid != gid;
}
bool is_root() {
    static const bool root = ::geteuid() == 0;
    return root;
}

// What the file system does not take is left out; overlayfs would take its own attributes for orders.
bool may_set(const std::string& xattr) {
    return !xattr.starts_with("trusted.overlay.") && !xattr.starts_with("user.overlay.");
}
void set_xattrs(int fd, const Stat& stat) {
    for (const auto& [name, value] : stat.xattrs) {
        if (may_set(name)) ::fsetxattr(fd, name.c_str(), value.data(), value.size(), 0);
    }
}
void set_xattrs_at(int dir, const std::string& name, const Stat& stat) {
    if (stat.xattrs.empty()) return;
    const std::string path = fmt::format("/proc/self/fd/{}/{}", dir, name);
    for (const auto& [key, value] : stat.xattrs) {
        if (may_set(key)) ::lsetxattr(path.c_str(), key.c_str(), value.data(), value.size(), 0);
    }
}

Result<> set_metadata(int fd, const Stat& stat) {
    if (owner_matters(stat) && ::fchown(fd, stat.uid, stat.gid) != 0) return fail_errno(errno, "set owner");
    if (::fchmod(fd, permissions_of_mode(stat.mode)) != 0) return fail_errno(errno, "set mode");
    set_xattrs(fd, stat);
    if (::futimens(fd, times_of(stat).data()) != 0) return fail_errno(errno, "set time");
    return {};
}

Result<> set_metadata_at(int dir, const std::string& name, const Stat& stat, Kind kind) {
    if (owner_matters(stat) && ::fchownat(dir, name.c_str(), stat.uid, stat.gid, AT_SYMLINK_NOFOLLOW) != 0) {
        return fail_errno(errno, "set owner");
    }
    // Right after it was made in a directory that is ours: it is no link.
    if (kind != Kind::symlink && ::fchmodat(dir, name.c_str(), permissions_of_mode(stat.mode), 0) != 0) {
        return fail_errno(errno, "set mode");
    }
    set_xattrs_at(dir, name, stat);
    if (::utimensat(dir, name.c_str(), times_of(stat).data(), AT_SYMLINK_NOFOLLOW) != 0) {
        return fail_errno(errno, "set time");
    }
    return {};
}

std::string temporary_name() {
    static std::atomic<std::uint64_t> next = std::random_device()() % 1'000'000'000;
    return fmt::format(".tmp.{:09}", next++ % 1'000'000'000);
}

// Calls make(name) with fresh names until it says something else than EEXIST.
template <class Make>
Result<std::string> make_temporary(Make make) {
    for (int i = 0; i < 100; ++i) {
        std::string name = temporary_name();
        if (make(name)) return name;
        if (errno != EEXIST) break;
    }
    return fail_errno(errno, "create");
}

bool same_metadata(const struct stat& old, const Stat& stat) {
    return (old.st_mode & 07777U) == permissions_of_mode(stat.mode) && old.st_uid == stat.uid && old.st_gid == stat.gid;
}
bool same_time(const struct stat& old, const Stat& stat) {
    const timespec time = to_timespec(stat.mtime_ns);
    return old.st_mtim.tv_sec == time.tv_sec && old.st_mtim.tv_nsec == time.tv_nsec;
}

}  // namespace

int compare_paths(std::string_view a, std::string_view b) {
    const std::size_t common = std::min(a.size(), b.size());
    for (std::size_t i = 0; i < common; ++i) {
        if (a[i] == b[i]) continue;
        if (a[i] == '/') return -1;
        if (b[i] == '/') return 1;
        return static_cast<unsigned char>(a[i]) < static_cast<unsigned char>(b[i]) ? -1 : 1;
    }
    return a.size() == b.size() ? 0 : a.size() < b.size() ? -1 : 1;
}

// --- ParentCache, IncomingFile

Result<std::shared_ptr<const sys::Fd>> ParentCache::parent_of(const std::string& path) {
    std::string parent = split_path(path).first;
    if (fd_ == nullptr || parent != path_) {
        fd_ = std::make_shared<const sys::Fd>(TRY(open_beneath(root_.fd(), parent, O_PATH | O_DIRECTORY)));
        path_ = std::move(parent);
    }
    return fd_;
}

IncomingFile::~IncomingFile() {
    if (fd_.valid() && !complete_) ::unlinkat(parent_->get(), name_.c_str(), 0);
}

Result<> IncomingFile::open(ParentCache& parents) {
    parent_ = TRY(parents.parent_of(stat_.path));
    const auto create = [&](const std::string& name) {
        fd_ =
            sys::Fd(::openat(parent_->get(), name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
        return fd_.valid();
    };
    if (place_ == Place::taken) {
        name_ = TRY(make_temporary(create));
        return {};
    }
    name_ = split_path(stat_.path).second;
    if (!create(name_)) return fail_errno(errno, "create");
    return {};
}

Result<> IncomingFile::write(ParentCache& parents, std::string_view data) {
    if (!fd_.valid()) TRY_CONTEXT(open(parents), "{}", quoted(path()));
    TRY_CONTEXT(sys::write_all(fd_.get(), data), "write {}", quoted(path()));
    return {};
}

Result<> IncomingFile::complete(ParentCache& parents) {
    if (!fd_.valid()) TRY_CONTEXT(open(parents), "{}", quoted(path()));
    TRY_CONTEXT(set_metadata(fd_.get(), stat_), "{}", quoted(path()));
    if (place_ == Place::taken) {
        const std::string name = split_path(stat_.path).second;
        if (::renameat(parent_->get(), name_.c_str(), parent_->get(), name.c_str()) != 0) {
            return fail_errno(errno, "replace " + quoted(path()));
        }
    }
    complete_ = true;
    TRY_CONTEXT(std::move(fd_).close(), "write {}", quoted(path()));
    return {};
}

// --- TreeWriter

struct TreeWriter::Level {
    std::string path;  // "" or "a/b"
    Stat stat;         // not of the root
    sys::Fd fd;        // not before it is needed
    bool existed = false;
    std::vector<std::string> old;  // what was there, sorted; with Others::remove
    std::size_t next_old = 0;
};

struct TreeWriter::MadeDir {
    Stat stat;
};

struct TreeWriter::Link {
    std::string path;
    std::string target;
};

// The list of a transfer of metadata, under a temporary name until it is complete.
class TreeWriter::MetadataList {
public:
    explicit MetadataList(const sys::RootedDir& dest) : dest_(dest) {}
    ~MetadataList() {
        if (fd_.valid()) ::unlinkat(dest_.fd(), name_.c_str(), 0);
    }
    Result<> add(const Stat& stat) {
        const std::string bytes = stat_bytes(stat);
        const auto size = static_cast<std::uint32_t>(bytes.size());
        for (unsigned shift = 0; shift < 32; shift += 8) pending_ += static_cast<char>((size >> shift) & 0xFFU);
        pending_ += bytes;
        if (pending_.size() < kFlushBytes) return {};
        return flush();
    }
    Result<> finish() {
        TRY(flush());
        if (::renameat(dest_.fd(), name_.c_str(), dest_.fd(), std::string(kMetadataFile).c_str()) != 0) {
            return fail_errno(errno, "create " + std::string(kMetadataFile));
        }
        return std::move(fd_).close();
    }

private:
    static constexpr std::size_t kFlushBytes = 1 << 20;
    Result<> flush() {
        if (!fd_.valid()) {
            name_ = TRY(make_temporary([&](const std::string& name) {
                fd_ = sys::Fd(
                    ::openat(dest_.fd(), name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
                return fd_.valid();
            }));
        }
        TRY(sys::write_all(fd_.get(), pending_));
        pending_.clear();
        return {};
    }

    const sys::RootedDir& dest_;
    std::string name_;
    sys::Fd fd_;
    std::string pending_;
};

TreeWriter::TreeWriter(const sys::RootedDir& dest, const ReceiveOptions& options, ReceiveStats& stats)
    : dest_(dest), options_(options), stats_(stats) {
    levels_.emplace_back();
    levels_.back().existed = true;
    if (options.materialize) metadata_ = std::make_unique<MetadataList>(dest);
}
TreeWriter::~TreeWriter() = default;

Result<> TreeWriter::check(const Stat& stat) const {
    const std::string& path = stat.path;
    if (path.empty() || path.size() > kMaxPath || path.contains('\0')) return bad_input("bad path {}", quoted(path));
    std::size_t depth = 0;
    for (const std::string& name : split(path, '/')) {
        if (name.empty() || name == "." || name == ".." || name.size() > kMaxName) {
            return bad_input("bad path {}", quoted(path));
        }
        if (++depth > kMaxDepth) return bad_input("directories are nested deeper than {}", kMaxDepth);
    }
    if (compare_paths(last_path_, path) >= 0) {
        return bad_input("entries are out of order: {} after {}", quoted(path), quoted(last_path_));
    }
    if (stat.linkname.size() > kMaxPath || stat.linkname.contains('\0')) {
        return bad_input("bad link target {} of {}", quoted(stat.linkname), quoted(path));
    }
    if (stat.size < 0) return bad_input("size {} of {}", stat.size, quoted(path));
    return {};
}

Result<std::unique_ptr<IncomingFile>> TreeWriter::add(const Stat& offered) {
    TRY(check(offered));
    const Kind kind = TRY_CONTEXT(kind_of_mode(offered.mode), "{}", quoted(offered.path));
    TRY(leave_levels(offered.path));
    last_path_ = offered.path;
    Stat stat = offered;
    if (options_.adjust) options_.adjust(stat);
    const auto [parent, name] = split_path(stat.path);
    if (kind == Kind::directory) {
        Level level;
        level.path = stat.path;
        level.stat = stat;
        levels_.push_back(std::move(level));
    }
    if (metadata_ != nullptr) {
        TRY(metadata_->add(offered));
        if (!options_.materialize(stat.path)) return std::unique_ptr<IncomingFile>();
    }
    const std::size_t holder = levels_.size() - (kind == Kind::directory ? 2 : 1);
    TRY(make_level(holder));
    Level& level = levels_[holder];
    switch (kind) {
        case Kind::directory:
            TRY(make_level(holder + 1));
            break;
        case Kind::file:
            return TRY_CONTEXT(add_file(level, name, std::move(stat)), "{}", quoted(last_path_));
        case Kind::symlink:
            TRY_CONTEXT(add_symlink(level, name, stat), "{}", quoted(last_path_));
            break;
        case Kind::char_device:
        case Kind::block_device:
        case Kind::fifo:
            TRY_CONTEXT(add_special(level, name, stat, kind), "{}", quoted(last_path_));
            break;
        case Kind::socket:
            ++stats_.left_out;
            break;
    }
    return std::unique_ptr<IncomingFile>();
}

// Until the directory that must hold path is the last one.
Result<> TreeWriter::leave_levels(const std::string& path) {
    const std::string parent = split_path(path).first;
    while (levels_.size() > 1 && levels_.back().path != parent) {
        const std::string& left = levels_.back().path;
        if (parent.starts_with(left) && parent.size() > left.size() && parent[left.size()] == '/') break;
        TRY(leave_level());
    }
    if (levels_.back().path != parent) {
        return bad_input("entry {} is below {}, which is no directory of this transfer", quoted(path), quoted(parent));
    }
    return {};
}

Result<> TreeWriter::leave_level() {
    Level& level = levels_.back();
    for (; level.next_old < level.old.size(); ++level.next_old) {
        TRY_CONTEXT(sys::remove_tree_at(level.fd.get(), level.old[level.next_old]), "{}", quoted(level.path));
        ++stats_.removed;
    }
    if (levels_.size() > 1 && level.fd.valid()) dirs_.push_back({.stat = std::move(level.stat)});
    levels_.pop_back();
    return {};
}

Result<> TreeWriter::make_level(std::size_t index) {
    Level& level = levels_[index];
    if (level.fd.valid()) return {};
    if (index == 0) {
        level.fd = TRY(open_beneath(dest_.fd(), "", O_RDONLY | O_DIRECTORY));
    } else {
        TRY(make_level(index - 1));
        Level& above = levels_[index - 1];
        const std::string name = split_path(level.path).second;
        const auto old = TRY(claim(above, name));
        level.existed = old && S_ISDIR(old->st_mode);
        if (level.existed && !is_root() && (old->st_mode & 0700U) != 0700U) {
            // Of a directory of another's: what may be done in it is seen when it is done.
            [[maybe_unused]] const int tried =
                ::fchmodat(above.fd.get(), name.c_str(), (old->st_mode & 07777U) | 0700U, 0);
        }
        if (!level.existed) {
            if (old) TRY(sys::remove_tree_at(above.fd.get(), name));
            if (::mkdirat(above.fd.get(), name.c_str(), 0700) != 0) {
                return fail_errno(errno, "create " + quoted(level.path));
            }
        }
        level.fd = TRY(open_beneath(above.fd.get(), name, O_RDONLY | O_DIRECTORY));
    }
    if (level.existed && options_.others == Others::remove) {
        for (auto& entry : TRY(sys::list_dir(level.fd.get()))) level.old.push_back(std::move(entry.name));
        std::sort(level.old.begin(), level.old.end());
    }
    return {};
}

// What is there under the name; what comes before it and was not offered goes.
Result<std::optional<struct stat>> TreeWriter::claim(Level& level, const std::string& name) {
    std::optional<struct stat> none;
    if (!level.existed) return none;
    if (options_.others == Others::remove) {
        for (; level.next_old < level.old.size() && level.old[level.next_old] < name; ++level.next_old) {
            TRY(sys::remove_tree_at(level.fd.get(), level.old[level.next_old]));
            ++stats_.removed;
        }
        if (level.next_old == level.old.size() || level.old[level.next_old] != name) return none;
        ++level.next_old;
    }
    struct stat st{};
    if (::fstatat(level.fd.get(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0) return std::optional(st);
    if (errno == ENOENT) return none;
    return fail_errno(errno, "stat");
}

// Two names of one file on disk that are offered as two files.
bool TreeWriter::is_second_name(const struct stat& st) {
    return st.st_nlink > 1 && !shared_inodes_.insert(st.st_ino).second;
}

Result<std::unique_ptr<IncomingFile>> TreeWriter::add_file(Level& level, const std::string& name, Stat stat) {
    if (!stat.linkname.empty()) {
        if (files_.contains(std::hash<std::string>()(stat.linkname))) {
            // Claimed, so that it stays until the link is made.
            const auto old = TRY(claim(level, name));
            if (old && S_ISDIR(old->st_mode)) TRY(sys::remove_tree_at(level.fd.get(), name));
            links_.push_back({.path = std::move(stat.path), .target = std::move(stat.linkname)});
            return std::unique_ptr<IncomingFile>();
        }
        // Only a transfer of metadata leaves out what others are links of.
        if (metadata_ == nullptr) {
            return bad_input("a hard link of {}, which is no earlier file of this transfer", quoted(stat.linkname));
        }
        stat.linkname.clear();
    }
    files_.insert(std::hash<std::string>()(stat.path));
    auto old = TRY(claim(level, name));
    const bool same = old && S_ISREG(old->st_mode) && options_.compare == Compare::metadata &&
                      old->st_size == stat.size && same_time(*old, stat) && same_metadata(*old, stat);
    if (same && !is_second_name(*old)) return std::unique_ptr<IncomingFile>();
    if (old && S_ISDIR(old->st_mode)) {
        TRY(sys::remove_tree_at(level.fd.get(), name));
        old.reset();
    }
    return std::make_unique<IncomingFile>(std::move(stat),
                                          old ? IncomingFile::Place::taken : IncomingFile::Place::free);
}

// make(name) creates what is wanted under that name and says whether it could. False: not allowed.
template <class Make>
Result<bool> TreeWriter::place(const Level& level, const std::string& name, const std::optional<struct stat>& old,
                               Make make) {
    const int dir = level.fd.get();
    if (old && S_ISDIR(old->st_mode)) TRY(sys::remove_tree_at(dir, name));
    if (!old || S_ISDIR(old->st_mode)) {
        if (TRY(make(name))) return true;
        if (errno == EPERM || errno == EACCES) return false;
        return fail_errno(errno, "create");
    }
    bool denied = false;
    std::optional<Error> error;
    const auto temporary = make_temporary([&](const std::string& at) {
        Result<bool> made = make(at);
        if (!made) error = made.error();
        denied = made && !*made && (errno == EPERM || errno == EACCES);
        return !made || *made || denied;
    });
    if (error) {
        if (temporary) ::unlinkat(dir, temporary->c_str(), 0);
        return *error;
    }
    if (denied) return false;
    const std::string from = TRY(std::move(temporary));
    if (::renameat(dir, from.c_str(), dir, name.c_str()) == 0) return true;
    const int why = errno;
    ::unlinkat(dir, from.c_str(), 0);
    return fail_errno(why, "replace");
}

Result<> TreeWriter::add_symlink(Level& level, const std::string& name, const Stat& stat) {
    if (stat.linkname.empty()) return bad_input("a symbolic link without a target");
    const auto old = TRY(claim(level, name));
    if (old && S_ISLNK(old->st_mode) && options_.compare == Compare::metadata && same_time(*old, stat) &&
        old->st_uid == stat.uid && old->st_gid == stat.gid) {
        std::string target(kMaxPath, '\0');
        const ssize_t size = ::readlinkat(level.fd.get(), name.c_str(), target.data(), target.size());
        if (size >= 0 && std::string_view(target).substr(0, static_cast<std::size_t>(size)) == stat.linkname) return {};
    }
    const bool made = TRY(place(level, name, old, [&](const std::string& at) -> Result<bool> {
        if (::symlinkat(stat.linkname.c_str(), level.fd.get(), at.c_str()) != 0) return false;
        TRY(set_metadata_at(level.fd.get(), at, stat, Kind::symlink));
        return true;
    }));
    if (!made) return fail_errno(EPERM, "create");
    return {};
}

Result<> TreeWriter::add_special(Level& level, const std::string& name, const Stat& stat, Kind kind) {
    const mode_t type = kind == Kind::fifo ? S_IFIFO : kind == Kind::char_device ? S_IFCHR : S_IFBLK;
    constexpr std::int64_t kMaxNumber = 0xFFFFFFFF;
    if (stat.devmajor < 0 || stat.devminor < 0 || stat.devmajor > kMaxNumber || stat.devminor > kMaxNumber) {
        return bad_input("device number {}:{}", stat.devmajor, stat.devminor);
    }
    const dev_t device =
        kind == Kind::fifo ? 0 : makedev(static_cast<unsigned>(stat.devmajor), static_cast<unsigned>(stat.devminor));
    const auto old = TRY(claim(level, name));
    if (old && (old->st_mode & S_IFMT) == type && old->st_rdev == device && options_.compare == Compare::metadata &&
        same_time(*old, stat) && same_metadata(*old, stat)) {
        return {};
    }
    const bool made = TRY(place(level, name, old, [&](const std::string& at) -> Result<bool> {
        if (::mknodat(level.fd.get(), at.c_str(), type | 0600U, device) != 0) return false;
        TRY(set_metadata_at(level.fd.get(), at, stat, kind));
        return true;
    }));
    if (!made && options_.devices == Devices::require) return fail_errno(EPERM, "create");
    if (!made) ++stats_.left_out;
    return {};
}

Result<> TreeWriter::end() {
    TRY(make_level(0));
    while (!levels_.empty()) TRY(leave_level());
    return {};
}

Result<> TreeWriter::finish() {
    ParentCache parents(dest_);
    ParentCache targets(dest_);
    for (const Link& link : links_) TRY_CONTEXT(make_link(link, parents, targets), "{}", quoted(link.path));
    for (const MadeDir& dir : dirs_) TRY_CONTEXT(finish_dir(dir), "{}", quoted(dir.stat.path));
    if (metadata_ != nullptr) TRY(metadata_->finish());
    return {};
}

Result<> TreeWriter::make_link(const Link& link, ParentCache& parents, ParentCache& targets) {
    const auto parent = TRY(parents.parent_of(link.path));
    const auto target_parent = TRY(targets.parent_of(link.target));
    const std::string name = split_path(link.path).second;
    const std::string target = split_path(link.target).second;
    struct stat wanted{};
    if (::fstatat(target_parent->get(), target.c_str(), &wanted, AT_SYMLINK_NOFOLLOW) != 0 ||
        !S_ISREG(wanted.st_mode)) {
        return bad_input("a hard link of {}, which is no file", quoted(link.target));
    }
    struct stat old{};
    const bool taken = ::fstatat(parent->get(), name.c_str(), &old, AT_SYMLINK_NOFOLLOW) == 0;
    if (taken && old.st_ino == wanted.st_ino && old.st_dev == wanted.st_dev) return {};
    const auto make = [&](const std::string& at) {
        return ::linkat(target_parent->get(), target.c_str(), parent->get(), at.c_str(), 0) == 0;
    };
    if (!taken) {
        if (!make(name)) return fail_errno(errno, "link");
        return {};
    }
    const std::string temporary = TRY(make_temporary(make));
    if (::renameat(parent->get(), temporary.c_str(), parent->get(), name.c_str()) == 0) return {};
    const int why = errno;
    ::unlinkat(parent->get(), temporary.c_str(), 0);
    return fail_errno(why, "replace");
}

Result<> TreeWriter::finish_dir(const MadeDir& dir) const {
    const sys::Fd fd = TRY(open_beneath(dest_.fd(), dir.stat.path, O_RDONLY | O_DIRECTORY));
    struct stat st{};
    if (::fstat(fd.get(), &st) != 0) return fail_errno(errno, "stat");
    if (dir.stat.xattrs.empty() && same_metadata(st, dir.stat) && same_time(st, dir.stat)) return {};
    return set_metadata(fd.get(), dir.stat);
}

}  // namespace cooper::filesync::detail
