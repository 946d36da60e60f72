#include "exporter/index.hpp"

#include "exporter/attestations.hpp"
#include "oci/media_type.hpp"

#include <algorithm>
#include <set>
#include <utility>

namespace cooper::exporter {

namespace {

// The layers kept for an image of an index. nullopt: another image's.
Result<bool> is_of(store::Store& store, const store::Chain& chain, const std::vector<Digest>& diff_ids) {
    if (chain.layers.size() != diff_ids.size()) return false;
    for (std::size_t i = 0; i < diff_ids.size(); ++i) {
        if (TRY(store.layer(chain.layers[i])).info.diff_id != diff_ids[i]) return false;
    }
    return true;
}

// nullopt: it is not here as a whole.
Result<std::optional<PackedImage>> open_entry(Packer& packer, const oci::Descriptor& entry,
                                              const store::ImageRecord& record) {
    store::Store& store = packer.store();
    if (!TRY(store.blob_size(entry.digest))) return std::optional<PackedImage>{};
    const std::string bytes = TRY(store.read_blob(entry.digest, oci::kMaxManifestBytes));
    const oci::Manifest manifest = TRY(oci::parse_manifest(bytes, entry.media_type));
    if (!TRY(store.blob_size(manifest.config.digest))) return std::optional<PackedImage>{};
    const auto config =
        oci::parse_image_config(TRY(store.read_blob(manifest.config.digest, oci::kMaxImageConfigBytes)));
    if (!config) return std::optional<PackedImage>{};
    store::ImageRecord part{.name = {}, .target = entry, .config = manifest.config.digest};
    std::vector<store::Chain> chains = record.others;
    chains.push_back(record.chain);
    bool found = false;
    for (const auto& chain : chains) {
        if (found || !TRY(is_of(store, chain, config->diff_ids))) continue;
        part.chain = chain;
        found = true;
    }
    if (!found) return std::optional<PackedImage>{};
    return std::optional<PackedImage>(TRY(packer.open_image(part)));
}

oci::Index index_over(const std::vector<PackedImage>& images, const std::vector<PackedAttestation>& attestations,
                      std::string media_type, oci::Annotations annotations) {
    oci::Index index;
    index.media_type = std::move(media_type);
    index.annotations = std::move(annotations);
    for (const auto& image : images) index.manifests.push_back(image.manifest);
    for (const auto& attestation : attestations) index.manifests.push_back(attestation.manifest.descriptor);
    return index;
}

Result<PackedResult> put_index(store::Store& store, std::vector<PackedImage> images,
                               std::vector<PackedAttestation> attestations, const oci::Index& index) {
    PackedResult result;
    result.attestations = std::move(attestations);
    result.images = std::move(images);
    result.index_bytes = oci::marshal_index(index);
    result.index = TRY(store.put_blob(result.index_bytes, index.media_type));
    return result;
}

}  // namespace

const PackedImage& PackedResult::main_image() const {
    const oci::Platform host = oci::host_platform();
    const PackedImage* best = &images.front();
    std::optional<int> best_rank;
    for (const auto& image : images) {
        if (!image.manifest.platform) continue;
        const auto rank = oci::match_rank(host, *image.manifest.platform);
        if (!rank || (best_rank && *best_rank <= *rank)) continue;
        best = &image;
        best_rank = rank;
    }
    return *best;
}

Result<PackedResult> pack_index(store::Store& store, std::vector<PackedImage> images,
                                std::vector<PackedAttestation> attestations, const IndexOptions& options,
                                VertexProgress& progress) {
    if (images.empty()) return bad_input("an index needs an image");
    std::set<std::string> platforms;
    for (const auto& image : images) {
        if (!image.manifest.platform) return bad_input("an image of an index needs a platform");
        const std::string platform = oci::format_platform_all(*image.manifest.platform);
        if (!platforms.insert(platform).second) return bad_input("two images are for the platform {}", platform);
    }
    const std::string_view media_type = options.oci_media_types ? oci::kOciIndex : oci::kDockerIndex;
    const oci::Index index = index_over(images, attestations, std::string(media_type), options.annotations);
    PackedResult result = TRY(put_index(store, std::move(images), std::move(attestations), index));
    result.index->annotations = options.descriptor_annotations;
    const std::string row = "exporting manifest list " + result.index->digest.to_string();
    progress.status(row, row, 0, 0, true);
    return result;
}

Result<PackedResult> open_result(Packer& packer, const store::ImageRecord& record) {
    store::Store& store = packer.store();
    std::string bytes = TRY(store.read_blob(record.target.digest, oci::kMaxManifestBytes));
    if (!oci::is_index(TRY(oci::sniff_media_type(bytes)))) return PackedResult(TRY(packer.open_image(record)));
    const oci::Index index = TRY(oci::parse_index(bytes, record.target.media_type));
    PackedResult result;
    for (const auto& entry : index.manifests) {
        if (is_attestation(entry)) {
            auto attestation = TRY(open_attestation(store, entry));
            if (!attestation) return PackedResult(TRY(packer.open_image(record)));
            result.attestations.push_back(std::move(*attestation));
            continue;
        }
        auto image = TRY(open_entry(packer, entry, record));
        if (!image) return PackedResult(TRY(packer.open_image(record)));
        result.images.push_back(std::move(*image));
    }
    if (result.images.empty()) return PackedResult(TRY(packer.open_image(record)));
    result.index = record.target;
    result.index_bytes = std::move(bytes);
    return result;
}

Result<PackedResult> repack_result(Packer& packer, const store::ImageRecord& record, const PackOptions& options,
                                   VertexProgress& progress, const Stop& stop) {
    const PackedResult before = TRY(open_result(packer, record));
    if (!before.index) return PackedResult(TRY(packer.repack(record, options, progress, stop)));
    std::vector<PackedImage> images;
    bool same = true;
    for (const auto& image : before.images) {
        const store::ImageRecord part{
            .name = {}, .target = image.manifest, .config = image.config.digest, .chain = image.chain};
        PackedImage packed = TRY(packer.repack(part, options, progress, stop));
        same = same && packed.manifest.digest == image.manifest.digest;
        packed.manifest.platform = image.manifest.platform;
        packed.manifest.annotations = image.manifest.annotations;
        images.push_back(std::move(packed));
    }
    if (same) return before;
    const oci::Index old = TRY(oci::parse_index(before.index_bytes, before.index->media_type));
    const std::string_view media_type = options.oci_media_types ? oci::kOciIndex : oci::kDockerIndex;
    std::vector<PackedAttestation> attestations;
    for (const auto& attestation : before.attestations) {
        const oci::Annotations& annotations = attestation.manifest.descriptor.annotations;
        const auto of = annotations.find(std::string(kReferenceDigest));
        const bool holds = of != annotations.end() && std::ranges::any_of(images, [&](const PackedImage& image) {
                               return image.manifest.digest.to_string() == of->second;
                           });
        if (holds) {
            attestations.push_back(attestation);
        } else {
            progress.warn(WarningEvent{.short_text = "the attestations of the image are left out: they are about "
                                                     "layers that are compressed in another way"});
        }
    }
    const oci::Index index = index_over(images, attestations, std::string(media_type), old.annotations);
    return put_index(packer.store(), std::move(images), std::move(attestations), index);
}

store::ImageRecord record_of(const PackedResult& result) {
    const PackedImage& main = result.main_image();
    store::ImageRecord record = Packer::record_of(main);
    if (!result.index) return record;
    record.target = *result.index;
    for (const auto& image : result.images) {
        if (&image != &main) record.others.push_back(image.chain);
    }
    return record;
}

std::vector<Digest> blobs_of(const PackedResult& result) {
    std::vector<Digest> blobs;
    if (result.index) blobs.push_back(result.index->digest);
    for (const auto& image : result.images) {
        for (const Digest& blob : Packer::blobs_of(image)) blobs.push_back(blob);
    }
    for (const auto& attestation : result.attestations) {
        blobs.push_back(attestation.manifest.descriptor.digest);
        blobs.push_back(attestation.config.descriptor.digest);
        for (const auto& layer : attestation.layers) blobs.push_back(layer.descriptor.digest);
    }
    return blobs;
}

}  // namespace cooper::exporter
