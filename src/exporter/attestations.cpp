#include "exporter/attestations.hpp"

#include "codec/sha256.hpp"
#include "oci/media_type.hpp"

#include <utility>

namespace cooper::exporter {

namespace {

constexpr std::string_view kEmptyConfig = "application/vnd.oci.empty.v1+json";

// The configuration of an image that nothing can run: only its layers are named.
std::string config_of_no_platform(const std::vector<PackedBlob>& layers) {
    std::string diff_ids;
    for (const auto& layer : layers)
        diff_ids += (diff_ids.empty() ? "\"" : ",\"") + layer.descriptor.digest.to_string() + "\"";
    return R"({"architecture":"unknown","config":{},"os":"unknown","rootfs":{"diff_ids":[)" + diff_ids +
           R"(],"type":"layers"}})";
}

}  // namespace

Result<PackedAttestation> pack_attestation(store::Store& store, const PackedImage& image,
                                           const std::vector<Statement>& statements, AttestationForm form,
                                           bool oci_media_types, VertexProgress& progress) {
    PackedAttestation out;
    oci::Manifest manifest;
    manifest.media_type =
        std::string(oci::manifest_media_type(oci_media_types ? oci::Family::oci : oci::Family::docker));
    for (const auto& statement : statements) {
        PackedBlob blob{TRY(store.put_blob(statement.text, statement.media_type)), statement.text};
        blob.descriptor.annotations = statement.annotations;
        manifest.layers.push_back(blob.descriptor);
        out.layers.push_back(std::move(blob));
    }
    if (form == AttestationForm::artifact) {
        manifest.artifact_type = kAttestationArtifact;
        out.config.text = "{}";
        out.config.descriptor = TRY(store.put_blob(out.config.text, std::string(kEmptyConfig)));
        oci::Descriptor subject;
        subject.media_type = image.manifest.media_type;
        subject.digest = image.manifest.digest;
        subject.size = image.manifest.size;
        manifest.subject = std::move(subject);
    } else {
        out.config.text = config_of_no_platform(out.layers);
        out.config.descriptor = TRY(store.put_blob(
            out.config.text,
            std::string(oci::config_media_type(oci_media_types ? oci::Family::oci : oci::Family::docker))));
    }
    manifest.config = out.config.descriptor;
    out.manifest.text = oci::marshal_manifest(manifest);
    out.manifest.descriptor = TRY(store.put_blob(out.manifest.text, manifest.media_type));
    out.manifest.descriptor.platform =
        oci::Platform{.os = "unknown", .architecture = "unknown", .variant = {}, .os_version = {}, .os_features = {}};
    out.manifest.descriptor.annotations = {{std::string(kReferenceType), std::string(kAttestationManifest)},
                                           {std::string(kReferenceDigest), image.manifest.digest.to_string()}};
    const std::string row = "exporting attestation manifest " + out.manifest.descriptor.digest.to_string();
    progress.status(row, row, 0, 0, true);
    return out;
}

bool is_attestation(const oci::Descriptor& entry) {
    const auto type = entry.annotations.find(std::string(kReferenceType));
    return type != entry.annotations.end() && type->second == kAttestationManifest;
}

Result<std::optional<PackedAttestation>> open_attestation(store::Store& store, const oci::Descriptor& entry) {
    const std::optional<PackedAttestation> absent;
    if (!TRY(store.blob_size(entry.digest))) return absent;
    PackedAttestation out;
    out.manifest = {entry, TRY(store.read_blob(entry.digest, oci::kMaxManifestBytes))};
    const oci::Manifest manifest = TRY(oci::parse_manifest(out.manifest.text, entry.media_type));
    if (!TRY(store.blob_size(manifest.config.digest))) return absent;
    out.config = {manifest.config, TRY(store.read_blob(manifest.config.digest, oci::kMaxImageConfigBytes))};
    for (const auto& layer : manifest.layers) {
        if (!TRY(store.blob_size(layer.digest))) return absent;
        out.layers.push_back({layer, TRY(store.read_blob(layer.digest, kMaxStatementBytes))});
    }
    return std::optional(std::move(out));
}

}  // namespace cooper::exporter
