// LayerBuilder writes a new top layer (overlayfs "upper" format) straight into a directory, without mounting.
// Directories that exist below are copied up with the base's metadata (owner, mode, mtime, xattrs) when something in
// them changes. Invariants: an inode that another layer may share is never written; two names in the layer share an
// inode only when they are hard links in the source; directory times are set last, by finish().
// One thread at a time per WritableDir; different WritableDirs may be used from different threads.
#pragma once

#include "base/bytes.hpp"
#include "base/guarded.hpp"
#include "snapshot/chain_view.hpp"

#include <functional>
#include <map>
#include <unordered_map>

namespace cooper::snapshot {

struct Meta {
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::uint32_t mode = 0755;
    std::optional<std::int64_t> mtime_ns;  // none = now
    Xattrs xattrs;
};

class LayerBuilder;

// A directory of the merged tree that exists in the new layer and can be written.
class WritableDir {
public:
    WritableDir(LayerBuilder& owner, sys::Fd fd, DirectoryRef base, std::string path);
    [[nodiscard]] int fd() const { return fd_.get(); }
    [[nodiscard]] const std::string& path() const { return path_; }  // "/" or "/a/b"

    // Whether nothing lies below: what is not in the new layer is not there at all.
    [[nodiscard]] bool fresh() const { return base_ == nullptr; }

    // Merged view, as lstat.
    [[nodiscard]] Result<std::optional<Node>> find(const std::string& name) const;
    // An existing directory, copied up when it is only below.
    [[nodiscard]] Result<std::shared_ptr<WritableDir>> open_dir(const std::string& name);
    // A new directory; name must be free.
    [[nodiscard]] Result<std::shared_ptr<WritableDir>> make_dir(const std::string& name, const Meta& meta);
    // The others replace nothing: already_exists when the new layer holds name; a name only below is hidden.
    // The file is filled from source_fd (from its current position to its end).
    [[nodiscard]] Result<std::uint64_t> put_file(const std::string& name, int source_fd, const Meta& meta);
    // The same from a stream that ends after size bytes, or is bad input.
    [[nodiscard]] Result<> put_stream(const std::string& name, ByteSource& body, std::uint64_t size, const Meta& meta);
    [[nodiscard]] Result<> put_bytes(const std::string& name, std::string_view data, const Meta& meta);
    // A hard link to a file of another layer (metadata comes with it). False when the file system refuses (EMLINK,
    // EXDEV, EPERM) or when this inode already has an unrelated name in this layer: copy then. node.inode 0:
    // the caller knows that it has no other name in this layer.
    [[nodiscard]] Result<bool> put_link(const std::string& name, int source_dir, const std::string& source_name,
                                        const Node& node, std::uint64_t link_domain, std::uint64_t operation);
    // A second name for what is no directory. What is only below is copied into this layer first.
    [[nodiscard]] Result<> put_hard_link(const std::string& name, WritableDir& first, const std::string& first_name);
    [[nodiscard]] Result<> put_symlink(const std::string& name, const std::string& target, const Meta& meta);
    // Devices, fifos. Sockets become empty files, as BuildKit's copy makes them.
    [[nodiscard]] Result<> put_special(const std::string& name, Kind kind, std::uint64_t rdev, const Meta& meta);
    // What is only below comes into this layer, with all its metadata. Not for directories.
    [[nodiscard]] Result<> copy_up(const std::string& name);
    // rm -rf; a name below leaves a whiteout. Missing is fine.
    [[nodiscard]] Result<> remove(const std::string& name);
    // New owner, mode, times and xattrs for this directory itself.
    [[nodiscard]] Result<> set_meta(const Meta& meta);
    [[nodiscard]] Result<> set_mtime(std::int64_t mtime_ns);

private:
    friend class LayerBuilder;
    [[nodiscard]] Result<sys::Fd> new_file(const std::string& name) const;
    [[nodiscard]] Result<> finish_file(int fd, const std::string& name, std::uint64_t size, const Meta& meta);
    [[nodiscard]] Result<bool> base_has(const std::string& name) const;
    LayerBuilder& owner_;
    sys::Fd fd_;
    DirectoryRef base_;  // what lies below, or null
    std::string path_;
    bool inherits_group_ = false;  // setgid: new names do not get our own group
};
using WritableDirRef = std::shared_ptr<WritableDir>;

class LayerBuilder {
public:
    // layers: the chain below (bottom first); upper: an empty directory. A fresh root gets 0755 0:0 unless there is a
    // base, whose root metadata it then copies.
    static Result<std::unique_ptr<LayerBuilder>> create(const std::vector<LayerDir>& layers, sys::RootedDir upper);

    // Asked for so many bytes before they are written; an error of it ends the writing. Before anything is written.
    using BeforeWrite = std::function<Result<>(std::uint64_t bytes)>;
    void set_before_write(BeforeWrite ask) { before_write_ = std::move(ask); }

    // The merged tree as it is now (base and what was written). Directories opened earlier may be stale.
    [[nodiscard]] TreeRef view() const { return view_; }
    [[nodiscard]] Result<WritableDirRef> root();
    // path must be resolved (no links) and be an existing directory; it is copied up.
    [[nodiscard]] Result<WritableDirRef> open_dir(std::string_view resolved_path);
    // mkdir -p of a resolved path; made directories get meta. Calls made for each (nullptr: not wanted).
    [[nodiscard]] Result<WritableDirRef> make_dirs(std::string_view resolved_path, const Meta& meta,
                                                   std::vector<std::string>* made);
    // Sets the times of directories. Call once, last.
    [[nodiscard]] Result<> finish();

    // Sum of the sizes of files written or linked, and their number.
    struct Written {
        std::uint64_t files = 0;
        std::uint64_t linked = 0;
        std::uint64_t bytes = 0;
    };
    [[nodiscard]] Written written();

private:
    friend class WritableDir;
    LayerBuilder() = default;
    struct LinkedFrom {
        std::uint64_t domain = 0;
        std::uint64_t operation = 0;
    };
    struct State {
        std::map<std::string, std::int64_t, std::less<>> dir_times;  // path → mtime to set at the end
        std::unordered_map<std::uint64_t, LinkedFrom> linked;        // inode → where it was linked from
        Written written;
    };
    // A file of that size.
    Result<> ask(std::uint64_t bytes) const;

    sys::RootedDir upper_;
    BeforeWrite before_write_;
    TreeRef base_;
    TreeRef view_;
    Guarded<State> state_;
};

}  // namespace cooper::snapshot
