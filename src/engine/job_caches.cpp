// Caches of a build from and to other places: registries, directories of the client, images.
//
// What is imported becomes rows of the state directory with lazy layers; what is exported is read from there. Both are
// remotecache's work; here is where the bytes come from and go to. Specification: BuildKit's remote cache.

#include "base/text.hpp"
#include "codec/base64.hpp"
#include "codec/rfc3339.hpp"
#include "codec/sha256.hpp"
#include "engine/local_job.hpp"
#include "exporter/push.hpp"
#include "frontend/git_ref.hpp"
#include "oci/json_text.hpp"
#include "oci/media_type.hpp"
#include "remotecache/key_records.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace cooper::engine {

namespace {

constexpr int kMaxIndexDepth = 4;
constexpr std::size_t kMaxIndexEntries = 200;
constexpr std::string_view kDiffIdAnnotation = "containerd.io/uncompressed";
constexpr std::string_view kCreatedAnnotation = "buildkit/createdat";

std::string attribute(const CacheSpec& spec, const std::string& name) {
    const auto found = spec.attrs.find(name);
    return found == spec.attrs.end() ? std::string() : found->second;
}

Result<bool> flag(const CacheSpec& spec, const std::string& name, bool otherwise) {
    const std::string value = attribute(spec, name);
    if (value.empty()) return otherwise;
    const auto parsed = frontend::parse_go_bool(value);
    if (!parsed) return bad_input("cache attribute {}={} is neither true nor false", name, quoted(value));
    return *parsed;
}

Result<oci::Reference> reference_of(const CacheSpec& spec) {
    const std::string ref = attribute(spec, "ref");
    if (ref.empty()) return bad_input("a cache in a registry needs ref=REGISTRY/NAME");
    return TRY(oci::Reference::parse_normalized(ref)).with_default_tag();
}

// "moby.buildkit.cache.v0" of an image configuration: base64 of the records, as Go writes bytes.
Result<std::string> inline_records(const oci::ImageConfig& config) {
    const auto found = config.other.find(std::string(remotecache::kInlineField));
    if (found == config.other.end()) return std::string();
    const auto text = nlohmann::json::parse(found->second, nullptr, false);
    if (!text.is_string()) return std::string();
    return codec::base64_decode(text.get<std::string>());
}

}  // namespace

struct CacheOrigin {
    std::string store;           // a content store of the client's; empty = a registry
    std::string lazy_reference;  // of its layers
    std::function<Result<std::string>(const oci::Descriptor& blob, const Stop& stop)> read;
};

void LocalJob::import_caches(const std::vector<CacheSpec>& specs, const Stop& stop) {
    for (const auto& spec : specs) {
        if (!imported_.lock()->insert(spec).second) continue;
        const std::string what = spec.type == "registry" ? attribute(spec, "ref")
                                 : spec.type == "local"  ? attribute(spec, "src")
                                                         : spec.type;
        Activity activity(progress_, engine_.clock_, "importing cache manifest from " + what);
        if (const auto done = import_cache(spec, stop); !done) {
            activity.fail(done.error());
        } else {
            activity.done();
        }
    }
}

Result<> LocalJob::import_cache(const CacheSpec& spec, const Stop& stop) {
    if (spec.type == "local") {
        CacheOrigin origin;
        const std::string src = attribute(spec, "src");
        const std::string digest = attribute(spec, "digest");
        if (src.empty()) return bad_input("a local cache needs src=DIR");
        if (digest.empty()) return bad_input("a local cache needs the digest of its manifest");
        origin.store = "local:" + src;
        origin.lazy_reference = Workshop::kClientContent;
        origin.read = [this, store = origin.store](const oci::Descriptor& blob,
                                                   const Stop& stopping) -> Result<std::string> {
            const auto source = TRY(session().read_content(store, blob.digest, 0, stopping));
            std::string bytes = TRY(read_all(*source, remotecache::kMaxConfigBytes));
            if (codec::sha256_of(bytes) != blob.digest)
                return fail(Code::data_loss, Blame::world, "{} in the cache is damaged", blob.digest.to_string());
            return bytes;
        };
        oci::Descriptor target;
        target.digest = TRY(Digest::parse(digest));
        return import_manifest(origin, target, 0, stop);
    }
    if (spec.type == "registry") {
        CacheOrigin origin;
        const oci::Reference from = TRY(reference_of(spec));
        registry::Registry& registry = workshop_->registry();
        const oci::Descriptor target = TRY(registry.resolve(from, stop));
        origin.lazy_reference = from.without_digest().with_digest(target.digest).canonical();
        origin.read = [&registry, reference = from](const oci::Descriptor& blob,
                                                    const Stop& stopping) -> Result<std::string> {
            if (blob.media_type.empty() || oci::is_manifest(blob.media_type) || oci::is_index(blob.media_type))
                return registry.fetch_manifest(reference, blob.digest, stopping);
            return registry.fetch_blob_text(reference, blob, remotecache::kMaxConfigBytes, stopping);
        };
        return import_manifest(origin, target, 0, stop);
    }
    if (spec.type == "inline")
        return bad_input("an inline cache is imported from its image").with_hint("type=registry,ref=IMAGE");
    return bad_input("unknown cache importer: {}", quoted(spec.type)).with_hint("registry and local are known");
}

Result<> LocalJob::import_manifest(const CacheOrigin& origin, const oci::Descriptor& target, int depth,
                                   const Stop& stop) {
    TRY(check_stop(stop));
    const std::string bytes = TRY(origin.read(target, stop));
    const std::string type = TRY(oci::sniff_media_type(bytes));
    if (oci::is_index(type)) {
        const oci::Index index = TRY(oci::parse_index(bytes, target.media_type));
        std::vector<oci::Descriptor> layers;
        const oci::Descriptor* config = nullptr;
        for (const auto& one : index.manifests) {
            if (one.media_type == remotecache::kCacheConfigType) {
                config = &one;
            } else {
                layers.push_back(one);
            }
        }
        if (config != nullptr) return import_layers(origin, layers, {}, TRY(origin.read(*config, stop)), false);
        if (depth == kMaxIndexDepth || layers.size() > kMaxIndexEntries)
            return bad_input("the index {} is too deep or too long", target.digest.to_string());
        for (const auto& image : layers) {
            if (oci::is_manifest(image.media_type) || oci::is_index(image.media_type))
                TRY(import_manifest(origin, image, depth + 1, stop));
        }
        return {};
    }
    const oci::Manifest manifest = TRY(oci::parse_manifest(bytes, target.media_type));
    if (manifest.config.media_type == remotecache::kCacheConfigType)
        return import_layers(origin, manifest.layers, {}, TRY(origin.read(manifest.config, stop)), false);
    if (!oci::is_config(manifest.config.media_type)) return {};  // attestations and other artifacts
    const oci::ImageConfig config = TRY(oci::parse_image_config(TRY(origin.read(manifest.config, stop))));
    const std::string records = TRY(inline_records(config));
    if (records.empty() || config.diff_ids.size() != manifest.layers.size()) return {};
    return import_layers(origin, manifest.layers, config.diff_ids, records, true);
}

Result<> LocalJob::import_layers(const CacheOrigin& origin, const std::vector<oci::Descriptor>& layers,
                                 const std::vector<Digest>& diff_ids, std::string_view records, bool of_image) {
    std::vector<Digest> blobs;
    std::map<Digest, remotecache::LayerPlace> places;
    for (std::size_t i = 0; i < layers.size(); ++i) {
        const oci::Descriptor& layer = layers[i];
        blobs.push_back(layer.digest);
        remotecache::LayerPlace place{.blob = {}, .diff_id = {}, .reference = origin.lazy_reference};
        place.blob.media_type = layer.media_type;
        place.blob.digest = layer.digest;
        place.blob.size = layer.size;
        if (of_image) {
            place.diff_id = diff_ids[i];
        } else if (const auto found = layer.annotations.find(std::string(kDiffIdAnnotation));
                   found != layer.annotations.end()) {
            if (const auto diff_id = Digest::parse(found->second)) place.diff_id = *diff_id;
        }
        if (const auto found = layer.annotations.find(std::string(kCreatedAnnotation));
            found != layer.annotations.end()) {
            place.created = codec::parse_rfc3339(found->second);
        }
        if (!oci::is_layer(place.blob.media_type)) continue;
        if (!origin.store.empty()) workshop_->add_content(layer.digest, origin.store);
        places[layer.digest] = std::move(place);
    }
    const remotecache::CacheGraph graph = of_image ? TRY(remotecache::parse_inline_records(records, std::move(blobs)))
                                                   : TRY(remotecache::parse_cache_config(records));
    TRY(remotecache::import_graph(*engine_.store_, graph, places));
    return {};
}

// --- exports ---

Result<> LocalJob::add_inline_cache(const ResultRef& ref, exporter::ImageResult& image) {
    image.config.other.erase(std::string(remotecache::kInlineField));  // of the base
    if (ref == nullptr ||
        std::ranges::none_of(options_.cache_exports, [](const auto& spec) { return spec.type == "inline"; })) {
        return {};
    }
    Activity activity(progress_, engine_.clock_, "preparing layers for inline cache");
    const auto report = job_->explain(output_of(ref));
    if (report && report->key) {
        remotecache::Collected collected =
            TRY(remotecache::collect(*engine_.store_, {report->key}, {image.chain}, remotecache::CacheMode::min));
        // Layers are named by their place in the image.
        std::vector<std::optional<std::size_t>> places;
        for (const store::LayerId layer : collected.layers) {
            const auto at = std::ranges::find(image.chain.layers, layer);
            places.push_back(at == image.chain.layers.end()
                                 ? std::nullopt
                                 : std::optional(static_cast<std::size_t>(at - image.chain.layers.begin())));
        }
        bool any = false;
        for (auto& node : collected.graph.nodes) {
            std::erase_if(node.results, [&](const auto& result) {
                return std::ranges::any_of(result.layers, [&](std::size_t layer) { return !places[layer]; });
            });
            for (auto& result : node.results) {
                for (auto& layer : result.layers) layer = *places[layer];
            }
            any = any || !node.results.empty();
        }
        if (any) {
            image.config.other[std::string(remotecache::kInlineField)] =
                "\"" + codec::base64_encode(remotecache::marshal_inline_records(collected.graph)) + "\"";
        }
    }
    activity.done();
    return {};
}

Result<> LocalJob::export_caches(const FrontendResult& result, ExportAnswer& answer, const Stop& stop) {
    for (const auto& spec : options_.cache_exports) {
        if (spec.type == "inline") continue;
        Activity activity(
            progress_, engine_.clock_,
            spec.type == "local" ? "exporting cache to client directory" : "exporting cache to " + spec.type);
        const auto done = export_cache(spec, result, answer, activity, stop);
        if (done) {
            activity.done();
            continue;
        }
        activity.fail(done.error());
        const bool ignored = frontend::parse_go_bool(attribute(spec, "ignore-error")).value_or(false);
        if (!ignored || done.error().is_cancelled()) return done.error().with_context("export the cache");
    }
    return {};
}

namespace {

exporter::PackOptions pack_options(const CacheSpec& spec, bool oci_types) {
    exporter::PackOptions pack;
    pack.oci_media_types = oci_types;
    const std::string compression = attribute(spec, "compression");
    if (compression == "zstd") pack.compression = exporter::LayerCompression::zstd;
    if (compression == "uncompressed") pack.compression = exporter::LayerCompression::none;
    if (const auto level = parse_int(attribute(spec, "compression-level"))) pack.level = static_cast<int>(*level);
    pack.force_compression = frontend::parse_go_bool(attribute(spec, "force-compression")).value_or(false);
    return pack;
}

Result<> check_cache_export(const CacheSpec& spec) {
    if (spec.type != "registry" && spec.type != "local") {
        return bad_input("unknown cache exporter: {}", quoted(spec.type))
            .with_hint("registry, local and inline are known");
    }
    static const std::vector<std::string> kCompressions = {"", "gzip", "zstd", "uncompressed"};
    if (std::ranges::find(kCompressions, attribute(spec, "compression")) == kCompressions.end())
        return bad_input("unknown compression of the cache: {}", quoted(attribute(spec, "compression")));
    if (spec.type == "local" && attribute(spec, "dest").empty()) return bad_input("a local cache needs dest=DIR");
    return {};
}

}  // namespace

Result<> LocalJob::export_cache(const CacheSpec& spec, const FrontendResult& result, ExportAnswer& answer,
                                Activity& activity, const Stop& stop) {
    TRY(check_cache_export(spec));
    const bool oci_types = TRY(flag(spec, "oci-mediatypes", true));
    const bool as_image = TRY(flag(spec, "image-manifest", oci_types));
    if (as_image && !oci_types) return bad_input("image-manifest=true and oci-mediatypes=false exclude each other");
    const std::optional<oci::Reference> target =
        spec.type == "registry" ? std::optional(TRY(reference_of(spec))) : std::nullopt;
    VertexProgress& progress = activity.progress();

    progress.status("prepare", "preparing build cache for export", 0, 0, false);
    std::vector<solver::SharedKey> keys;
    std::vector<store::Chain> chains;
    std::vector<ResultRef> refs = {result.ref};
    for (const auto& [platform, ref] : result.refs) refs.push_back(ref);
    for (const auto& ref : refs) {
        if (ref == nullptr) continue;
        const auto built = TRY(build(ref, stop));
        chains.push_back(TRY(workshop_->trees().layers_of(built, "a build cache", stop)));
        if (const auto report = job_->explain(output_of(ref)); report && report->key) keys.push_back(report->key);
    }
    const auto mode = attribute(spec, "mode") == "max" ? remotecache::CacheMode::max : remotecache::CacheMode::min;
    remotecache::Collected collected = TRY(remotecache::collect(*engine_.store_, keys, chains, mode));
    progress.status("prepare", "preparing build cache for export", 0, 0, true);
    if (collected.layers.empty()) {
        progress.status("skip", "skipping cache export for empty result", 0, 0, true);
        return {};
    }
    exporter::Packer& packer = workshop_->packer();
    const auto layers = TRY(packer.pack_chain({collected.layers}, pack_options(spec, oci_types), progress, stop));
    oci::Manifest manifest;
    std::set<Digest> listed;
    for (std::size_t i = 0; i < layers.size(); ++i) {
        collected.graph.layers[i] = layers[i].blob.digest;
        oci::Descriptor blob = layers[i].blob;
        blob.annotations = {
            {std::string(kDiffIdAnnotation), layers[i].diff_id.to_string()},
            {std::string(kCreatedAnnotation), format_rfc3339(TRY(engine_.store_->layer(layers[i].layer)).created)}};
        if (listed.insert(blob.digest).second) manifest.layers.push_back(std::move(blob));
    }
    std::ranges::sort(manifest.layers, {}, [](const auto& one) { return one.digest.to_string(); });

    const std::string config = remotecache::marshal_cache_config(collected.graph);
    manifest.config.media_type = remotecache::kCacheConfigType;
    manifest.config.digest = codec::sha256_of(config);
    manifest.config.size = config.size();
    oci::Descriptor top;
    std::string bytes;
    if (as_image) {
        manifest.media_type = oci::kOciManifest;
        bytes = oci::marshal_manifest(manifest);
        top.media_type = oci::kOciManifest;
    } else {
        oci::Index index;
        index.media_type = oci_types ? oci::kOciIndex : oci::kDockerIndex;
        index.manifests = manifest.layers;
        index.manifests.push_back(manifest.config);
        bytes = oci::marshal_index(index);
        top.media_type = index.media_type;
    }
    top.digest = codec::sha256_of(bytes);
    top.size = bytes.size();

    const std::string manifest_row =
        fmt::format("writing cache {}manifest {}", as_image ? "image " : "", top.digest.to_string());
    if (target) {
        const oci::Reference repository = target->repository_only();
        TRY_CONTEXT(exporter::push_layers(packer, workshop_->registry(), layers, repository, progress, stop), "push {}",
                    target->canonical());
        registry::PushBlob blob;
        blob.blob = manifest.config;
        blob.open = [&]() -> Result<std::unique_ptr<ByteSource>> { return std::make_unique<StringSource>(config); };
        TRY_CONTEXT(workshop_->registry().push_blob(repository, blob, stop), "push {}", target->canonical());
        progress.status(manifest_row, manifest_row, 0, 0, false);
        TRY_CONTEXT(workshop_->registry().push_manifest(*target, top.media_type, bytes, stop), "push {}",
                    target->canonical());
    } else {
        const std::string store = "local:" + attribute(spec, "dest");
        for (const auto& layer : layers) {
            const std::string row = "writing layer " + layer.blob.digest.to_string();
            progress.status(row, row, 0, 0, false);
            const auto source = TRY(packer.open_layer(layer, stop));
            TRY(session().write_content(store, layer.blob.digest, layer.blob.size, *source, stop));
            progress.status(row, row, 0, 0, true);
        }
        StringSource config_source(config);
        TRY(session().write_content(store, manifest.config.digest, config.size(), config_source, stop));
        progress.status(manifest_row, manifest_row, 0, 0, false);
        StringSource manifest_source(bytes);
        TRY(session().write_content(store, top.digest, bytes.size(), manifest_source, stop));
    }
    progress.status(manifest_row, manifest_row, 0, 0, true);
    answer.response["cache.manifest"] = oci::marshal_descriptor(top);
    return {};
}

}  // namespace cooper::engine
