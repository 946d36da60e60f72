// Images as archives: an OCI image layout as a tar or a directory. The docker form has a manifest.json besides, so that
// docker load, podman and skopeo read it. Each blob once, names sorted, times 0: same images, same bytes.
// Specs: OCI image-spec image-layout.md; moby "docker save" v1.2.
#pragma once

#include "exporter/index.hpp"
#include "sys/rooted_dir.hpp"

#include <set>

namespace cooper::exporter {

struct ArchiveImage {
    PackedResult image;
    std::vector<std::string> names;  // canonical; may be empty
};

enum class ArchiveFormat : std::uint8_t { oci, docker };

// fd stays the caller's. Layers that are not here are streamed from where they were pulled.
[[nodiscard]] Result<> write_archive(Packer& packer, const std::vector<ArchiveImage>& images, ArchiveFormat format,
                                     int fd, VertexProgress& progress, const Stop& stop);
// The same without these layers, which the reader has already.
[[nodiscard]] Result<> write_archive_without(Packer& packer, const std::vector<ArchiveImage>& images,
                                             ArchiveFormat format, const std::set<Digest>& layers, int fd,
                                             VertexProgress& progress, const Stop& stop);
// Into an existing directory; blobs that are there already are kept, index.json is replaced.
[[nodiscard]] Result<> write_layout(Packer& packer, const std::vector<ArchiveImage>& images, ArchiveFormat format,
                                    const sys::RootedDir& dest, VertexProgress& progress, const Stop& stop);

}  // namespace cooper::exporter
