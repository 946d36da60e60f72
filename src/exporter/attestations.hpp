// Attestations of packed images: statements become layers of a manifest of their own, which stands in the index beside
// the image's and names it. An image with attestations is always below an index.
// Forms: an OCI artifact whose subject is the image (default with OCI media types), or an image of no platform.
#pragma once

#include "exporter/index.hpp"

#include <string>
#include <vector>

namespace cooper::exporter {

inline constexpr std::string_view kReferenceType = "vnd.docker.reference.type";
inline constexpr std::string_view kReferenceDigest = "vnd.docker.reference.digest";
inline constexpr std::string_view kAttestationManifest = "attestation-manifest";
inline constexpr std::string_view kAttestationArtifact = "application/vnd.docker.attestation.manifest.v1+json";
inline constexpr std::size_t kMaxStatementBytes = std::size_t{256} << 20U;

struct Statement {
    std::string text;
    std::string media_type;
    oci::Annotations annotations;
};

enum class AttestationForm : std::uint8_t { artifact, image };

// Manifest, config and statements are in the store afterwards.
[[nodiscard]] Result<PackedAttestation> pack_attestation(store::Store& store, const PackedImage& image,
                                                         const std::vector<Statement>& statements, AttestationForm form,
                                                         bool oci_media_types, VertexProgress& progress);

// An entry of an index that is no image but says something of one.
[[nodiscard]] bool is_attestation(const oci::Descriptor& entry);
// From the store; nullopt: it is not here as a whole.
[[nodiscard]] Result<std::optional<PackedAttestation>> open_attestation(store::Store& store,
                                                                        const oci::Descriptor& entry);

}  // namespace cooper::exporter
