// Unpacks the tar of an OCI layer into an empty layer directory: whiteouts become character devices 0:0, opaque markers
// the overlay xattr, everything else what containerd's apply makes of it.
//
// Nothing outside layer_dir is ever touched: parents are resolved by the kernel inside it (links of the layer itself
// are followed inside), last components never. Whatever an archive says about trusted.overlay.* and user.overlay.* is
// dropped. Whiteouts and opaque markers hide what lower layers have, wherever in the archive they stand; a character
// device 0:0 is a whiteout. A hard link may come before what it names. Bad archives: invalid_argument, blame on the
// user, naming the entry; the directory is then to be thrown away. Memory does not grow with the number of entries, but
// for the links that wait. Needs root for owners, devices and trusted xattrs; in a user namespace device nodes are left
// out and opaque markers are user.overlay.opaque.
#pragma once

#include "base/bytes.hpp"
#include "base/stop.hpp"
#include "sys/rooted_dir.hpp"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace cooper::layer {

struct ApplyLimits {
    std::uint64_t max_entries = 10'000'000;
    std::uint64_t max_bytes = std::uint64_t{1} << 40;  // of files, holes included
    std::size_t max_path_bytes = 4096;
    // Asked for so many bytes on disk before they are written; an error of it ends the unpacking.
    std::function<Result<>(std::uint64_t bytes)> before_write{};
};

struct ApplyStats {
    std::uint64_t entries = 0;
    std::uint64_t files = 0;
    std::uint64_t bytes = 0;
    std::uint64_t whiteouts = 0;
    std::uint64_t skipped_devices = 0;
    std::uint64_t skipped_xattrs = 0;       // the file system takes none of that kind
    std::vector<std::string> implied_dirs;  // made 0755 root because the archive has no entry; at most 10,000 are told
};

// Reads uncompressed_tar to its very end, so that digests computed on the way are of all of it.
[[nodiscard]] Result<ApplyStats> apply_layer_tar(ByteSource& uncompressed_tar, const sys::RootedDir& layer_dir,
                                                 const ApplyLimits& limits, Stop stop);

}  // namespace cooper::layer
