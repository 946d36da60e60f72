// Writes a layer directory (overlayfs upper format) as the tar of an OCI layer: walked in the order of sorted names, a
// directory before its children, first name of an inode as file and later ones as hard links, devices 0:0 as ".wh."
// files, opaque directories with ".wh..wh..opq". The same tree gives the same bytes. Sockets are left out.
#pragma once

#include "base/stop.hpp"
#include "codec/tar.hpp"
#include "sys/rooted_dir.hpp"

#include <cstdint>
#include <optional>

namespace cooper::layer {

enum class EpochUse : std::uint8_t { clamp, set };

struct DiffOptions {
    // SOURCE_DATE_EPOCH in seconds: times later than it (clamp) or all times (set) become it. Whiteouts, which have no
    // time of their own, get it too; without it they get the device's own time.
    std::optional<std::int64_t> epoch_s;
    EpochUse epoch_use = EpochUse::clamp;
};

struct DiffStats {
    std::uint64_t entries = 0;
    std::uint64_t bytes = 0;  // of files
    std::uint64_t whiteouts = 0;
    std::uint64_t skipped_sockets = 0;
};

// Does not finish the writer. A file that changes its size meanwhile is failed_precondition.
[[nodiscard]] Result<DiffStats> write_layer_tar(const sys::RootedDir& layer_dir, codec::TarWriter& tar,
                                                const DiffOptions& options, Stop stop);

}  // namespace cooper::layer
