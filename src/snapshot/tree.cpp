#include "snapshot/tree.hpp"

#include "codec/path_match.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fmt/format.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace cooper::snapshot {

namespace {

constexpr int kMaxLinks = 255;
constexpr std::size_t kMaxXattrBytes = 64UL * 1024;  // the kernel's own limit, XATTR_SIZE_MAX

std::int64_t ns(const timespec& time) { return time.tv_sec * 1'000'000'000 + time.tv_nsec; }

// list(buffer, size) and get(name, buffer, size) as the xattr calls.
template <class List, class Get>
Result<Xattrs> read_xattrs_by(List list, Get get) {
    Xattrs found;
    std::array<char, 1024> few;
    std::string many;
    const char* names = few.data();
    ssize_t size = list(few.data(), few.size());
    if (size < 0 && errno == ERANGE) {
        many.resize(kMaxXattrBytes);
        size = list(many.data(), many.size());
        names = many.data();
    }
    if (size < 0) {
        if (errno == ENOTSUP || errno == ENOENT || errno == EPERM) return found;
        return fail_errno(errno, "list extended attributes");
    }
    for (ssize_t at = 0; at < size;) {
        const std::string name(names + at);
        at += static_cast<ssize_t>(name.size()) + 1;
        if (name.starts_with("trusted.overlay.") || name.starts_with("user.overlay.")) continue;
        std::string value(256, '\0');
        ssize_t length = get(name.c_str(), value.data(), value.size());
        if (length < 0 && errno == ERANGE) {
            value.resize(kMaxXattrBytes);
            length = get(name.c_str(), value.data(), value.size());
        }
        if (length < 0) continue;  // gone since, or not ours to read
        value.resize(static_cast<std::size_t>(length));
        found.emplace_back(name, std::move(value));
    }
    std::sort(found.begin(), found.end());
    return found;
}

class EmptyDirectory final : public Directory {
public:
    EmptyDirectory() {
        self_.kind = Kind::directory;
        self_.mode = 0755;
    }
    [[nodiscard]] Result<std::vector<Entry>> list() const override { return std::vector<Entry>(); }
    [[nodiscard]] Result<std::optional<Node>> find(const std::string& /*name*/) const override {
        return std::optional<Node>();
    }
    [[nodiscard]] Result<Node> stat(const Entry& entry) const override { return missing(entry.name); }
    [[nodiscard]] Result<DirectoryRef> open_dir(const std::string& name) const override { return missing(name); }
    [[nodiscard]] Result<sys::Fd> open_file(const std::string& name, const Node& /*node*/) const override {
        return missing(name);
    }
    [[nodiscard]] Result<std::string> read_link(const std::string& name, const Node& /*node*/) const override {
        return missing(name);
    }
    [[nodiscard]] Result<Xattrs> xattrs(const std::string& name, const Node& /*node*/) const override {
        return missing(name);
    }
    [[nodiscard]] Result<Xattrs> self_xattrs() const override { return Xattrs(); }
    [[nodiscard]] int link_fd(const Node& /*node*/) const override { return -1; }
    [[nodiscard]] std::uint64_t link_domain(const Node& /*node*/) const override { return 0; }

private:
    static Error missing(const std::string& name) { return fail_errno(ENOENT, name); }
};

class EmptyTree final : public Tree {
public:
    [[nodiscard]] Result<DirectoryRef> root() const override {
        return DirectoryRef(std::make_shared<EmptyDirectory>());
    }
    [[nodiscard]] bool immutable() const override { return true; }
};

// The walk behind find() and resolve(): a stack of open directories, so that ".." is exact.
class Walk {
public:
    explicit Walk(DirectoryRef root) { stack_.push_back({std::move(root), {}}); }

    // What the walk ended at. When a component is missing, name is that component and rest what came after it.
    struct End {
        std::optional<Node> node;
        std::string name;  // empty = the directory on top of the stack
        std::string rest;
    };

    Result<End> run(std::string_view path, FollowLast follow) {
        std::string remaining(path);
        int links = 0;
        while (true) {
            const std::string part = take_part(remaining);
            if (part.empty()) return End{.node = stack_.back().dir->self()};
            if (part == "..") {
                if (stack_.size() > 1) stack_.pop_back();
                continue;
            }
            const Directory& dir = *stack_.back().dir;
            const std::optional<Node> node = TRY(dir.find(part));
            if (!node) return End{.name = part, .rest = remaining};
            const bool last = remaining.find_first_not_of('/') == std::string::npos;
            if (node->kind == Kind::symlink && (!last || follow == FollowLast::yes)) {
                if (++links > kMaxLinks) return bad_input("too many links: {}", path);
                const std::string target = TRY(dir.read_link(part, *node));
                if (target.starts_with('/')) stack_.resize(1);
                remaining = target + "/" + remaining;
                continue;
            }
            if (node->kind == Kind::directory) {
                DirectoryRef child = TRY(dir.open_dir(part));
                stack_.push_back({std::move(child), part});
                continue;
            }
            End end{.node = node, .name = part};
            if (!last) {
                end.node.reset();
                end.rest = remaining;
            }
            return end;
        }
    }

    [[nodiscard]] std::string path() const {
        std::string path;
        for (std::size_t i = 1; i < stack_.size(); ++i) path += "/" + stack_[i].name;
        return path.empty() ? "/" : path;
    }
    struct Level {
        DirectoryRef dir;
        std::string name;
    };
    std::vector<Level> stack_;

private:
    static std::string take_part(std::string& remaining) {
        std::size_t at = 0;
        while (at < remaining.size()) {
            std::size_t end = remaining.find('/', at);
            if (end == std::string::npos) end = remaining.size();
            std::string part = remaining.substr(at, end - at);
            at = std::min(end + 1, remaining.size());
            if (part.empty() || part == ".") continue;
            remaining.erase(0, at);
            return part;
        }
        remaining.clear();
        return {};
    }
};

}  // namespace

Node node_from_stat(const struct stat& st) {
    Node node;
    switch (st.st_mode & S_IFMT) {
        case S_IFDIR:
            node.kind = Kind::directory;
            break;
        case S_IFLNK:
            node.kind = Kind::symlink;
            break;
        case S_IFCHR:
            node.kind = Kind::char_device;
            break;
        case S_IFBLK:
            node.kind = Kind::block_device;
            break;
        case S_IFIFO:
            node.kind = Kind::fifo;
            break;
        case S_IFSOCK:
            node.kind = Kind::socket;
            break;
        default:
            node.kind = Kind::file;
    }
    node.mode = st.st_mode & 07777U;
    node.uid = st.st_uid;
    node.gid = st.st_gid;
    node.size = static_cast<std::uint64_t>(st.st_size);
    node.rdev = st.st_rdev;
    node.mtime_ns = ns(st.st_mtim);
    node.ctime_ns = ns(st.st_ctim);
    node.device = st.st_dev;
    node.inode = st.st_ino;
    node.links = static_cast<std::uint32_t>(st.st_nlink);
    return node;
}

std::string_view kind_name(Kind kind) {
    switch (kind) {
        case Kind::file:
            return "file";
        case Kind::directory:
            return "directory";
        case Kind::symlink:
            return "symbolic link";
        case Kind::char_device:
            return "character device";
        case Kind::block_device:
            return "block device";
        case Kind::fifo:
            return "fifo";
        case Kind::socket:
            return "socket";
    }
    UNREACHABLE();
}

Result<Xattrs> read_xattrs(int fd) {
    return read_xattrs_by(
        [&](char* buffer, std::size_t size) { return ::flistxattr(fd, buffer, size); },
        [&](const char* name, void* value, std::size_t size) { return ::fgetxattr(fd, name, value, size); });
}

// There is no getxattrat() before Linux 6.13; a directory descriptor's name in /proc serves.
Result<Xattrs> read_xattrs_at(int dir_fd, const std::string& name) {
    const std::string path = fmt::format("/proc/self/fd/{}/{}", dir_fd, name);
    return read_xattrs_by(
        [&](char* buffer, std::size_t size) { return ::llistxattr(path.c_str(), buffer, size); },
        [&](const char* key, void* value, std::size_t size) { return ::lgetxattr(path.c_str(), key, value, size); });
}

Result<std::optional<Found>> Tree::find(std::string_view path, FollowLast follow) const {
    Walk walk(TRY(root()));
    Walk::End end = TRY(walk.run(path, follow));
    if (!end.node) return std::optional<Found>();
    Found found;
    found.node = *end.node;
    found.path = walk.path();
    found.name = end.name;
    if (!end.name.empty()) {
        found.path = (found.path == "/" ? "" : found.path) + "/" + end.name;
        found.parent = walk.stack_.back().dir;
    } else if (walk.stack_.size() > 1) {
        found.name = walk.stack_.back().name;
        found.parent = walk.stack_[walk.stack_.size() - 2].dir;
    } else {
        found.parent = walk.stack_.back().dir;
    }
    return std::optional<Found>(std::move(found));
}

Result<DirectoryRef> Tree::open_dir(const Found& found) const {
    if (found.name.empty()) return found.parent;
    return found.parent->open_dir(found.name);
}

Result<std::optional<std::string>> Tree::read_file(std::string_view path, std::size_t limit_bytes) const {
    const auto found = TRY(find(path, FollowLast::yes));
    if (!found || found->node.kind != Kind::file) return std::optional<std::string>();
    const sys::Fd fd = TRY(found->parent->open_file(found->name, found->node));
    return std::optional<std::string>(TRY_CONTEXT(sys::read_to_end(fd.get(), limit_bytes), "{}", path));
}

Result<std::string> Tree::resolve(std::string_view path) const {
    Walk walk(TRY(root()));
    const Walk::End end = TRY(walk.run(path, FollowLast::yes));
    if (end.name.empty()) return walk.path();
    return codec::rooted_path(walk.path() + "/" + end.name + "/" + end.rest);
}

TreeRef empty_tree() { return std::make_shared<EmptyTree>(); }

}  // namespace cooper::snapshot
