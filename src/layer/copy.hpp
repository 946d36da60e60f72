// The file operations of LLB's FileOp on a LayerBuilder, with fsutil's and BuildKit's rules:
// copy, mkdir, mkfile, rm, symlink; and the lookup of owners by name.
#pragma once

#include "base/stop.hpp"
#include "layer/tree_digest.hpp"
#include "snapshot/layer_builder.hpp"

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace cooper::layer {

struct Owner {
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
};

// Names are looked up in tree's /etc/passwd and /etc/group (at most 10 MiB each); what is not found is silently 0, as
// in BuildKit. A user by number gives the group the same number unless a group is named.
struct OwnerName {
    std::string name;  // empty: use id
    std::optional<std::uint32_t> id;
};
[[nodiscard]] Result<Owner> look_up_owner(const std::optional<OwnerName>& user, const std::optional<OwnerName>& group,
                                          const snapshot::Tree* user_tree, const snapshot::Tree* group_tree);

// What copies put into a layer from hashed files: target path → digest of the source and metadata given. Saved beside
// the layer, it lets the next copy link what did not change. One object for all copies into one layer (the last one to
// write a path wins). Thread-safe.
class CopyManifest {
public:
    struct File {
        std::string name;
        RawDigest digest{};
        std::uint64_t size = 0;
        std::uint32_t uid = 0;
        std::uint32_t gid = 0;
        std::uint32_t mode = 0;
        std::int64_t mtime_ns = 0;
        bool only_name = true;  // no hard link in the source
    };
    void add(const std::string& dir, std::vector<File> files);
    // Something that is no hashed file took the path.
    void forget(const std::string& dir, const std::string& name);
    // As a table: entries hold uid << 32 | gid in `device` and the number of names in `inode`.
    [[nodiscard]] DigestTable table();

private:
    Guarded<std::map<std::string, std::map<std::string, File>>> dirs_;
};

// An earlier layer with the manifest of the copies that made it (and that nothing else wrote to).
struct EarlierCopy {
    snapshot::TreeRef layer;  // that layer alone as a tree (a ChainView of one, committed)
    DigestTable manifest;
};

struct CopyOptions {
    std::string source;
    std::string destination;  // trailing '/' matters
    std::optional<Owner> owner;
    std::int32_t mode = -1;  // octal bits, -1 = keep
    std::string mode_text;   // "u=rwX,go=rX"; wins over mode
    bool follow_symlink = false;
    bool dir_copy_contents = false;
    bool create_dest_path = false;
    bool allow_wildcard = false;
    bool allow_empty_wildcard = false;
    bool always_replace = false;
    std::optional<std::int64_t> timestamp_ns;
    std::vector<std::string> include;
    std::vector<std::string> exclude;

    // For a live source: the digester that hashed it, to notice files that changed since. May be null.
    TreeDigester* hashed = nullptr;
    const EarlierCopy* earlier = nullptr;
    CopyManifest* manifest = nullptr;  // filled when given together with hashed
    std::size_t threads = 2;
};

// source may be the builder's own view (a copy within one tree) or any other tree.
[[nodiscard]] Result<> copy(const snapshot::TreeRef& source, snapshot::LayerBuilder& target, const CopyOptions& options,
                            Stop stop);
// The sources a wildcard (or plain) path names, sorted; paths in the tree.
[[nodiscard]] Result<std::vector<std::string>> resolve_wildcards(const snapshot::Tree& tree, const std::string& source,
                                                                 snapshot::FollowLast follow);

// All of a tree as a layer (RUN --mount=type=bind from a context): files linked where possible.
[[nodiscard]] Result<> materialize(const snapshot::TreeRef& source, snapshot::LayerBuilder& target,
                                   TreeDigester* hashed, Stop stop);

struct MkdirOptions {
    std::string path;
    std::uint32_t mode = 0755;
    bool make_parents = false;
    std::optional<Owner> owner;
    std::optional<std::int64_t> timestamp_ns;
};
struct MkfileOptions {
    std::string path;
    std::uint32_t mode = 0644;
    std::string data;
    std::optional<Owner> owner;
    std::optional<std::int64_t> timestamp_ns;
};
struct RmOptions {
    std::string path;
    bool allow_not_found = false;
    bool allow_wildcard = false;
};
struct SymlinkOptions {
    std::string old_path;
    std::string new_path;
    std::optional<Owner> owner;
    std::optional<std::int64_t> timestamp_ns;
};
[[nodiscard]] Result<> make_directory(snapshot::LayerBuilder& target, const MkdirOptions& options);
[[nodiscard]] Result<> make_file(snapshot::LayerBuilder& target, const MkfileOptions& options);
[[nodiscard]] Result<> remove(snapshot::LayerBuilder& target, const RmOptions& options);
[[nodiscard]] Result<> make_symlink(snapshot::LayerBuilder& target, const SymlinkOptions& options);

// chmod(1) text ("u=rwX,go=rX", "a+x", "0755" too) applied to mode; bad text is bad input.
[[nodiscard]] Result<std::uint32_t> apply_mode_text(std::string_view text, std::uint32_t mode, bool is_directory);

}  // namespace cooper::layer
