// Tree and Directory: a read-only file tree, however it is stored. ChainView (chain_view.hpp) is a stack of layer
// directories; LiveDir (live_dir.hpp) is a directory of the host. All resolution happens inside the tree: absolute
// links start at its root, ".." cannot leave it, at most 255 links are followed.
// Threads: Directory and Tree objects may be used from several threads.
#pragma once

#include "base/result.hpp"
#include "sys/fd.hpp"
#include "sys/rooted_dir.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cooper::snapshot {

enum class Kind : std::uint8_t { file, directory, symlink, char_device, block_device, fifo, socket };

// What lstat tells. Owners are those of the tree (a LiveDir shows 0:0). Times in ns since the epoch.
struct Node {
    Kind kind = Kind::file;
    std::uint32_t mode = 0;  // permission bits with setuid, setgid, sticky (07777)
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::uint64_t size = 0;
    std::uint64_t rdev = 0;
    std::int64_t mtime_ns = 0;
    std::int64_t ctime_ns = 0;
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    std::uint32_t links = 1;
    std::uint32_t origin = 0;  // which of a Directory's layers holds it
};
[[nodiscard]] Node node_from_stat(const struct stat& st);
[[nodiscard]] std::string_view kind_name(Kind kind);

struct Entry {
    std::string name;
    Kind kind = Kind::file;
    std::uint32_t origin = 0;
};

// Sorted by name. trusted.overlay.* is never shown.
using Xattrs = std::vector<std::pair<std::string, std::string>>;
// Attributes of an open file or (via /proc/self/fd) of a name in an open directory; an unsupported file system has
// none.
[[nodiscard]] Result<Xattrs> read_xattrs(int fd);
[[nodiscard]] Result<Xattrs> read_xattrs_at(int dir_fd, const std::string& name);

class Directory {
public:
    virtual ~Directory() = default;
    [[nodiscard]] const Node& self() const { return self_; }
    // Sorted by bytes of the name.
    [[nodiscard]] virtual Result<std::vector<Entry>> list() const = 0;
    // As lstat; nullopt when there is no such name.
    [[nodiscard]] virtual Result<std::optional<Node>> find(const std::string& name) const = 0;
    // As find for a name that list() gave; a name gone since is an error.
    [[nodiscard]] virtual Result<Node> stat(const Entry& entry) const = 0;
    // A sub-directory (never through a link).
    [[nodiscard]] virtual Result<std::shared_ptr<const Directory>> open_dir(const std::string& name) const = 0;
    // For reading; node as found here. Only regular files are opened.
    [[nodiscard]] virtual Result<sys::Fd> open_file(const std::string& name, const Node& node) const = 0;
    [[nodiscard]] virtual Result<std::string> read_link(const std::string& name, const Node& node) const = 0;
    [[nodiscard]] virtual Result<Xattrs> xattrs(const std::string& name, const Node& node) const = 0;
    [[nodiscard]] virtual Result<Xattrs> self_xattrs() const = 0;
    // The directory descriptor to linkat() from, when the inode is immutable and may be shared; -1 = must be copied.
    // Valid as long as this object.
    [[nodiscard]] virtual int link_fd(const Node& node) const = 0;
    // What tells two names of one file apart from two equal files: same number and inode = hard links.
    [[nodiscard]] virtual std::uint64_t link_domain(const Node& node) const = 0;

protected:
    Node self_;
};
using DirectoryRef = std::shared_ptr<const Directory>;

enum class FollowLast : std::uint8_t { no, yes };

// A resolved path.
struct Found {
    std::string path;     // clean, rooted, without links (but for the last component with FollowLast::no)
    DirectoryRef parent;  // holds name; the root itself when name is empty
    std::string name;
    Node node;
};

class Tree {
public:
    virtual ~Tree() = default;
    [[nodiscard]] virtual Result<DirectoryRef> root() const = 0;
    // Whether the tree can never change (committed layers).
    [[nodiscard]] virtual bool immutable() const = 0;

    // nullopt when a component is missing or is no directory. A loop of links is an error.
    [[nodiscard]] Result<std::optional<Found>> find(std::string_view path, FollowLast follow) const;
    [[nodiscard]] Result<DirectoryRef> open_dir(const Found& found) const;
    // Convenience: a whole small file, links followed; nullopt when missing or no regular file.
    [[nodiscard]] Result<std::optional<std::string>> read_file(std::string_view path, std::size_t limit_bytes) const;
    // Where path leads although its last components may not exist (containerd's RootPath): links of what exists are
    // followed, the rest is appended lexically.
    [[nodiscard]] Result<std::string> resolve(std::string_view path) const;
};
using TreeRef = std::shared_ptr<const Tree>;

// The empty tree (scratch).
[[nodiscard]] TreeRef empty_tree();

}  // namespace cooper::snapshot
