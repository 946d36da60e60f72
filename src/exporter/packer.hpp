// Packer: a result (layers and an image configuration) as the blobs of an image: manifest, config, layers.
//
// A layer keeps the blob it was pulled as, even when its bytes are not here yet. Other layers are written as tar once:
// compressed into the store, or, uncompressed, only hashed ("virtual": the tar is made again from the layer whenever
// somebody reads it, see open_layer). What was found out is remembered in the store. Same input, same bytes.
//
// Any thread; layers are packed in parallel. Specs: OCI image-spec manifest.md, config.md, layer.md.
#pragma once

#include "base/bytes.hpp"
#include "base/progress.hpp"
#include "base/stop.hpp"
#include "oci/image_config.hpp"
#include "oci/manifest.hpp"
#include "store/store.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace cooper::exporter {

// estargz: gzip that is also read file by file. Its tar has a table in it, so that such a layer has a diff id of its
// own.
enum class LayerCompression : std::uint8_t { none, gzip, zstd, estargz };

struct PackOptions {
    LayerCompression compression = LayerCompression::gzip;
    std::optional<int> level;        // gzip 1 … 9, zstd 1 … 22; nullopt = the default of the format
    bool force_compression = false;  // also for pulled layers
    bool oci_media_types = true;     // else Docker's
    // Layers that say where they can be had stay so, and are not pushed; else they become ordinary ones.
    bool prefer_foreign_layers = false;
    // File times later than the epoch become the epoch, in all layers above the base image's.
    bool rewrite_timestamp = false;
    oci::Annotations annotations;             // of the manifest
    oci::Annotations descriptor_annotations;  // of the descriptor that names the manifest
};

struct ImageResult {
    store::Chain chain;
    // With all history entries; rootfs.diff_ids is overwritten. Empty os or architecture: those of this machine.
    oci::ImageConfig config;
    // The base image as it was pulled: its history and its layers are never touched by the epoch.
    std::optional<oci::ImageConfig> base;
    std::optional<std::int64_t> epoch_seconds;  // SOURCE_DATE_EPOCH
};

struct PackedLayer {
    store::LayerId layer = 0;
    Digest diff_id;
    oci::Descriptor blob;
    std::string reference;  // where the blob can be had when it is not in the store; empty = made or kept here
    bool of_image = false;  // the blob was made for this image and is not known to be the layer's
};

struct PackedImage {
    oci::Descriptor manifest;
    std::string manifest_bytes;
    oci::Descriptor config;
    std::string config_bytes;
    std::vector<PackedLayer> layers;  // bottom first
    store::Chain chain;
};

// Makes a lazy layer be on disk.
using MaterializeLayer = std::function<Result<>(store::LayerId layer, VertexProgress& progress, const Stop& stop)>;
// Opens the blob of a pulled layer where it came from. Need not verify it.
using FetchBlob = std::function<Result<std::unique_ptr<ByteSource>>(const store::LazyLayer& lazy, const Stop& stop)>;

class Packer {
public:
    // The store and what the functions use must outlive the packer. threads: for all layers together.
    Packer(store::Store& store, MaterializeLayer materialize, FetchBlob fetch, std::size_t threads);

    // All of an image. Manifest and config are in the store afterwards; layers as described above. With
    // compression none nothing but hashes is computed: what `-t NAME` does until somebody needs the blobs.
    [[nodiscard]] Result<PackedImage> pack(const ImageResult& image, const PackOptions& options,
                                           VertexProgress& progress, const Stop& stop);

    // Layers by themselves, each once, in order: what a build cache is made of.
    [[nodiscard]] Result<std::vector<PackedLayer>> pack_chain(const store::Chain& layers, const PackOptions& options,
                                                              VertexProgress& progress, const Stop& stop);

    // An image of the store as it is: nothing is computed. An index is followed to the manifest of record.config.
    [[nodiscard]] Result<PackedImage> open_image(const store::ImageRecord& record);
    // An image of the store for the world: when its manifest names uncompressed tars that were never stored, these are
    // packed and it gets another manifest; its config (the image id) stays. Otherwise as open_image.
    [[nodiscard]] Result<PackedImage> repack(const store::ImageRecord& record, const PackOptions& options,
                                             VertexProgress& progress, const Stop& stop);

    // The bytes of a layer's blob, from its start: from the store, from the layer itself, or from where it was pulled.
    // The read that would end the stream fails when they are not what the descriptor says.
    [[nodiscard]] Result<std::unique_ptr<ByteSource>> open_layer(const PackedLayer& layer, const Stop& stop);
    // The same written to a sink, without a thread in between.
    [[nodiscard]] Result<> write_layer(const PackedLayer& layer, ByteSink& out, const Stop& stop);

    // What is in a layer, as a tar or a compressed one: from its directory where it is on disk, else as open_layer. Not
    // always the bytes that the blob has.
    [[nodiscard]] Result<std::unique_ptr<ByteSource>> open_files(const PackedLayer& layer, const Stop& stop);

    // The record under which a packed image is kept (name and time are the caller's), and the blobs that must stay.
    [[nodiscard]] static store::ImageRecord record_of(const PackedImage& image);
    [[nodiscard]] static std::vector<Digest> blobs_of(const PackedImage& image);

    [[nodiscard]] store::Store& store() { return store_; }

private:
    struct Job;
    enum class LayerPlace : std::uint8_t { of_base, above_base };
    enum class Remember : std::uint8_t { no, yes };
    Result<PackedLayer> pack_layer(const Job& job, store::LayerId id, LayerPlace place);
    Result<PackedLayer> make_layer(const Job& job, const store::LayerRecord& record,
                                   std::optional<std::int64_t> rewrite_epoch);
    Result<PackedLayer> transcode_layer(const Job& job, const PackedLayer& pulled);
    Result<std::optional<PackedLayer>> known_estargz(const Job& job, store::LayerId id);
    Result<PackedLayer> make_estargz(const Job& job, store::LayerId id, ByteSource& tar, Remember remember);
    Result<std::vector<PackedLayer>> pack_layers(Job job, const store::Chain& chain);
    Result<> fill_config(const ImageResult& image, const std::vector<PackedLayer>& layers, oci::ImageConfig& config);
    Result<PackedImage> assemble(PackedImage image, const PackOptions& options, VertexProgress& progress);
    Result<bool> obtainable(const PackedLayer& layer);
    Result<bool> is_virtual(const PackedLayer& layer);

    store::Store& store_;
    MaterializeLayer materialize_;
    FetchBlob fetch_;
    std::size_t threads_;
};

}  // namespace cooper::exporter
