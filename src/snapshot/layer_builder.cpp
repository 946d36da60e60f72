#include "snapshot/layer_builder.hpp"

#include "codec/path_match.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace cooper::snapshot {

namespace {

constexpr std::size_t kStreamChunk = 256UL * 1024;
constexpr std::size_t kCopyChunk = 64UL * 1024;
// From this size on the kernel copies (it may clone); below, read and write cost less.
constexpr std::uint64_t kKernelCopyFrom = 256UL * 1024;

timespec to_timespec(std::int64_t ns) {
    std::int64_t seconds = ns / 1'000'000'000;
    std::int64_t rest = ns % 1'000'000'000;
    if (rest < 0) rest += 1'000'000'000, --seconds;
    return {.tv_sec = seconds, .tv_nsec = rest};
}

Result<> set_times(int fd, const char* name, std::int64_t mtime_ns) {
    const timespec time = to_timespec(mtime_ns);
    const std::array<timespec, 2> times{time, time};
    const int failed =
        name == nullptr ? ::futimens(fd, times.data()) : ::utimensat(fd, name, times.data(), AT_SYMLINK_NOFOLLOW);
    if (failed != 0) return fail_errno(errno, "set times");
    return {};
}

// Attributes the file system or our privileges do not allow are dropped, as BuildKit's copy does.
void set_xattrs(int fd, const Xattrs& xattrs) {
    for (const auto& [name, value] : xattrs) {
        [[maybe_unused]] const int failed = ::fsetxattr(fd, name.c_str(), value.data(), value.size(), 0);
    }
}
void set_xattrs_at(int dir_fd, const std::string& name, const Xattrs& xattrs) {
    if (xattrs.empty()) return;
    const std::string path = fmt::format("/proc/self/fd/{}/{}", dir_fd, name);
    for (const auto& [key, value] : xattrs) {
        [[maybe_unused]] const int failed = ::lsetxattr(path.c_str(), key.c_str(), value.data(), value.size(), 0);
    }
}

// Owner first: chown clears setuid bits and file capabilities.
bool owned_already(const Meta& meta) { return meta.uid == ::geteuid() && meta.gid == ::getegid(); }

enum class Owned : std::uint8_t { unknown, by_us };

Result<> apply_meta(int fd, const Meta& meta, Owned owned, std::uint32_t created_mode, const std::string& name) {
    if (!(owned == Owned::by_us && owned_already(meta)) && ::fchown(fd, meta.uid, meta.gid) != 0) {
        return fail_errno(errno, "set owner of " + name);
    }
    if (created_mode != meta.mode && ::fchmod(fd, meta.mode) != 0) return fail_errno(errno, "set mode of " + name);
    set_xattrs(fd, meta.xattrs);
    if (meta.mtime_ns) TRY(set_times(fd, nullptr, *meta.mtime_ns));
    return {};
}

constexpr std::size_t kAskedAtOnce = 1U << 20U;

std::uint64_t in_blocks(std::uint64_t bytes) { return (bytes + 4095) / 4096 * 4096; }

Result<std::uint64_t> copy_bytes(int from, int to, const std::string& name, const LayerBuilder::BeforeWrite& ask) {
    std::uint64_t total = 0;
    std::array<std::byte, kCopyChunk> buffer;
    while (true) {
        const std::size_t n = TRY_CONTEXT(sys::read_some(from, buffer), "copy {}", name);
        if (n == 0) return total;
        if (ask) TRY(ask(in_blocks(n)));
        TRY_CONTEXT(sys::write_all(to, std::span(buffer).first(n)), "copy {}", name);
        total += n;
        if (n < buffer.size() && total < kCopyChunk) return total;  // the end of a small regular file
        if (total < kKernelCopyFrom) continue;
        while (true) {
            if (ask) TRY(ask(kAskedAtOnce));
            const ssize_t copied = ::copy_file_range(from, nullptr, to, nullptr, ask ? kAskedAtOnce : 1UL << 30U, 0);
            if (copied < 0) break;  // another file system: go on by hand
            if (copied == 0) return total;
            total += static_cast<std::uint64_t>(copied);
        }
    }
}

Result<Meta> meta_of(const Directory& dir) {
    const Node& node = dir.self();
    Meta meta{.uid = node.uid, .gid = node.gid, .mode = node.mode, .mtime_ns = node.mtime_ns};
    meta.xattrs = TRY(dir.self_xattrs());
    return meta;
}

bool stat_at(int fd, const std::string& name, struct stat& st) {
    return ::fstatat(fd, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0;
}
bool is_whiteout(const struct stat& st) { return S_ISCHR(st.st_mode) && st.st_rdev == 0; }

// Makes room for a new name: a whiteout of this layer gives way. True when there was one.
Result<bool> drop_whiteout(int fd, const std::string& name) {
    struct stat st{};
    if (!stat_at(fd, name, st) || !is_whiteout(st)) return false;
    if (::unlinkat(fd, name.c_str(), 0) != 0) return fail_errno(errno, "replace " + name);
    return true;
}

std::string below(const std::string& dir, const std::string& name) { return (dir == "/" ? "" : dir) + "/" + name; }

Error exists(const std::string& path) { return fail(Code::already_exists, Blame::user, "{}: already exists", path); }

}  // namespace

WritableDir::WritableDir(LayerBuilder& owner, sys::Fd fd, DirectoryRef base, std::string path)
    : owner_(owner), fd_(std::move(fd)), base_(std::move(base)), path_(std::move(path)) {
    struct stat st{};
    inherits_group_ = ::fstat(fd_.get(), &st) != 0 || (st.st_mode & S_ISGID) != 0;
}

Result<bool> WritableDir::base_has(const std::string& name) const {
    if (!base_) return false;
    const auto node = TRY(base_->find(name));
    return node.has_value();
}

Result<std::optional<Node>> WritableDir::find(const std::string& name) const {
    struct stat st{};
    if (stat_at(fd_.get(), name, st)) {
        if (is_whiteout(st)) return std::optional<Node>();
        return std::optional<Node>(node_from_stat(st));
    }
    if (errno != ENOENT) return fail_errno(errno, below(path_, name));
    if (!base_) return std::optional<Node>();
    return base_->find(name);
}

Result<WritableDirRef> WritableDir::open_dir(const std::string& name) {
    sys::Fd fd(::openat(fd_.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd.valid() && errno != ENOENT) return fail_errno(errno, below(path_, name));
    DirectoryRef base;
    const bool present = fd.valid();
    bool merged = base_ != nullptr;
    if (present && merged) {
        char value = 0;
        merged = ::fgetxattr(fd.get(), "trusted.overlay.opaque", &value, 1) != 1 || value != 'y';
    }
    if (merged) {
        const auto node = TRY(base_->find(name));
        if (node && node->kind == Kind::directory) base = TRY(base_->open_dir(name));
    }
    if (!present) {
        if (!base) return fail_errno(merged ? ENOENT : ENOTDIR, below(path_, name));
        const Meta meta = TRY(meta_of(*base));
        if (::mkdirat(fd_.get(), name.c_str(), 0700) != 0) return fail_errno(errno, below(path_, name));
        fd = sys::Fd(::openat(fd_.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
        if (!fd.valid()) return fail_errno(errno, below(path_, name));
        TRY(apply_meta(fd.get(), meta, Owned::unknown, 0700, below(path_, name)));
        owner_.state_.lock()->dir_times.insert_or_assign(below(path_, name), *meta.mtime_ns);
    }
    return std::make_shared<WritableDir>(owner_, std::move(fd), std::move(base), below(path_, name));
}

Result<WritableDirRef> WritableDir::make_dir(const std::string& name, const Meta& meta) {
    const std::string path = below(path_, name);
    TRY(owner_.ask(1));
    const bool hides = TRY(drop_whiteout(fd_.get(), name)) || TRY(base_has(name));
    if (::mkdirat(fd_.get(), name.c_str(), 0700) != 0) {
        return errno == EEXIST ? exists(path) : fail_errno(errno, "create directory " + path);
    }
    sys::Fd fd(::openat(fd_.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd.valid()) return fail_errno(errno, path);
    // What was below under this name must not shine through.
    if (hides && ::fsetxattr(fd.get(), "trusted.overlay.opaque", "y", 1, 0) != 0) {
        return fail_errno(errno, "mark directory as opaque: " + path);
    }
    Meta now = meta;
    now.mtime_ns.reset();
    TRY(apply_meta(fd.get(), now, Owned::unknown, 0700, path));
    if (meta.mtime_ns) owner_.state_.lock()->dir_times.insert_or_assign(path, *meta.mtime_ns);
    return std::make_shared<WritableDir>(owner_, std::move(fd), nullptr, path);
}

Result<sys::Fd> WritableDir::new_file(const std::string& name) const {
    constexpr int kFlags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    sys::Fd fd(::openat(fd_.get(), name.c_str(), kFlags, 0600));
    if (!fd.valid() && errno == EEXIST && TRY(drop_whiteout(fd_.get(), name))) {
        fd = sys::Fd(::openat(fd_.get(), name.c_str(), kFlags, 0600));
    }
    if (!fd.valid()) return errno == EEXIST ? exists(below(path_, name)) : fail_errno(errno, below(path_, name));
    return fd;
}

Result<> WritableDir::finish_file(int fd, const std::string& name, std::uint64_t size, const Meta& meta) {
    TRY(apply_meta(fd, meta, inherits_group_ ? Owned::unknown : Owned::by_us, 0600, below(path_, name)));
    auto state = owner_.state_.lock();
    ++state->written.files;
    state->written.bytes += size;
    return {};
}

Result<std::uint64_t> WritableDir::put_file(const std::string& name, int source_fd, const Meta& meta) {
    const sys::Fd fd = TRY(new_file(name));
    const std::uint64_t size = TRY(copy_bytes(source_fd, fd.get(), below(path_, name), owner_.before_write_));
    TRY(finish_file(fd.get(), name, size, meta));
    return size;
}

Result<> WritableDir::put_stream(const std::string& name, ByteSource& body, std::uint64_t size, const Meta& meta) {
    const sys::Fd fd = TRY(new_file(name));
    std::vector<std::byte> buffer(std::min<std::uint64_t>(size, kStreamChunk));
    for (std::uint64_t left = size; left > 0;) {
        const std::size_t n = TRY(body.read(std::span(buffer).first(std::min<std::uint64_t>(buffer.size(), left))));
        if (n == 0) return bad_input("{}: what it is made from ends {} bytes too early", below(path_, name), left);
        TRY(owner_.ask(n));
        TRY_CONTEXT(sys::write_all(fd.get(), std::span<const std::byte>(buffer).first(n)), "{}", below(path_, name));
        left -= n;
    }
    return finish_file(fd.get(), name, size, meta);
}

Result<> WritableDir::put_bytes(const std::string& name, std::string_view data, const Meta& meta) {
    TRY(drop_whiteout(fd_.get(), name));
    const sys::Fd fd(::openat(fd_.get(), name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!fd.valid()) return errno == EEXIST ? exists(below(path_, name)) : fail_errno(errno, below(path_, name));
    TRY(owner_.ask(data.size()));
    TRY_CONTEXT(sys::write_all(fd.get(), data), "{}", below(path_, name));
    TRY(apply_meta(fd.get(), meta, inherits_group_ ? Owned::unknown : Owned::by_us, 0600, below(path_, name)));
    auto state = owner_.state_.lock();
    ++state->written.files;
    state->written.bytes += data.size();
    return {};
}

Result<bool> WritableDir::put_link(const std::string& name, int source_dir, const std::string& source_name,
                                   const Node& node, std::uint64_t link_domain, std::uint64_t operation) {
    if (node.inode != 0) {
        auto state = owner_.state_.lock();
        const auto [at, fresh] =
            state->linked.try_emplace(node.inode, LayerBuilder::LinkedFrom{link_domain, operation});
        // The same inode again is right only for a hard link of the source, copied by the same operation.
        if (!fresh && (at->second.domain != link_domain || at->second.operation != operation)) return false;
    }
    int failed = ::linkat(source_dir, source_name.c_str(), fd_.get(), name.c_str(), 0);
    if (failed != 0 && errno == EEXIST) {
        if (!TRY(drop_whiteout(fd_.get(), name))) return exists(below(path_, name));
        failed = ::linkat(source_dir, source_name.c_str(), fd_.get(), name.c_str(), 0);
    }
    if (failed != 0) {
        if (errno == EMLINK || errno == EXDEV || errno == EPERM || errno == ENOTSUP || errno == ENOENT) return false;
        return fail_errno(errno, "link " + below(path_, name));
    }
    auto state = owner_.state_.lock();
    ++state->written.files;
    ++state->written.linked;
    state->written.bytes += node.size;
    return true;
}

Result<> WritableDir::put_hard_link(const std::string& name, WritableDir& first, const std::string& first_name) {
    TRY(drop_whiteout(fd_.get(), name));
    int failed = ::linkat(first.fd(), first_name.c_str(), fd_.get(), name.c_str(), 0);
    if (failed != 0 && errno == ENOENT && TRY(first.base_has(first_name))) {
        TRY(first.copy_up(first_name));
        failed = ::linkat(first.fd(), first_name.c_str(), fd_.get(), name.c_str(), 0);
    }
    if (failed != 0) {
        return errno == EEXIST ? exists(below(path_, name)) : fail_errno(errno, "link " + below(path_, name));
    }
    ++owner_.state_.lock()->written.files;
    return {};
}

Result<> WritableDir::copy_up(const std::string& name) {
    struct stat st{};
    if (stat_at(fd_.get(), name, st) || !base_) return {};
    const auto node = TRY(base_->find(name));
    if (!node) return {};
    Meta meta{.uid = node->uid, .gid = node->gid, .mode = node->mode, .mtime_ns = node->mtime_ns};
    meta.xattrs = TRY(base_->xattrs(name, *node));
    switch (node->kind) {
        case Kind::directory:
            return fail(Code::internal, Blame::cooper, "{}: a directory cannot be copied up", below(path_, name));
        case Kind::file: {
            const sys::Fd file = TRY(base_->open_file(name, *node));
            TRY(put_file(name, file.get(), meta));
            return {};
        }
        case Kind::symlink:
            return put_symlink(name, TRY(base_->read_link(name, *node)), meta);
        default:
            return put_special(name, node->kind, node->rdev, meta);
    }
}

Result<> WritableDir::put_symlink(const std::string& name, const std::string& target, const Meta& meta) {
    TRY(drop_whiteout(fd_.get(), name));
    if (::symlinkat(target.c_str(), fd_.get(), name.c_str()) != 0) {
        return errno == EEXIST ? exists(below(path_, name)) : fail_errno(errno, below(path_, name));
    }
    if ((inherits_group_ || !owned_already(meta)) &&
        ::fchownat(fd_.get(), name.c_str(), meta.uid, meta.gid, AT_SYMLINK_NOFOLLOW) != 0) {
        return fail_errno(errno, "set owner of " + below(path_, name));
    }
    set_xattrs_at(fd_.get(), name, meta.xattrs);
    if (meta.mtime_ns) TRY(set_times(fd_.get(), name.c_str(), *meta.mtime_ns));
    ++owner_.state_.lock()->written.files;
    return {};
}

Result<> WritableDir::put_special(const std::string& name, Kind kind, std::uint64_t rdev, const Meta& meta) {
    mode_t type = S_IFREG;
    if (kind == Kind::fifo) type = S_IFIFO;
    if (kind == Kind::char_device) type = S_IFCHR;
    if (kind == Kind::block_device) type = S_IFBLK;
    if (type == S_IFCHR && rdev == 0) return bad_input("{}: character device 0:0 cannot be copied", below(path_, name));
    TRY(drop_whiteout(fd_.get(), name));
    if (::mknodat(fd_.get(), name.c_str(), type | 0600U, rdev) != 0) {
        return errno == EEXIST ? exists(below(path_, name)) : fail_errno(errno, "create " + below(path_, name));
    }
    if (::fchownat(fd_.get(), name.c_str(), meta.uid, meta.gid, AT_SYMLINK_NOFOLLOW) != 0 ||
        ::fchmodat(fd_.get(), name.c_str(), meta.mode, 0) != 0) {
        return fail_errno(errno, "set owner and mode of " + below(path_, name));
    }
    set_xattrs_at(fd_.get(), name, meta.xattrs);
    if (meta.mtime_ns) TRY(set_times(fd_.get(), name.c_str(), *meta.mtime_ns));
    ++owner_.state_.lock()->written.files;
    return {};
}

Result<> WritableDir::remove(const std::string& name) {
    TRY_CONTEXT(sys::remove_tree_at(fd_.get(), name), "{}", path_);
    {
        const std::string path = below(path_, name);
        auto state = owner_.state_.lock();
        auto& times = state->dir_times;
        times.erase(path);
        for (auto at = times.lower_bound(path + "/"); at != times.end() && at->first.starts_with(path + "/");) {
            at = times.erase(at);
        }
    }
    if (!TRY(base_has(name))) return {};
    if (::mknodat(fd_.get(), name.c_str(), S_IFCHR, 0) != 0) {
        return fail_errno(errno, "create whiteout for " + below(path_, name));
    }
    return {};
}

Result<> WritableDir::set_meta(const Meta& meta) {
    Meta now = meta;
    now.mtime_ns.reset();
    TRY(apply_meta(fd_.get(), now, Owned::unknown, ~0U, path_));
    if (meta.mtime_ns) return set_mtime(*meta.mtime_ns);
    return {};
}

Result<> WritableDir::set_mtime(std::int64_t mtime_ns) {
    owner_.state_.lock()->dir_times.insert_or_assign(path_, mtime_ns);
    return {};
}

Result<std::unique_ptr<LayerBuilder>> LayerBuilder::create(const std::vector<LayerDir>& layers, sys::RootedDir upper) {
    std::unique_ptr<LayerBuilder> builder(new LayerBuilder());
    std::vector<LayerDir> below_layers;
    std::vector<LayerDir> all_layers;
    for (const auto& layer : layers) {
        for (auto* list : {&below_layers, &all_layers}) {
            sys::Fd copy(::fcntl(layer.dir.fd(), F_DUPFD_CLOEXEC, 3));
            if (!copy.valid()) return fail_errno(errno, "duplicate descriptor");
            LayerDir again;
            again.id = layer.id;
            again.dir = sys::RootedDir(std::move(copy));
            list->push_back(std::move(again));
        }
    }
    sys::Fd copy(::fcntl(upper.fd(), F_DUPFD_CLOEXEC, 3));
    if (!copy.valid()) return fail_errno(errno, "duplicate descriptor");
    LayerDir top;
    top.id = -1;
    top.dir = sys::RootedDir(std::move(copy));
    all_layers.push_back(std::move(top));
    builder->upper_ = std::move(upper);
    builder->base_ =
        layers.empty() ? TreeRef() : TRY(ChainView::create(std::move(below_layers), ChainView::TopLayer::committed));
    builder->view_ = TRY(ChainView::create(std::move(all_layers), ChainView::TopLayer::in_work));
    Meta meta;
    if (builder->base_) {
        const DirectoryRef base_root = TRY(builder->base_->root());
        meta = TRY(meta_of(*base_root));
        builder->state_.lock()->dir_times.insert_or_assign("/", *meta.mtime_ns);
    }
    const sys::Fd root(::openat(builder->upper_.fd(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!root.valid()) return fail_errno(errno, "open new layer");
    meta.mtime_ns.reset();
    TRY(apply_meta(root.get(), meta, Owned::unknown, ~0U, "/"));
    return builder;
}

Result<> LayerBuilder::ask(std::uint64_t bytes) const {
    return before_write_ ? before_write_(in_blocks(bytes)) : Result<>();
}

Result<WritableDirRef> LayerBuilder::root() {
    sys::Fd fd(::openat(upper_.fd(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd.valid()) return fail_errno(errno, "open new layer");
    DirectoryRef base;
    if (base_) base = TRY(base_->root());
    return std::make_shared<WritableDir>(*this, std::move(fd), std::move(base), "/");
}

Result<WritableDirRef> LayerBuilder::open_dir(std::string_view resolved_path) {
    WritableDirRef dir = TRY(root());
    for (std::size_t at = 1; at < resolved_path.size();) {
        std::size_t end = resolved_path.find('/', at);
        if (end == std::string_view::npos) end = resolved_path.size();
        if (end > at) {
            WritableDirRef next = TRY(dir->open_dir(std::string(resolved_path.substr(at, end - at))));
            dir = std::move(next);
        }
        at = end + 1;
    }
    return dir;
}

Result<WritableDirRef> LayerBuilder::make_dirs(std::string_view resolved_path, const Meta& meta,
                                               std::vector<std::string>* made) {
    WritableDirRef dir = TRY(root());
    for (std::size_t at = 1; at < resolved_path.size();) {
        std::size_t end = resolved_path.find('/', at);
        if (end == std::string_view::npos) end = resolved_path.size();
        if (end > at) {
            const std::string name(resolved_path.substr(at, end - at));
            const auto node = TRY(dir->find(name));
            if (node && node->kind != Kind::directory) {
                return bad_input("{}: not a directory", below(dir->path(), name));
            }
            WritableDirRef next = node ? TRY(dir->open_dir(name)) : TRY(dir->make_dir(name, meta));
            if (!node && made != nullptr) made->push_back(next->path());
            dir = std::move(next);
        }
        at = end + 1;
    }
    return dir;
}

Result<> LayerBuilder::finish() {
    auto state = state_.lock();
    for (const auto& [path, mtime_ns] : state->dir_times) {
        const sys::Fd dir = TRY(upper_.open(path, O_RDONLY | O_DIRECTORY, sys::Follow::no, 0));
        TRY(set_times(dir.get(), nullptr, mtime_ns));
    }
    return {};
}

LayerBuilder::Written LayerBuilder::written() { return state_.lock()->written; }

}  // namespace cooper::snapshot
