// Pushes what was packed: layers in parallel, then the configs, then the manifests (those of an index by digest), and
// the image or index under each name. What the registry has
// is not sent; what it can take from another of its repositories is mounted; layers that are not here are streamed
// from where they were pulled. Uncompressed "virtual" layers are sent as they are: see Packer::repack.
#pragma once

#include "exporter/index.hpp"
#include "oci/reference.hpp"
#include "registry/registry.hpp"

namespace cooper::exporter {

enum class PushName : std::uint8_t { tag, digest };

// With PushName::digest the names must have no tag. Errors name the reference.
[[nodiscard]] Result<> push_image(Packer& packer, registry::Registry& registry, const PackedResult& result,
                                  const std::vector<oci::Reference>& names, PushName by, VertexProgress& progress,
                                  const Stop& stop);

}  // namespace cooper::exporter
