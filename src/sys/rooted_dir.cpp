#include "sys/rooted_dir.hpp"

#include <array>
#include <cerrno>
#include <dirent.h>
#include <fmt/format.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace cooper::sys {

namespace {

constexpr int kMaxRaces = 100'000;

int openat2_in_root(int root, const char* path, int flags, mode_t mode) {
    open_how how{};
    how.flags = static_cast<std::uint64_t>(flags) | O_CLOEXEC;
    how.mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? mode : 0;
    how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
    for (int again = 0;;) {
        const auto fd = static_cast<int>(::syscall(SYS_openat2, root, path, &how, sizeof how));
        if (fd >= 0) return fd;
        // EAGAIN: a rename elsewhere raced with the walk; the kernel asks to try again. It asks for ever where the
        // mount that the root is of has been taken apart.
        if (errno == EAGAIN && ++again < kMaxRaces) continue;
        if (errno != EINTR) return fd;
    }
}

std::string strip(std::string_view path) {
    while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
    return path.empty() ? std::string(".") : std::string(path);
}

}  // namespace

Result<RootedDir> RootedDir::open_host(const std::string& host_path) {
    Fd fd(::open(host_path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!fd.valid()) return fail_errno(errno, host_path);
    // O_PATH first keeps a FIFO or device from being opened; then a descriptor that can be read.
    Fd readable(::openat(fd.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!readable.valid()) return fail_errno(errno, host_path);
    return RootedDir(std::move(readable));
}

Result<Fd> RootedDir::open(std::string_view path, int flags, Follow follow, mode_t mode) const {
    const std::string name = strip(path);
    if (name.find('\0') != std::string::npos) return bad_input("path contains a NUL byte");
    if (follow == Follow::no) flags |= O_NOFOLLOW;
    Fd fd(openat2_in_root(dir_.get(), name.c_str(), flags, mode));
    if (!fd.valid()) return fail_errno(errno, name);
    return fd;
}

Result<RootedDir> RootedDir::open_dir(std::string_view path) const {
    return RootedDir(TRY(open(path, O_RDONLY | O_DIRECTORY, Follow::yes, 0)));
}

Result<struct stat> RootedDir::stat(std::string_view path, Follow follow) const {
    const Fd fd = TRY(open(path, O_PATH, follow, 0));
    struct stat st{};
    if (::fstat(fd.get(), &st) != 0) return fail_errno(errno, std::string(path));
    return st;
}

Result<std::string> RootedDir::read_link(std::string_view path) const {
    const Fd fd = TRY(open(path, O_PATH, Follow::no, 0));
    std::array<char, 4096> buffer{};
    const ssize_t n = ::readlinkat(fd.get(), "", buffer.data(), buffer.size());
    if (n < 0) return fail_errno(errno, std::string(path));
    return std::string(buffer.data(), static_cast<std::size_t>(n));
}

Result<std::string> RootedDir::read_file(std::string_view path, std::size_t limit_bytes) const {
    const Fd fd = TRY(open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY, Follow::yes, 0));
    struct stat st{};
    if (::fstat(fd.get(), &st) != 0) return fail_errno(errno, std::string(path));
    if (!S_ISREG(st.st_mode)) return bad_input("not a regular file: {}", path);
    return TRY_CONTEXT(read_to_end(fd.get(), limit_bytes), "{}", path);
}

Result<RootedDir::Parent> RootedDir::parent_of(std::string_view path) const {
    const std::string clean = strip(path);
    const std::size_t slash = clean.rfind('/');
    const std::string name = slash == std::string::npos ? clean : clean.substr(slash + 1);
    if (name.empty() || name == "." || name == "..") return bad_input("path has no last component: {}", clean);
    const std::string dir = slash == std::string::npos ? "." : clean.substr(0, slash + 1);
    Parent parent;
    parent.dir = TRY(open(dir, O_RDONLY | O_DIRECTORY, Follow::yes, 0));
    parent.name = name;
    return parent;
}

Result<> RootedDir::make_dirs(std::string_view path, mode_t mode) const {
    std::string so_far;
    std::size_t start = 0;
    while (start < path.size()) {
        std::size_t end = path.find('/', start);
        if (end == std::string_view::npos) end = path.size();
        const std::string_view part = path.substr(start, end - start);
        start = end + 1;
        if (part.empty() || part == ".") continue;
        so_far += "/";
        so_far += part;
        if (part == "..") continue;
        if (const auto present = stat(so_far, Follow::yes); present) {
            if (!S_ISDIR(present->st_mode)) return fail_errno(ENOTDIR, so_far);
            continue;
        }
        const Parent parent = TRY(parent_of(so_far));
        if (::mkdirat(parent.dir.get(), parent.name.c_str(), mode) != 0) {
            if (errno == EEXIST) continue;
            return fail_errno(errno, "create directory " + so_far);
        }
        // mkdir applies the umask; the mode asked for is the mode wanted.
        if (::fchmodat(parent.dir.get(), parent.name.c_str(), mode, 0) != 0) {
            return fail_errno(errno, "set mode of " + so_far);
        }
    }
    return {};
}

Result<> RootedDir::remove_all(std::string_view path) const {
    auto parent = parent_of(path);
    if (!parent) {
        if (parent.error().code() == Code::not_found) return {};
        return parent.error();
    }
    return remove_tree_at(parent->dir.get(), parent->name);
}

Result<std::vector<DirEntry>> list_dir(int dir_fd) {
    const int copy = ::openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (copy < 0) return fail_errno(errno, "open directory");
    DIR* dir = ::fdopendir(copy);
    if (dir == nullptr) {
        ::close(copy);
        return fail_errno(errno, "read directory");
    }
    std::vector<DirEntry> entries;
    errno = 0;
    while (const dirent* entry = ::readdir(dir)) {
        const std::string_view name = entry->d_name;
        if (name != "." && name != "..") entries.push_back({std::string(name), entry->d_type});
        errno = 0;
    }
    const int error = errno;
    ::closedir(dir);
    if (error != 0) return fail_errno(error, "read directory");
    return entries;
}

Result<> remove_tree_at(int dir_fd, const std::string& name) {
    if (::unlinkat(dir_fd, name.c_str(), 0) == 0 || errno == ENOENT) return {};
    if (errno != EISDIR && errno != EPERM) return fail_errno(errno, "remove " + name);
    const Fd child(::openat(dir_fd, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!child.valid()) return fail_errno(errno, "remove " + name);
    for (const auto& entry : TRY(list_dir(child.get()))) TRY(remove_tree_at(child.get(), entry.name));
    if (::unlinkat(dir_fd, name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT) {
        return fail_errno(errno, "remove " + name);
    }
    return {};
}

}  // namespace cooper::sys
