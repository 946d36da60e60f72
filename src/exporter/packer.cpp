#include "exporter/packer.hpp"

#include "base/text.hpp"
#include "base/work_pool.hpp"
#include "codec/estargz.hpp"
#include "codec/pipeline.hpp"
#include "exporter/detail/layer_stream.hpp"
#include "exporter/image_history.hpp"
#include "oci/media_type.hpp"

#include <algorithm>
#include <utility>

namespace cooper::exporter {

namespace {

constexpr std::int64_t kMaxEpochSeconds = 9'000'000'000;  // what fits into nanoseconds

codec::Compression codec_of(LayerCompression compression) {
    switch (compression) {
        case LayerCompression::none:
            return codec::Compression::none;
        case LayerCompression::gzip:
            return codec::Compression::gzip;
        case LayerCompression::zstd:
            return codec::Compression::zstd;
        case LayerCompression::estargz:
            return codec::Compression::gzip;
    }
    UNREACHABLE();
}

oci::Packing packing_of(LayerCompression compression) {
    switch (compression) {
        case LayerCompression::none:
            return oci::Packing::none;
        case LayerCompression::gzip:
            return oci::Packing::gzip;
        case LayerCompression::zstd:
            return oci::Packing::zstd;
        case LayerCompression::estargz:
            return oci::Packing::gzip;
    }
    UNREACHABLE();
}

std::string_view plain_name(LayerCompression compression) {
    switch (compression) {
        case LayerCompression::none:
            return "none";
        case LayerCompression::gzip:
            return "gzip";
        case LayerCompression::zstd:
            return "zstd";
        case LayerCompression::estargz:
            return "estargz";
    }
    UNREACHABLE();
}

// How the store knows a packed form: "gzip", or "gzip:9" for another level.
std::string key_of(const PackOptions& options) {
    std::string key(plain_name(options.compression));
    if (options.level && options.compression != LayerCompression::none) key += fmt::format(":{}", *options.level);
    return key;
}

oci::Family family_of(const PackOptions& options) {
    return options.oci_media_types ? oci::Family::oci : oci::Family::docker;
}

oci::Descriptor layer_blob(LayerCompression compression, const Digest& digest, std::uint64_t size) {
    oci::Descriptor blob;
    blob.media_type = oci::layer_media_type(oci::Family::oci, packing_of(compression));
    blob.digest = digest;
    blob.size = size;
    return blob;
}

void add_estargz_facts(oci::Descriptor& blob, const Digest& toc, std::uint64_t plain_bytes) {
    blob.annotations[std::string(codec::kEstargzTocAnnotation)] = toc.to_string();
    blob.annotations[std::string(codec::kEstargzSizeAnnotation)] = std::to_string(plain_bytes);
}

// The same layer as one that may be pushed.
std::string ordinary(std::string media_type) {
    for (const std::string_view word : {"nondistributable.", "foreign."}) {
        if (const auto at = media_type.find(word); at != std::string::npos) media_type.erase(at, word.size());
    }
    return media_type;
}

// A row that appears when work begins and is completed when it succeeds.
class Row {
public:
    Row(VertexProgress& progress, std::string text) : progress_(progress), text_(std::move(text)) {
        progress_.status(text_, text_, 0, 0, false);
    }
    void done() { progress_.status(text_, text_, 0, 0, true); }

private:
    VertexProgress& progress_;
    std::string text_;
};

}  // namespace

struct Packer::Job {
    const PackOptions& options;
    std::optional<std::int64_t> rewrite_epoch;  // set: layers from base_layers on get other times
    std::size_t base_layers = 0;
    std::size_t threads = 1;  // of one layer
    VertexProgress& progress;
    const Stop& stop;
};

Packer::Packer(store::Store& store, MaterializeLayer materialize, FetchBlob fetch, std::size_t threads)
    : store_(store),
      materialize_(std::move(materialize)),
      fetch_(std::move(fetch)),
      threads_(std::max<std::size_t>(threads, 1)) {}

Result<bool> Packer::obtainable(const PackedLayer& layer) {
    if (!layer.reference.empty()) return true;
    const auto size = TRY(store_.blob_size(layer.blob.digest));
    return size && *size == layer.blob.size;
}

Result<PackedLayer> Packer::pack_layer(const Job& job, store::LayerId id, LayerPlace place) {
    const store::LayerRecord record = TRY(store_.layer(id));
    const bool rewritten = job.rewrite_epoch && place == LayerPlace::above_base;
    if (!rewritten && record.lazy && !record.lazy->blob.digest.empty() && record.info.diff_id) {
        PackedLayer layer{.layer = id,
                          .diff_id = *record.info.diff_id,
                          .blob = record.lazy->blob,
                          .reference = record.lazy->reference};
        if (TRY(obtainable(layer))) {
            const bool fits = oci::packing_of(layer.blob.media_type) == packing_of(job.options.compression) &&
                              (job.options.compression != LayerCompression::estargz ||
                               layer.blob.annotations.contains(std::string(codec::kEstargzTocAnnotation)));
            if (!job.options.force_compression || fits) return layer;
            return TRY_CONTEXT(transcode_layer(job, layer), "compress layer {} anew", layer.blob.digest.to_string());
        }
    }
    if (!record.on_disk) TRY(materialize_(id, job.progress, job.stop));
    return TRY_CONTEXT(make_layer(job, record, rewritten ? job.rewrite_epoch : std::nullopt), "pack layer {}", id);
}

// From the layer's directory.
Result<PackedLayer> Packer::make_layer(const Job& job, const store::LayerRecord& record,
                                       std::optional<std::int64_t> rewrite_epoch) {
    const LayerCompression compression = job.options.compression;
    if (compression == LayerCompression::estargz) {
        const auto known = rewrite_epoch ? std::nullopt : TRY(known_estargz(job, record.id));
        if (known) return *known;
        const auto tar = detail::read_layer_stream(
            store_.layer_path(record.id), {.epoch_s = rewrite_epoch, .epoch_use = layer::EpochUse::clamp}, job.stop);
        return make_estargz(job, record.id, *tar, rewrite_epoch ? Remember::no : Remember::yes);
    }
    const std::string key = key_of(job.options);
    if (!rewrite_epoch && record.info.diff_id) {
        for (const auto& known : TRY(store_.layer_blobs(record.id))) {
            if (known.compression != key) continue;
            const bool is_virtual = compression == LayerCompression::none && known.blob.digest == *record.info.diff_id;
            PackedLayer layer{.layer = record.id, .diff_id = *record.info.diff_id, .blob = known.blob, .reference = {}};
            if (is_virtual || TRY(obtainable(layer))) return layer;
        }
    }
    const layer::DiffOptions diff{.epoch_s = rewrite_epoch, .epoch_use = layer::EpochUse::clamp};
    // A tar that cannot be made again from the layer alone must be kept.
    const bool kept = compression != LayerCompression::none || rewrite_epoch;
    std::optional<store::Ingest> ingest;
    if (kept) ingest.emplace(TRY(store_.begin_blob()));
    detail::NullSink nowhere;
    ByteSink& out = ingest ? static_cast<ByteSink&>(*ingest) : nowhere;
    const auto pipeline = TRY(codec::BlobPipeline::create(
        out, codec_of(compression), job.options.level.value_or(codec::kDefaultLevel), job.threads));
    TRY(detail::write_layer_stream(store_.layer_path(record.id), *pipeline, diff, job.stop));
    const codec::BlobFacts facts = TRY(pipeline->finish());
    if (ingest) TRY(std::move(*ingest).commit(facts.digest));

    PackedLayer layer{.layer = record.id,
                      .diff_id = facts.diff_id,
                      .blob = layer_blob(compression, facts.digest, facts.size),
                      .reference = {}};
    // A layer that was unpacked from somebody else's tar has another diff id than ours; this one is not its own.
    if (rewrite_epoch || (record.info.diff_id && *record.info.diff_id != facts.diff_id)) {
        layer.of_image = kept;
        return layer;
    }
    if (!record.info.diff_id) TRY(store_.set_diff_id(record.id, facts.diff_id));
    TRY(store_.add_layer_blob(
        record.id,
        {.compression = "none", .blob = layer_blob(LayerCompression::none, facts.diff_id, facts.uncompressed_size)}));
    if (compression != LayerCompression::none) {
        TRY(store_.add_layer_blob(record.id, {.compression = key, .blob = layer.blob}));
    }
    return layer;
}

// From the blob it was pulled as, so that its diff id stays.
Result<PackedLayer> Packer::transcode_layer(const Job& job, const PackedLayer& pulled) {
    const std::string key = key_of(job.options);
    if (job.options.compression == LayerCompression::estargz) {
        if (const auto known = TRY(known_estargz(job, pulled.layer))) return *known;
        const auto plain = TRY(codec::decompress_any(TRY(open_layer(pulled, job.stop))));
        return make_estargz(job, pulled.layer, *plain.source, Remember::yes);
    }
    for (const auto& known : TRY(store_.layer_blobs(pulled.layer))) {
        PackedLayer layer{.layer = pulled.layer, .diff_id = pulled.diff_id, .blob = known.blob, .reference = {}};
        if (known.compression == key && TRY(obtainable(layer))) return layer;
    }
    auto plain = TRY(codec::decompress_any(TRY(open_layer(pulled, job.stop))));
    store::Ingest ingest = TRY(store_.begin_blob());
    const auto pipeline = TRY(codec::BlobPipeline::create(
        ingest, codec_of(job.options.compression), job.options.level.value_or(codec::kDefaultLevel), job.threads));
    TRY(detail::copy_stream(*plain.source, *pipeline, job.stop));
    const codec::BlobFacts facts = TRY(pipeline->finish());
    if (facts.diff_id != pulled.diff_id) {
        return fail(Code::data_loss, Blame::world, "its content is {}, but its image says {}",
                    facts.diff_id.to_string(), pulled.diff_id.to_string());
    }
    TRY(std::move(ingest).commit(facts.digest));
    PackedLayer layer{.layer = pulled.layer,
                      .diff_id = pulled.diff_id,
                      .blob = layer_blob(job.options.compression, facts.digest, facts.size),
                      .reference = {}};
    TRY(store_.add_layer_blob(pulled.layer, {.compression = key, .blob = layer.blob}));
    return layer;
}

// Its diff id and the digest of its table are remembered as blobs of the layer as well, which nobody will look for.
Result<std::optional<PackedLayer>> Packer::known_estargz(const Job& job, store::LayerId id) {
    const std::string key = key_of(job.options);
    PackedLayer layer{.layer = id, .diff_id = {}, .blob = {}, .reference = {}};
    std::optional<Digest> toc;
    std::uint64_t plain_bytes = 0;
    for (const auto& known : TRY(store_.layer_blobs(id))) {
        if (known.compression == key) layer.blob = known.blob;
        if (known.compression == key + " toc") toc = known.blob.digest;
        if (known.compression != key + " tar") continue;
        layer.diff_id = known.blob.digest;
        plain_bytes = known.blob.size;
    }
    if (layer.blob.digest.empty() || layer.diff_id.empty() || !toc || !TRY(obtainable(layer))) return std::nullopt;
    add_estargz_facts(layer.blob, *toc, plain_bytes);
    return layer;
}

Result<PackedLayer> Packer::make_estargz(const Job& job, store::LayerId id, ByteSource& tar, Remember remember) {
    store::Ingest ingest = TRY(store_.begin_blob());
    const auto facts =
        TRY(codec::write_estargz(tar, ingest, job.options.level.value_or(codec::kDefaultLevel), job.threads, job.stop));
    TRY(std::move(ingest).commit(facts.blob.digest));
    PackedLayer layer{.layer = id,
                      .diff_id = facts.blob.diff_id,
                      .blob = layer_blob(LayerCompression::estargz, facts.blob.digest, facts.blob.size),
                      .reference = {}};
    layer.of_image = remember == Remember::no;
    if (remember == Remember::yes) {
        const std::string key = key_of(job.options);
        store::LayerBlob known{.compression = key, .blob = layer.blob};
        TRY(store_.add_layer_blob(id, known));
        known = {.compression = key + " tar",
                 .blob = layer_blob(LayerCompression::none, facts.blob.diff_id, facts.blob.uncompressed_size)};
        TRY(store_.add_layer_blob(id, known));
        known = {.compression = key + " toc", .blob = layer_blob(LayerCompression::none, facts.toc, 0)};
        TRY(store_.add_layer_blob(id, known));
    }
    add_estargz_facts(layer.blob, facts.toc, facts.blob.uncompressed_size);
    return layer;
}

Result<std::vector<PackedLayer>> Packer::pack_layers(Job job, const store::Chain& chain) {
    const std::size_t count = chain.layers.size();
    job.threads = std::max<std::size_t>(1, threads_ / std::max<std::size_t>(1, std::min(count, threads_)));
    Row row(job.progress, "exporting layers");
    std::vector<PackedLayer> layers(count);
    TRY(parallel_for(count, threads_, [&](std::size_t i) -> Result<> {
        TRY(check_stop(job.stop));
        layers[i] =
            TRY(pack_layer(job, chain.layers[i], i < job.base_layers ? LayerPlace::of_base : LayerPlace::above_base));
        return {};
    }));
    row.done();
    return layers;
}

Result<> Packer::fill_config(const ImageResult& image, const std::vector<PackedLayer>& layers,
                             oci::ImageConfig& config) {
    if (config.platform.os.empty() && config.platform.architecture.empty() && config.config == oci::ContainerConfig{}) {
        config.config.env = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"};
        config.config.working_dir = "/";
    }
    const oci::Platform host = oci::host_platform();
    if (config.platform.os.empty()) config.platform.os = host.os;
    if (config.platform.architecture.empty()) {
        config.platform.architecture = host.architecture;
        config.platform.variant = host.variant;
    }
    config.rootfs_type = "layers";
    config.diff_ids.clear();
    std::vector<LayerFacts> facts;
    for (const auto& layer : layers) {
        config.diff_ids.push_back(layer.diff_id);
        const store::LayerRecord record = TRY(store_.layer(layer.layer));
        // The row's own time, so that a rebuild from the cache gives the same image.
        facts.push_back({.description = record.info.description, .created = record.created});
    }
    fill_history(config, facts, image.base, image.epoch_seconds);
    if (image.base) {
        // What the base image's builder wrote about itself does not hold for this image.
        for (const char* name : {"moby.buildkit.cache.v0", "moby.buildkit.buildinfo.v1"}) {
            const auto inherited = image.base->other.find(name);
            const auto mine = config.other.find(name);
            if (inherited != image.base->other.end() && mine != config.other.end() &&
                mine->second == inherited->second) {
                config.other.erase(mine);
            }
        }
    }
    return {};
}

Result<PackedImage> Packer::assemble(PackedImage image, const PackOptions& options, VertexProgress& progress) {
    const oci::Family family = family_of(options);
    oci::Manifest manifest;
    manifest.media_type = oci::manifest_media_type(family);
    manifest.annotations = options.annotations;
    for (auto& layer : image.layers) {
        if (!options.prefer_foreign_layers) layer.blob.media_type = ordinary(layer.blob.media_type);
        layer.blob.media_type = std::string(oci::to_family(layer.blob.media_type, family));
        if (!options.oci_media_types) layer.blob.annotations.clear();
        manifest.layers.push_back(layer.blob);
        // The urls stay with the layer: it is fetched from there.
        if (!oci::is_foreign_layer(layer.blob.media_type)) manifest.layers.back().urls.clear();
    }
    image.config = TRY(store_.put_blob(image.config_bytes, std::string(oci::config_media_type(family))));
    manifest.config = image.config;
    image.manifest_bytes = oci::marshal_manifest(manifest);
    image.manifest = TRY(store_.put_blob(image.manifest_bytes, manifest.media_type));
    image.manifest.annotations = options.descriptor_annotations;
    Row(progress, "exporting manifest " + image.manifest.digest.to_string()).done();
    Row(progress, "exporting config " + image.config.digest.to_string()).done();
    return image;
}

Result<PackedImage> Packer::pack(const ImageResult& image, const PackOptions& options, VertexProgress& progress,
                                 const Stop& stop) {
    if (image.epoch_seconds && (*image.epoch_seconds < 0 || *image.epoch_seconds > kMaxEpochSeconds)) {
        return bad_input("SOURCE_DATE_EPOCH {} is not a time between 1970 and 2255", *image.epoch_seconds);
    }
    if (!TRY(store_.hold(image.chain))) {
        return fail(Code::not_found, Blame::world, "a layer of the result was removed from the store meanwhile")
            .with_hint("run the build again");
    }
    Job job{.options = options, .progress = progress, .stop = stop};
    if (options.rewrite_timestamp) {
        if (image.epoch_seconds) {
            job.rewrite_epoch = image.epoch_seconds;
        } else {
            progress.warn(WarningEvent{.short_text = "rewrite-timestamp has no effect without SOURCE_DATE_EPOCH"});
        }
    }
    job.base_layers = image.base ? image.base->diff_ids.size() : 0;
    PackedImage packed;
    packed.chain = image.chain;
    packed.layers = TRY(pack_layers(job, image.chain));
    oci::ImageConfig config = image.config;
    TRY(fill_config(image, packed.layers, config));
    packed.config_bytes = oci::marshal_image_config(config);
    return assemble(std::move(packed), options, progress);
}

Result<std::vector<PackedLayer>> Packer::pack_chain(const store::Chain& layers, const PackOptions& options,
                                                    VertexProgress& progress, const Stop& stop) {
    return pack_layers({.options = options, .rewrite_epoch = {}, .progress = progress, .stop = stop}, layers);
}

Result<PackedImage> Packer::open_image(const store::ImageRecord& record) {
    PackedImage image;
    image.manifest = record.target;
    image.manifest_bytes = TRY(store_.read_blob(record.target.digest, oci::kMaxManifestBytes));
    std::string media_type = record.target.media_type;
    if (media_type.empty()) media_type = TRY(oci::sniff_media_type(image.manifest_bytes));
    if (oci::is_index(media_type)) {
        const oci::Index index = TRY(oci::parse_index(image.manifest_bytes, media_type));
        bool found = false;
        for (const auto& entry : index.manifests) {
            if (found || !TRY(store_.blob_size(entry.digest))) continue;
            std::string bytes = TRY(store_.read_blob(entry.digest, oci::kMaxManifestBytes));
            const auto manifest = oci::parse_manifest(bytes, entry.media_type);
            if (!manifest || manifest->config.digest != record.config) continue;
            image.manifest = entry;
            image.manifest_bytes = std::move(bytes);
            media_type = entry.media_type;
            found = true;
        }
        if (!found) {
            return fail(Code::not_found, Blame::world, "index {} has no manifest here for this machine's image",
                        record.target.digest.to_string());
        }
    }
    const oci::Manifest manifest = TRY(oci::parse_manifest(image.manifest_bytes, media_type));
    image.config = manifest.config;
    image.config_bytes = TRY(store_.read_blob(manifest.config.digest, oci::kMaxImageConfigBytes));
    const oci::ImageConfig config = TRY(oci::parse_image_config(image.config_bytes));
    if (config.diff_ids.size() != manifest.layers.size()) {
        return fail(Code::data_loss, Blame::world, "image {}: the manifest has {} layers, its config {}",
                    image.manifest.digest.to_string(), manifest.layers.size(), config.diff_ids.size());
    }
    image.chain = record.chain;
    const bool chain_fits = record.chain.layers.size() == manifest.layers.size();
    for (std::size_t i = 0; i < manifest.layers.size(); ++i) {
        PackedLayer layer{.diff_id = config.diff_ids[i], .blob = manifest.layers[i], .reference = {}};
        if (chain_fits) {
            const store::LayerRecord known = TRY(store_.layer(record.chain.layers[i]));
            layer.layer = known.id;
            if (known.lazy && known.lazy->blob.digest == layer.blob.digest) layer.reference = known.lazy->reference;
        }
        image.layers.push_back(std::move(layer));
    }
    return image;
}

Result<PackedImage> Packer::repack(const store::ImageRecord& record, const PackOptions& options,
                                   VertexProgress& progress, const Stop& stop) {
    PackedImage image = TRY(open_image(record));
    std::vector<std::size_t> to_pack;
    for (std::size_t i = 0; i < image.layers.size(); ++i) {
        const PackedLayer& layer = image.layers[i];
        const bool other = oci::packing_of(layer.blob.media_type) != packing_of(options.compression);
        if (layer.layer == 0 || !other) continue;
        if (options.force_compression || !TRY(obtainable(layer))) to_pack.push_back(i);
    }
    if (to_pack.empty()) return image;
    const oci::Manifest before = TRY(oci::parse_manifest(image.manifest_bytes, image.manifest.media_type));
    store::Chain chain;
    for (const std::size_t i : to_pack) chain.layers.push_back(image.layers[i].layer);
    if (!TRY(store_.hold(chain))) {
        return fail(Code::not_found, Blame::world, "a layer of the image was removed from the store")
            .with_hint("build or pull the image again");
    }
    const Job job{.options = options, .progress = progress, .stop = stop};
    const std::vector<PackedLayer> packed = TRY(pack_layers(job, chain));
    for (std::size_t i = 0; i < to_pack.size(); ++i) {
        PackedLayer& layer = image.layers[to_pack[i]];
        if (packed[i].diff_id != layer.diff_id) {
            return fail(Code::data_loss, Blame::cooper, "layer {} has changed: it was {}, now it is {}",
                        packed[i].layer, layer.diff_id.to_string(), packed[i].diff_id.to_string())
                .with_hint("build the image again");
        }
        layer = packed[i];
    }
    PackOptions merged = options;
    merged.annotations.insert(before.annotations.begin(), before.annotations.end());
    return assemble(std::move(image), merged, progress);
}

Result<std::unique_ptr<ByteSource>> Packer::open_layer(const PackedLayer& layer, const Stop& stop) {
    const auto size = TRY(store_.blob_size(layer.blob.digest));
    if (size && *size == layer.blob.size) {
        sys::Fd file = TRY(store_.open_blob(layer.blob.digest));
        return detail::verified(std::make_unique<sys::FdSource>(std::move(file)), layer.blob);
    }
    if (!layer.reference.empty()) {
        const store::LazyLayer lazy{.blob = layer.blob, .reference = layer.reference};
        auto source =
            TRY_CONTEXT(fetch_(lazy, stop), "fetch layer {} from {}", layer.blob.digest.to_string(), layer.reference);
        return detail::verified(std::move(source), layer.blob);
    }
    if (TRY(is_virtual(layer))) {
        return detail::verified(detail::read_layer_stream(store_.layer_path(layer.layer), layer::DiffOptions{}, stop),
                                layer.blob);
    }
    return fail(Code::not_found, Blame::world, "the blob {} of a layer is not in the store any more",
                layer.blob.digest.to_string())
        .with_hint("build or pull the image again");
}

Result<std::unique_ptr<ByteSource>> Packer::open_files(const PackedLayer& layer, const Stop& stop) {
    if (layer.layer != 0 && TRY(store_.hold(store::Chain{{layer.layer}})) && TRY(store_.layer(layer.layer)).on_disk) {
        return detail::read_layer_stream(store_.layer_path(layer.layer), layer::DiffOptions{}, stop);
    }
    return open_layer(layer, stop);
}

Result<bool> Packer::is_virtual(const PackedLayer& layer) {
    if (layer.layer == 0 || layer.blob.digest != layer.diff_id) return false;
    return TRY(store_.layer(layer.layer)).on_disk;
}

Result<> Packer::write_layer(const PackedLayer& layer, ByteSink& out, const Stop& stop) {
    const auto size = TRY(store_.blob_size(layer.blob.digest));
    if (!size && layer.reference.empty() && TRY(is_virtual(layer))) {
        const auto pipeline = TRY(codec::BlobPipeline::create(out, codec::Compression::none, codec::kDefaultLevel, 1));
        TRY(detail::write_layer_stream(store_.layer_path(layer.layer), *pipeline, layer::DiffOptions{}, stop));
        const codec::BlobFacts facts = TRY(pipeline->finish());
        if (facts.digest == layer.blob.digest) return {};
        return fail(Code::data_loss, Blame::cooper, "layer {} has changed: it was {}, now it is {}", layer.layer,
                    layer.blob.digest.to_string(), facts.digest.to_string())
            .with_hint("build the image again");
    }
    const auto source = TRY(open_layer(layer, stop));
    TRY(detail::copy_stream(*source, out, stop));
    return {};
}

store::ImageRecord Packer::record_of(const PackedImage& image) {
    store::ImageRecord record;
    record.target = image.manifest;
    record.config = image.config.digest;
    record.chain = image.chain;
    return record;
}

std::vector<Digest> Packer::blobs_of(const PackedImage& image) {
    std::vector<Digest> blobs{image.manifest.digest, image.config.digest};
    for (const auto& layer : image.layers) {
        if (layer.of_image) blobs.push_back(layer.blob.digest);
    }
    return blobs;
}

}  // namespace cooper::exporter
