// Manifest and Index: how an image is put together. OCI and Docker schema 2; schema 1 is refused.
// Doors: parse_* (bounded: 4 MiB, 64 levels, 10 000 entries) and marshal_* (byte for byte what
// BuildKit writes: two-space indentation, fields in the order of the Go structs).
#pragma once

#include "oci/descriptor.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::oci {

inline constexpr std::size_t kMaxManifestBytes = 4u << 20;

struct Manifest {
    std::string media_type;
    std::string artifact_type;
    Descriptor config;
    std::vector<Descriptor> layers;
    std::optional<Descriptor> subject;
    Annotations annotations;
    std::string raw;  // the bytes it was parsed from; empty when built by hand
};

struct Index {
    std::string media_type;
    std::string artifact_type;
    std::vector<Descriptor> manifests;
    std::optional<Descriptor> subject;
    Annotations annotations;
    std::string raw;
};

// media_type: what the registry or descriptor says, "" when unknown; a document that says otherwise
// itself is refused (OCI image-spec, "manifest.md": clients must check for confusion).
[[nodiscard]] Result<Manifest> parse_manifest(std::string_view json, std::string_view media_type);
[[nodiscard]] Result<Index> parse_index(std::string_view json, std::string_view media_type);
[[nodiscard]] std::string marshal_manifest(const Manifest& manifest);
[[nodiscard]] std::string marshal_index(const Index& index);

// The media type of a manifest or index by its own words or, failing these, its shape. Fails on
// schema 1 and on anything else.
[[nodiscard]] Result<std::string> sniff_media_type(std::string_view json);

// The entries that can run on `platform`, best first (match_rank, then order in the index); entries
// without a platform come last. Attestation manifests ("unknown/unknown") are never chosen.
[[nodiscard]] std::vector<Descriptor> select_platform(const Index& index, const Platform& platform);

}  // namespace cooper::oci
