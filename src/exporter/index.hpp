// An image of several platforms: an index over packed images, and an image of the store as it was put in. The index
// names the images in the order given, each with its platform: same input, same bytes.
// Specs: OCI image-spec image-index.md; Docker's manifest list.
#pragma once

#include "exporter/packer.hpp"

#include <optional>
#include <string>
#include <vector>

namespace cooper::exporter {

// Bytes that are here, and what names them.
struct PackedBlob {
    oci::Descriptor descriptor;
    std::string text;
};

// What is said of an image: a manifest of statements (attestations.hpp).
struct PackedAttestation {
    PackedBlob manifest;
    PackedBlob config;
    std::vector<PackedBlob> layers;
};

// What leaves as one thing under one name: an image, or an index and its images.
struct PackedResult {
    PackedResult() = default;
    PackedResult(PackedImage image) { images.push_back(std::move(image)); }  // NOLINT(google-explicit-constructor)

    std::vector<PackedImage> images;  // at least one
    std::vector<PackedAttestation> attestations;
    std::optional<oci::Descriptor> index;  // over all of them
    std::string index_bytes;

    [[nodiscard]] const oci::Descriptor& target() const { return index ? *index : images.front().manifest; }
    // The image for this machine, else the first.
    [[nodiscard]] const PackedImage& main_image() const;
};

struct IndexOptions {
    bool oci_media_types = true;              // else Docker's manifest list
    oci::Annotations annotations;             // of the index
    oci::Annotations descriptor_annotations;  // of the descriptor that names it
};

// The manifests' descriptors have platforms; two of the same platform are bad input. The index is in the store
// afterwards.
[[nodiscard]] Result<PackedResult> pack_index(store::Store& store, std::vector<PackedImage> images,
                                              std::vector<PackedAttestation> attestations, const IndexOptions& options,
                                              VertexProgress& progress);

// An image of the store as it is. An index whose images are not all here is followed to the image for this machine.
[[nodiscard]] Result<PackedResult> open_result(Packer& packer, const store::ImageRecord& record);
// As Packer::repack, for all images of an index; the index changes with them, and loses what was attested of images
// that have another manifest now.
[[nodiscard]] Result<PackedResult> repack_result(Packer& packer, const store::ImageRecord& record,
                                                 const PackOptions& options, VertexProgress& progress,
                                                 const Stop& stop);

// The record under which a result is kept (name and time are the caller's), and the blobs that must stay.
[[nodiscard]] store::ImageRecord record_of(const PackedResult& result);
[[nodiscard]] std::vector<Digest> blobs_of(const PackedResult& result);

}  // namespace cooper::exporter
