// A result as plain files: into a directory (type=local) or as one tar (type=tar).
#pragma once

#include "base/progress.hpp"
#include "base/stop.hpp"
#include "snapshot/tree.hpp"
#include "sys/rooted_dir.hpp"

#include <cstdint>
#include <optional>

namespace cooper::exporter {

struct FileTreeOptions {
    std::optional<std::int64_t> epoch_seconds;  // all times become it
    bool remove_others = false;                 // a directory: what is there and not in the tree goes
};

struct FileTreeStats {
    std::uint64_t entries = 0;
    std::uint64_t bytes = 0;
    std::uint64_t skipped = 0;  // devices and sockets that could not be made
};

// Merges the tree into dest: files replace what is there, directories are merged, nothing else is removed unless asked
// for, and no link of dest is ever followed. Modes, times and extended attributes are kept as far as the file system
// and the caller may; owners only when the caller is root. A failure leaves what was written so far.
[[nodiscard]] Result<FileTreeStats> export_local(const snapshot::Tree& tree, const sys::RootedDir& dest,
                                                 const FileTreeOptions& options, VertexProgress& progress,
                                                 const Stop& stop);
// Sorted by name, a directory before its content, hard links kept, sockets left out. fd stays the caller's.
[[nodiscard]] Result<FileTreeStats> export_tar(const snapshot::Tree& tree, int fd, const FileTreeOptions& options,
                                               VertexProgress& progress, const Stop& stop);

}  // namespace cooper::exporter
