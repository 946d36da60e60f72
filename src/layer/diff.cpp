#include "layer/diff.hpp"

#include "base/text.hpp"
#include "layer/detail/overlay_names.hpp"

#include <algorithm>
#include <cerrno>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <unordered_map>

namespace cooper::layer {

namespace {

using codec::TarHeader;
using codec::TarType;

constexpr std::size_t kMaxDepth = 700;  // one descriptor each
constexpr std::size_t kMaxXattrBytes = 64 << 10;
constexpr std::int64_t kSecond = 1'000'000'000;

Error failed(std::string what) { return fail_errno(errno, std::move(what)); }

struct InodeKey {
    dev_t device;
    ino_t inode;
    bool operator==(const InodeKey&) const = default;
};
struct HashInode {
    std::size_t operator()(const InodeKey& key) const noexcept {
        return std::hash<std::uint64_t>()(key.inode * 0x9E3779B97F4A7C15ULL ^ key.device);
    }
};

// A file by descriptor, or anything by its name in an open directory.
struct Place {
    int fd = -1;
    std::string path;  // "/proc/self/fd/N/name"

    ssize_t list(char* names, std::size_t size) const {
        return fd >= 0 ? ::flistxattr(fd, names, size) : ::llistxattr(path.c_str(), names, size);
    }
    ssize_t get(const char* name, char* value, std::size_t size) const {
        return fd >= 0 ? ::fgetxattr(fd, name, value, size) : ::lgetxattr(path.c_str(), name, value, size);
    }
};

bool is_exported(std::string_view name) {
    return name == "security.capability" || (name.starts_with("user.") && !detail::is_overlay_xattr(name));
}

class LayerWriter {
public:
    LayerWriter(codec::TarWriter& tar, const DiffOptions& options, const Stop& stop)
        : tar_(tar), options_(options), stop_(stop), scratch_(kMaxXattrBytes, '\0') {}

    Result<> walk(int dir, const std::string& path, std::size_t depth) {
        if (depth > kMaxDepth) return bad_input("directories are nested deeper than {} at {}", kMaxDepth, quoted(path));
        auto entries = TRY_CONTEXT(sys::list_dir(dir), "list {}", quoted(path));
        std::ranges::sort(entries, {}, &sys::DirEntry::name);
        for (const auto& entry : entries) {
            TRY(check_stop(stop_));
            TRY_CONTEXT(visit(dir, entry.name, path + entry.name, depth), "{}", quoted(path + entry.name));
        }
        return {};
    }

    DiffStats stats;

private:
    Result<> visit(int dir, const std::string& name, const std::string& path, std::size_t depth) {
        struct stat st{};
        if (::fstatat(dir, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) return failed("stat");
        if (S_ISSOCK(st.st_mode)) return ++stats.skipped_sockets, Result<>();
        if (S_ISCHR(st.st_mode) && st.st_rdev == 0) {
            const std::string_view parent = std::string_view(path).substr(0, path.size() - name.size());
            return marker(fmt::format("{}{}{}", parent, detail::kWhiteoutPrefix, name), st);
        }
        TarHeader header;
        header.name = path;
        header.mode = st.st_mode & 07777;
        header.uid = st.st_uid;
        header.gid = st.st_gid;
        header.mtime_ns = time_of(st);
        if (S_ISDIR(st.st_mode)) return directory(dir, name, header, st, depth);
        if (S_ISLNK(st.st_mode)) header.mode = 0777;
        if (st.st_nlink > 1) {
            const auto [first, is_new] = links_.try_emplace({st.st_dev, st.st_ino}, path);
            if (!is_new) {
                header.type = TarType::hard_link;
                header.linkname = first->second;
            }
        }
        if (S_ISREG(st.st_mode)) return file(dir, name, header, st);
        return special(dir, name, header, st);
    }

    Result<> directory(int dir, const std::string& name, TarHeader& header, const struct stat& st, std::size_t depth) {
        const sys::Fd fd(::openat(dir, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
        if (!fd.valid()) return failed("open");
        header.type = TarType::directory;
        header.name += '/';
        const bool opaque = TRY(read_xattrs({.fd = fd.get(), .path = {}}, header));
        TRY(put(header));
        if (opaque) TRY(marker(fmt::format("{}{}", header.name, detail::kOpaqueMarker), st));
        return walk(fd.get(), header.name, depth + 1);
    }

    Result<> file(int dir, const std::string& name, TarHeader& header, const struct stat& st) {
        const sys::Fd fd(::openat(dir, name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NOATIME));
        if (!fd.valid()) return failed("open");
        TRY(read_xattrs({.fd = fd.get(), .path = {}}, header));
        if (header.type == TarType::hard_link) return put(header);
        header.size = static_cast<std::uint64_t>(st.st_size);
        TRY(put(header));
        stats.bytes += header.size;
        constexpr std::uint64_t kLarge = 1 << 20;
        if (header.size >= kLarge) ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_SEQUENTIAL);
        for (std::uint64_t left = header.size; left > 0;) {
            TRY(check_stop(stop_));
            const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(left, 1U << 30));
            const auto space = TRY(tar_.body_space(wanted));
            const std::size_t got = TRY(sys::read_some(fd.get(), space));
            if (got == 0) {
                return fail(Code::failed_precondition, Blame::user, "the file shrank while it was read");
            }
            TRY(tar_.commit_body(got));
            left -= got;
        }
        return {};
    }

    Result<> special(int dir, const std::string& name, TarHeader& header, const struct stat& st) {
        TRY(read_xattrs({.fd = -1, .path = fmt::format("/proc/self/fd/{}/{}", dir, name)}, header));
        if (header.type == TarType::hard_link) return put(header);
        if (S_ISLNK(st.st_mode)) {
            header.type = TarType::symlink;
            header.linkname.resize(static_cast<std::size_t>(PATH_MAX));
            const ssize_t length = ::readlinkat(dir, name.c_str(), header.linkname.data(), header.linkname.size());
            if (length < 0) return failed("read link");
            header.linkname.resize(static_cast<std::size_t>(length));
        } else if (S_ISFIFO(st.st_mode)) {
            header.type = TarType::fifo;
        } else {
            header.type = S_ISCHR(st.st_mode) ? TarType::char_device : TarType::block_device;
            header.devmajor = major(st.st_rdev);
            header.devminor = minor(st.st_rdev);
        }
        return put(header);
    }

    Result<> marker(std::string name, const struct stat& st) {
        TarHeader header;
        header.name = std::move(name);
        header.mtime_ns = options_.epoch_s ? *options_.epoch_s * kSecond : time_of(st);
        ++stats.whiteouts;
        return put(header);
    }

    Result<> put(const TarHeader& header) {
        ++stats.entries;
        return tar_.write_header(header);
    }

    [[nodiscard]] std::int64_t time_of(const struct stat& st) const {
        std::int64_t seconds = st.st_mtim.tv_sec;
        if (options_.epoch_s && (options_.epoch_use == EpochUse::set || seconds >= *options_.epoch_s)) {
            seconds = *options_.epoch_s;
        }
        return seconds * kSecond;
    }

    // Fills header.xattrs; true when the place is marked opaque.
    Result<bool> read_xattrs(const Place& place, TarHeader& header) {
        const ssize_t size = place.list(scratch_.data(), scratch_.size());
        if (size == 0 || (size < 0 && (errno == ENOTSUP || errno == EPERM))) return false;
        if (size < 0) return failed("list extended attributes");
        bool opaque = false;
        for (const auto& name : split(std::string_view(scratch_).substr(0, static_cast<std::size_t>(size)), '\0')) {
            const bool is_mark = name == detail::kOpaqueXattr || name == detail::kUserOpaqueXattr;
            if (!is_mark && !is_exported(name)) continue;
            std::string value(kMaxXattrBytes, '\0');
            const ssize_t length = place.get(name.c_str(), value.data(), value.size());
            if (length < 0 && errno == ENODATA) continue;
            if (length < 0) return failed(fmt::format("read extended attribute {}", quoted(name)));
            value.resize(static_cast<std::size_t>(length));
            if (is_mark) {
                opaque = opaque || value == "y";
            } else {
                header.xattrs[name] = std::move(value);
            }
        }
        return opaque;
    }

    codec::TarWriter& tar_;
    const DiffOptions& options_;
    const Stop& stop_;
    std::string scratch_;
    std::unordered_map<InodeKey, std::string, HashInode> links_;
};

}  // namespace

Result<DiffStats> write_layer_tar(const sys::RootedDir& layer_dir, codec::TarWriter& tar, const DiffOptions& options,
                                  Stop stop) {
    LayerWriter writer(tar, options, stop);
    TRY(writer.walk(layer_dir.fd(), "", 0));
    return writer.stats;
}

}  // namespace cooper::layer
