// Reads image archives: OCI layouts and `docker save` (old and new), plain or compressed with gzip or zstd, in one pass
// whatever the order of their members. Every blob is verified; nothing is unpacked: layers are lazy, their reference is
// "" (the blob is in the store). Hostile input: bounded, names in it are never used as paths.
// Errors: invalid_argument (no image archive, or a broken one), data_loss (digest differs), Blame::user.
#pragma once

#include "base/bytes.hpp"
#include "base/progress.hpp"
#include "base/stop.hpp"
#include "oci/platform.hpp"
#include "store/store.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace cooper::exporter {

struct LoadLimits {
    std::uint64_t max_members = 100'000;
    std::uint64_t max_bytes = std::uint64_t{1} << 40;  // of all members
};

struct LoadedImage {
    std::vector<std::string> names;  // canonical; empty when the archive has none
    store::ImageRecord record;       // without name and time; put_image() is the caller's
    std::vector<Digest> blobs;       // for put_image: manifest, config, index
};

// Of an index the image that runs on platform stands for it, else the first; the others in the archive stay with it.
[[nodiscard]] Result<std::vector<LoadedImage>> load_archive(store::Store& store, std::unique_ptr<ByteSource> source,
                                                            const oci::Platform& platform, const LoadLimits& limits,
                                                            VertexProgress& progress, const Stop& stop);

}  // namespace cooper::exporter
