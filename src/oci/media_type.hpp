// Media types of images as OCI and Docker name them, and what may be said of each.
// Specs: OCI image-spec media-types.md; Docker "Image Manifest V 2, Schema 2".
#pragma once

#include <cstdint>
#include <string_view>

namespace cooper::oci {

inline constexpr std::string_view kOciManifest = "application/vnd.oci.image.manifest.v1+json";
inline constexpr std::string_view kOciIndex = "application/vnd.oci.image.index.v1+json";
inline constexpr std::string_view kOciConfig = "application/vnd.oci.image.config.v1+json";
inline constexpr std::string_view kOciEmptyJson = "application/vnd.oci.empty.v1+json";
inline constexpr std::string_view kOciLayer = "application/vnd.oci.image.layer.v1.tar";
inline constexpr std::string_view kOciLayerGzip = "application/vnd.oci.image.layer.v1.tar+gzip";
inline constexpr std::string_view kOciLayerZstd = "application/vnd.oci.image.layer.v1.tar+zstd";
inline constexpr std::string_view kOciForeignLayer = "application/vnd.oci.image.layer.nondistributable.v1.tar";
inline constexpr std::string_view kOciForeignLayerGzip = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
inline constexpr std::string_view kOciForeignLayerZstd = "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd";

inline constexpr std::string_view kDockerManifest = "application/vnd.docker.distribution.manifest.v2+json";
inline constexpr std::string_view kDockerIndex = "application/vnd.docker.distribution.manifest.list.v2+json";
inline constexpr std::string_view kDockerConfig = "application/vnd.docker.container.image.v1+json";
inline constexpr std::string_view kDockerLayer = "application/vnd.docker.image.rootfs.diff.tar";
inline constexpr std::string_view kDockerLayerGzip = "application/vnd.docker.image.rootfs.diff.tar.gzip";
inline constexpr std::string_view kDockerLayerZstd = "application/vnd.docker.image.rootfs.diff.tar.zstd";
inline constexpr std::string_view kDockerForeignLayer = "application/vnd.docker.image.rootfs.foreign.diff.tar";
inline constexpr std::string_view kDockerForeignLayerGzip = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
inline constexpr std::string_view kDockerSchema1 = "application/vnd.docker.distribution.manifest.v1+json";
inline constexpr std::string_view kDockerSchema1Signed = "application/vnd.docker.distribution.manifest.v1+prettyjws";

inline constexpr std::string_view kInToto = "application/vnd.in-toto+json";

// How a layer's bytes are packed, as its media type says it. (The codec has its own word for what it
// can compress; a room above translates.)
enum class Packing : std::uint8_t { none, gzip, zstd };
enum class Family : std::uint8_t { oci, docker };

[[nodiscard]] bool is_manifest(std::string_view media_type);
[[nodiscard]] bool is_index(std::string_view media_type);
[[nodiscard]] bool is_config(std::string_view media_type);
[[nodiscard]] bool is_schema1(std::string_view media_type);
// A file-system layer, foreign ones included.
[[nodiscard]] bool is_layer(std::string_view media_type);
// Layers that must not be pushed to registries (Windows base layers); they carry urls.
[[nodiscard]] bool is_foreign_layer(std::string_view media_type);
[[nodiscard]] bool is_docker(std::string_view media_type);

// By the media type's suffix; none for anything that says nothing.
[[nodiscard]] Packing packing_of(std::string_view media_type);
// The media type of an ordinary layer. Docker has no official zstd type; BuildKit's name is used.
[[nodiscard]] std::string_view layer_media_type(Family family, Packing packing);
[[nodiscard]] std::string_view manifest_media_type(Family family);
[[nodiscard]] std::string_view index_media_type(Family family);
[[nodiscard]] std::string_view config_media_type(Family family);
// The same kind of thing in another family's words; unknown types come back unchanged. The result
// lives as long as the argument.
[[nodiscard]] std::string_view to_family(std::string_view media_type, Family family);

}  // namespace cooper::oci
