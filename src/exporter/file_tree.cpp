#include "exporter/file_tree.hpp"

#include "base/text.hpp"
#include "codec/tar.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <map>
#include <set>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utility>

namespace cooper::exporter {

namespace {

using snapshot::Directory;
using snapshot::Entry;
using snapshot::Kind;
using snapshot::Node;

constexpr std::size_t kMaxDepth = 700;  // two descriptors each
constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::size_t kCopyBytes = 1 << 20;
constexpr std::uint64_t kRowStep = 16 << 20;  // progress is told every so many bytes

using LinkKey = std::pair<std::uint64_t, std::uint64_t>;
LinkKey link_key(const Directory& dir, const Node& node) { return {dir.link_domain(node), node.inode}; }

// Tells the client how many bytes have been written.
class Meter {
public:
    Meter(VertexProgress& progress, std::string text) : progress_(progress), text_(std::move(text)) { tell(false); }
    void add(std::uint64_t bytes) {
        bytes_ += bytes;
        if (bytes_ - told_ >= kRowStep) tell(false);
    }
    void done() { tell(true); }

private:
    void tell(bool done) {
        told_ = bytes_;
        progress_.status(text_, text_, static_cast<std::int64_t>(bytes_), 0, done);
    }
    VertexProgress& progress_;
    std::string text_;
    std::uint64_t bytes_ = 0;
    std::uint64_t told_ = 0;
};

class LocalWriter {
public:
    LocalWriter(const sys::RootedDir& dest, const FileTreeOptions& options, Meter& meter, const Stop& stop)
        : dest_(dest), options_(options), meter_(meter), stop_(stop), root_(::geteuid() == 0) {}

    Result<> walk(const Directory& dir, int dest, const std::string& path, std::size_t depth) {
        if (depth > kMaxDepth)
            return bad_input("directories are nested deeper than {} at {}", kMaxDepth, cooper::quoted(path));
        const std::vector<Entry> entries = TRY(dir.list());
        if (options_.remove_others) TRY(remove_others(entries, dest));
        for (const auto& entry : entries) {
            TRY(check_stop(stop_));
            TRY_CONTEXT(visit(dir, entry, dest, path + "/" + entry.name, depth), "{}",
                        cooper::quoted(path + "/" + entry.name));
        }
        return {};
    }

    FileTreeStats stats;

private:
    Result<> remove_others(const std::vector<Entry>& entries, int dest) {
        std::set<std::string_view> wanted;
        for (const auto& entry : entries) wanted.insert(entry.name);
        for (const auto& there : TRY(sys::list_dir(dest))) {
            TRY(check_stop(stop_));
            if (!wanted.contains(there.name)) TRY(sys::remove_tree_at(dest, there.name));
        }
        return {};
    }

    Result<> visit(const Directory& dir, const Entry& entry, int dest, const std::string& path, std::size_t depth) {
        const Node node = TRY(dir.stat(entry));
        const std::string& name = entry.name;
        ++stats.entries;
        if (node.kind == Kind::directory) return directory(dir, name, node, dest, path, depth);
        if (node.links > 1 && node.kind != Kind::socket) {
            const auto [first, is_new] = links_.try_emplace(link_key(dir, node), Written{.path = path});
            if (!is_new) return hard_link(first->second, dest, name);
            TRY(other(dir, name, node, dest));
            struct stat st{};
            if (::fstatat(dest, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0) first->second.inode = st.st_ino;
            return {};
        }
        return other(dir, name, node, dest);
    }

    // Where the first name of a file went.
    struct Written {
        std::string path;
        ino_t inode = 0;
    };

    Result<> hard_link(const Written& first, int dest, const std::string& name) {
        if (first.inode == 0) {  // could not be made
            ++stats.skipped;
            return {};
        }
        const auto parent = TRY(dest_.parent_of(first.path));
        struct stat st{};
        const bool same =
            ::fstatat(parent.dir.get(), parent.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == first.inode;
        if (!same) return fail(Code::aborted, Blame::world, "{} was replaced meanwhile", cooper::quoted(first.path));
        return make(dest, name, "link",
                    [&] { return ::linkat(parent.dir.get(), parent.name.c_str(), dest, name.c_str(), 0); });
    }

    Result<> other(const Directory& dir, const std::string& name, const Node& node, int dest) {
        switch (node.kind) {
            case Kind::file:
                return file(dir, name, node, dest);
            case Kind::symlink: {
                const std::string target = TRY(dir.read_link(name, node));
                TRY(make(dest, name, "create", [&] { return ::symlinkat(target.c_str(), dest, name.c_str()); }));
                return finish_name(dest, name, node);
            }
            case Kind::fifo:
            case Kind::char_device:
            case Kind::block_device:
                return special(name, node, dest);
            case Kind::directory:
            case Kind::socket:
                break;
        }
        ++stats.skipped;
        return {};
    }

    // What is in the way is removed, whatever it is.
    template <class Make>
    Result<> make(int dest, const std::string& name, const char* what, Make make_it) {
        if (make_it() >= 0) return {};
        if (errno == EEXIST) {
            TRY(sys::remove_tree_at(dest, name));
            if (make_it() >= 0) return {};
        }
        return fail_errno(errno, what);
    }

    Result<> special(const std::string& name, const Node& node, int dest) {
        const mode_t type = node.kind == Kind::fifo ? S_IFIFO : node.kind == Kind::char_device ? S_IFCHR : S_IFBLK;
        const auto made =
            make(dest, name, "create", [&] { return ::mknodat(dest, name.c_str(), type | 0600, node.rdev); });
        if (!made && made.error().code() == Code::permission_denied) {
            ++stats.skipped;
            return {};
        }
        TRY(made);
        return finish_name(dest, name, node);
    }

    Result<> directory(const Directory& dir, const std::string& name, const Node& node, int dest,
                       const std::string& path, std::size_t depth) {
        if (::mkdirat(dest, name.c_str(), 0700) != 0) {
            if (errno != EEXIST) return fail_errno(errno, "create");
            struct stat st{};
            if (::fstatat(dest, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) return fail_errno(errno, "stat");
            if (!S_ISDIR(st.st_mode)) {
                TRY(sys::remove_tree_at(dest, name));
                if (::mkdirat(dest, name.c_str(), 0700) != 0) return fail_errno(errno, "create");
            }
        }
        const sys::Fd made(::openat(dest, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
        if (!made.valid()) return fail_errno(errno, "open");
        // Writable until its content is there.
        if (!root_) ::fchmod(made.get(), 0700);
        const auto child = TRY(dir.open_dir(name));
        TRY(walk(*child, made.get(), path, depth + 1));
        return finish_fd(made.get(), node, TRY(dir.xattrs(name, node)));
    }

    Result<> file(const Directory& dir, const std::string& name, const Node& node, int dest) {
        const sys::Fd in = TRY(dir.open_file(name, node));
        int made = -1;
        TRY(make(dest, name, "create", [&] {
            return made = ::openat(dest, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        }));
        const sys::Fd out(made);
        TRY(copy(in.get(), out.get()));
        return finish_fd(out.get(), node, TRY(dir.xattrs(name, node)));
    }

    Result<> copy(int in, int out) {
        while (true) {  // shares blocks where the file system can
            TRY(check_stop(stop_));
            const ssize_t n = ::copy_file_range(in, nullptr, out, nullptr, kCopyBytes * 64, 0);
            if (n == 0) return {};
            if (n < 0 && errno == EINTR) continue;
            if (n < 0) break;  // other file system or kernel: by hand, from here on
            count(static_cast<std::uint64_t>(n));
        }
        buffer_.resize(kCopyBytes);
        while (true) {
            TRY(check_stop(stop_));
            const std::size_t n = TRY(sys::read_some(in, buffer_));
            if (n == 0) return {};
            TRY(sys::write_all(out, std::span<const std::byte>(buffer_).first(n)));
            count(n);
        }
    }

    void count(std::uint64_t bytes) {
        stats.bytes += bytes;
        meter_.add(bytes);
    }

    // What the file system or the caller's rights do not allow is left out.
    static void set_xattrs(int fd, const snapshot::Xattrs& xattrs) {
        for (const auto& [name, value] : xattrs) ::fsetxattr(fd, name.c_str(), value.data(), value.size(), 0);
    }

    [[nodiscard]] std::array<timespec, 2> times(const Node& node) const {
        const std::int64_t ns = options_.epoch_seconds ? *options_.epoch_seconds * kSecond : node.mtime_ns;
        timespec time{.tv_sec = ns / kSecond, .tv_nsec = ns % kSecond};
        if (time.tv_nsec < 0) {
            --time.tv_sec;
            time.tv_nsec += kSecond;
        }
        return {time, time};
    }

    // The owner first: changing it drops setuid bits and capabilities.
    Result<> finish_fd(int fd, const Node& node, const snapshot::Xattrs& xattrs) {
        if (root_ && ::fchown(fd, node.uid, node.gid) != 0) return fail_errno(errno, "set owner");
        if (::fchmod(fd, node.mode) != 0) return fail_errno(errno, "set mode");
        set_xattrs(fd, xattrs);
        if (::futimens(fd, times(node).data()) != 0) return fail_errno(errno, "set time");
        return {};
    }

    Result<> finish_name(int dest, const std::string& name, const Node& node) {
        if (root_ && ::fchownat(dest, name.c_str(), node.uid, node.gid, AT_SYMLINK_NOFOLLOW) != 0) {
            return fail_errno(errno, "set owner");
        }
        if (node.kind != Kind::symlink && ::fchmodat(dest, name.c_str(), node.mode, 0) != 0) {
            return fail_errno(errno, "set mode");
        }
        if (::utimensat(dest, name.c_str(), times(node).data(), AT_SYMLINK_NOFOLLOW) != 0) {
            return fail_errno(errno, "set time");
        }
        return {};
    }

    const sys::RootedDir& dest_;
    const FileTreeOptions& options_;
    Meter& meter_;
    const Stop& stop_;
    const bool root_;
    std::map<LinkKey, Written> links_;
    Bytes buffer_;
};

class TreeTar {
public:
    TreeTar(codec::TarWriter& tar, const FileTreeOptions& options, Meter& meter, const Stop& stop)
        : tar_(tar), options_(options), meter_(meter), stop_(stop) {}

    Result<> walk(const Directory& dir, const std::string& path, std::size_t depth) {
        if (depth > kMaxDepth)
            return bad_input("directories are nested deeper than {} at {}", kMaxDepth, cooper::quoted(path));
        for (const auto& entry : TRY(dir.list())) {
            TRY(check_stop(stop_));
            TRY_CONTEXT(visit(dir, entry, path + entry.name, depth), "{}", cooper::quoted(path + entry.name));
        }
        return {};
    }

    FileTreeStats stats;

private:
    Result<> visit(const Directory& dir, const Entry& entry, const std::string& path, std::size_t depth) {
        const Node node = TRY(dir.stat(entry));
        if (node.kind == Kind::socket) {
            ++stats.skipped;
            return {};
        }
        ++stats.entries;
        codec::TarHeader header;
        header.name = path;
        header.mode = node.kind == Kind::symlink ? 0777 : node.mode;
        header.uid = node.uid;
        header.gid = node.gid;
        header.mtime_ns = options_.epoch_seconds ? *options_.epoch_seconds * kSecond : node.mtime_ns;
        if (node.kind != Kind::directory && node.links > 1) {
            const auto [first, is_new] = links_.try_emplace(link_key(dir, node), path);
            if (!is_new) {
                header.type = codec::TarType::hard_link;
                header.linkname = first->second;
                return tar_.write_header(header);
            }
        }
        for (auto& [name, value] : TRY(dir.xattrs(entry.name, node))) {
            if (name == "security.capability" || name.starts_with("user.")) header.xattrs[name] = value;
        }
        switch (node.kind) {
            case Kind::file:
                return file(dir, entry.name, node, header);
            case Kind::directory: {
                header.type = codec::TarType::directory;
                header.name += '/';
                TRY(tar_.write_header(header));
                const auto child = TRY(dir.open_dir(entry.name));
                return walk(*child, header.name, depth + 1);
            }
            case Kind::symlink:
                header.type = codec::TarType::symlink;
                header.linkname = TRY(dir.read_link(entry.name, node));
                break;
            case Kind::fifo:
                header.type = codec::TarType::fifo;
                break;
            case Kind::char_device:
            case Kind::block_device:
                header.type =
                    node.kind == Kind::char_device ? codec::TarType::char_device : codec::TarType::block_device;
                header.devmajor = major(node.rdev);
                header.devminor = minor(node.rdev);
                break;
            case Kind::socket:
                UNREACHABLE();
        }
        return tar_.write_header(header);
    }

    Result<> file(const Directory& dir, const std::string& name, const Node& node, codec::TarHeader& header) {
        const sys::Fd in = TRY(dir.open_file(name, node));
        header.size = node.size;
        TRY(tar_.write_header(header));
        for (std::uint64_t left = node.size; left > 0;) {
            TRY(check_stop(stop_));
            const auto space =
                TRY(tar_.body_space(static_cast<std::size_t>(std::min<std::uint64_t>(left, kCopyBytes))));
            const std::size_t n = TRY(sys::read_some(in.get(), space));
            if (n == 0) return fail(Code::failed_precondition, Blame::user, "the file shrank while it was read");
            TRY(tar_.commit_body(n));
            left -= n;
            stats.bytes += n;
            meter_.add(n);
        }
        return {};
    }

    codec::TarWriter& tar_;
    const FileTreeOptions& options_;
    Meter& meter_;
    const Stop& stop_;
    std::map<LinkKey, std::string> links_;
};

class BorrowedFdSink final : public ByteSink {
public:
    explicit BorrowedFdSink(int fd) : fd_(fd) {}
    Result<> write(std::span<const std::byte> data) override { return sys::write_all(fd_, data); }

private:
    int fd_;
};

}  // namespace

Result<FileTreeStats> export_local(const snapshot::Tree& tree, const sys::RootedDir& dest,
                                   const FileTreeOptions& options, VertexProgress& progress, const Stop& stop) {
    Meter meter(progress, "copying files");
    LocalWriter writer(dest, options, meter, stop);
    const snapshot::DirectoryRef root = TRY(tree.root());
    TRY_CONTEXT(writer.walk(*root, dest.fd(), "", 0), "export files");
    meter.done();
    return writer.stats;
}

Result<FileTreeStats> export_tar(const snapshot::Tree& tree, int fd, const FileTreeOptions& options,
                                 VertexProgress& progress, const Stop& stop) {
    Meter meter(progress, "sending tarball");
    BorrowedFdSink sink(fd);
    codec::TarWriter tar(sink);
    TreeTar writer(tar, options, meter, stop);
    const snapshot::DirectoryRef root = TRY(tree.root());
    TRY_CONTEXT(writer.walk(*root, "", 0), "export tar");
    TRY(tar.finish());
    meter.done();
    return writer.stats;
}

}  // namespace cooper::exporter
