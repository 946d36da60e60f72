// Caches of a build from and to other places: registries, directories of the client, images.
//
// What is imported becomes rows of the state directory with lazy layers; what is exported is read from there. Both are
// remotecache's work; here is where the bytes come from and go to. Specification: BuildKit's remote cache.

#include "base/text.hpp"
#include "base/work_pool.hpp"
#include "cachestore/manifest_store.hpp"
#include "codec/base64.hpp"
#include "codec/rfc3339.hpp"
#include "codec/sha256.hpp"
#include "engine/cache_writing.hpp"
#include "engine/local_job.hpp"
#include "frontend/git_ref.hpp"
#include "oci/json_text.hpp"
#include "oci/media_type.hpp"
#include "remotecache/budget.hpp"
#include "remotecache/key_records.hpp"
#include "session/layout_index.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace cooper::engine {

namespace {

constexpr std::string_view kDiffIdAnnotation = "containerd.io/uncompressed";
constexpr std::string_view kCreatedAnnotation = "buildkit/createdat";

std::string attribute(const CacheSpec& spec, const std::string& name) {
    const auto found = spec.attrs.find(name);
    return found == spec.attrs.end() ? std::string() : found->second;
}

}  // namespace

Result<std::shared_ptr<cachestore::CacheStore>> LocalJob::open_cache(const CacheSpec& spec, cachestore::Way way) {
    return cachestore::open_store({spec.type, spec.attrs}, way,
                                  {.registry = workshop_->registry(),
                                   .session = options_.session,
                                   .client = engine_.http_,
                                   .clock = engine_.clock_,
                                   .environment = cachestore::process_environment});
}

void LocalJob::import_caches(const std::vector<CacheSpec>& specs, const Stop& stop) {
    for (const auto& spec : specs) {
        if (!imported_.lock()->insert(spec).second) continue;
        const std::string what = spec.type == "registry" ? attribute(spec, "ref")
                                 : spec.type == "local"  ? attribute(spec, "src")
                                 : spec.type == "s3"     ? "s3://" + attribute(spec, "bucket")
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
    const auto store = TRY(open_cache(spec, cachestore::Way::from));
    workshop_->mounts().add(spec, store);
    for (const auto& index : TRY(store->get_indexes("", stop))) TRY(import_index(store, index));
    notes_->travel().add(store);
    return {};
}

namespace {

// What is known of each layer, by its blob: from the list beside the text, else from the text.
std::map<Digest, remotecache::LayerFacts> facts_of(const cachestore::Index& index) {
    std::map<Digest, remotecache::LayerFacts> facts;
    for (std::size_t i = 0; i < index.blobs.size(); ++i) {
        const oci::Descriptor& layer = index.blobs[i];
        remotecache::LayerFacts& one = facts[layer.digest];
        one.media_type = layer.media_type;
        one.size = layer.size;
        const auto annotation = [&](std::string_view name) {
            const auto found = layer.annotations.find(std::string(name));
            return found == layer.annotations.end() ? std::string() : found->second;
        };
        if (index.of_image) {
            one.diff_id = index.diff_ids[i];
        } else if (const auto diff_id = Digest::parse(annotation(kDiffIdAnnotation))) {
            one.diff_id = *diff_id;
        }
        one.created = codec::parse_rfc3339(annotation(kCreatedAnnotation)).value_or(Timestamp{});
    }
    return facts;
}

}  // namespace

Result<> LocalJob::import_index(const std::shared_ptr<cachestore::CacheStore>& store, const cachestore::Index& index) {
    remotecache::CacheGraph graph;
    if (index.of_image) {
        std::vector<Digest> blobs;
        for (const auto& layer : index.blobs) blobs.push_back(layer.digest);
        graph = TRY(remotecache::parse_inline_records(index.text, std::move(blobs)));
    } else {
        graph = TRY(remotecache::parse_cache_config(index.text));
    }
    if (store->has_blob_lists()) graph.facts = facts_of(index);
    const std::string reference = store->reference().empty() ? Workshop::kCacheContent : store->reference();
    std::map<Digest, remotecache::LayerPlace> places;
    for (const auto& [blob, facts] : graph.facts) {
        if (!oci::is_layer(facts.media_type)) continue;
        remotecache::LayerPlace place{.blob = {}, .diff_id = facts.diff_id, .reference = reference};
        place.blob.media_type = facts.media_type;
        place.blob.digest = blob;
        place.blob.size = facts.size;
        if (facts.created != Timestamp{}) place.created = facts.created;
        workshop_->add_content(blob, store);
        places[blob] = std::move(place);
    }
    TRY(remotecache::import_graph(workshop_->store(), graph, places));
    return {};
}

// --- exports ---

Result<> LocalJob::add_inline_cache(const ResultRef& ref, exporter::ImageResult& image) {
    image.config.other.erase(std::string(cachestore::kInlineField));  // of the base
    if (ref == nullptr ||
        std::ranges::none_of(options_.cache_exports, [](const auto& spec) { return spec.type == "inline"; })) {
        return {};
    }
    Activity activity(progress_, engine_.clock_, "preparing layers for inline cache");
    const auto report = job_->explain(output_of(ref));
    if (report && report->key) {
        remotecache::Collected collected =
            TRY(remotecache::collect(workshop_->store(), {report->key}, {image.chain}, remotecache::CacheMode::min));
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
            image.config.other[std::string(cachestore::kInlineField)] =
                "\"" + codec::base64_encode(remotecache::marshal_inline_records(collected.graph)) + "\"";
        }
    }
    activity.done();
    return {};
}

namespace {

// As BuildKit calls them.
std::string export_name(const std::string& type) {
    static const std::map<std::string, std::string> kNames = {{"local", "client directory"},
                                                              {"s3", "Amazon S3"},
                                                              {"azblob", "Azure Blob Storage"},
                                                              {"gha", "GitHub Actions Cache"}};
    const auto found = kNames.find(type);
    return found == kNames.end() ? type : found->second;
}

}  // namespace

Result<> LocalJob::export_caches(const FrontendResult& result, ExportAnswer& answer, const Stop& stop) {
    std::optional<CacheContent> content;
    for (const auto& spec : options_.cache_exports) {
        if (spec.type == "inline") continue;
        Activity activity(progress_, engine_.clock_, "exporting cache to " + export_name(spec.type));
        const auto write = [&]() -> Result<> {
            if (!content) content = TRY(content_of(result, stop));
            const auto mode =
                attribute(spec, "mode") == "max" ? remotecache::CacheMode::max : remotecache::CacheMode::min;
            TRY(export_cache(spec, *content, mode, Earlier::replaced, answer, activity, stop));
            if (spec.attrs.contains("mounts")) TRY(export_mounts(spec, result, answer, activity, stop));
            return {};
        };
        const auto done = write();
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

void LocalJob::CacheWriting::begin() {
    if (thread_.joinable()) return;
    const bool any =
        std::ranges::any_of(job_.options_.cache_exports, [](const auto& one) { return one.type != "inline"; });
    if (!any) return;
    job_.caches_begun_ = true;
    thread_ = std::jthread([this] { written_ = job_.export_caches(result_, answer_, own_.get_token()); });
}

Result<> LocalJob::CacheWriting::finish(ExportAnswer& answer) {
    begin();
    if (!thread_.joinable()) return {};
    thread_.join();
    for (auto& [key, value] : answer_.response) answer.response[key] = std::move(value);
    return written_;
}

Result<LocalJob::CacheContent> LocalJob::content_of(const FrontendResult& result, const Stop& stop) {
    CacheContent content;
    std::vector<ResultRef> refs = {result.ref};
    for (const auto& [platform, ref] : result.refs) refs.push_back(ref);
    for (const auto& ref : refs) {
        if (ref == nullptr) continue;
        const auto built = TRY(build(ref, stop));
        content.chains.push_back(TRY(workshop_->trees().layers_of(built, "a build cache", stop)));
        if (const auto report = job_->explain(output_of(ref)); report && report->key)
            content.keys.push_back(report->key);
    }
    return content;
}

namespace {

bool is_wanted_of_failure(const CacheSpec& spec) {
    return spec.type != "inline" && frontend::parse_go_bool(attribute(spec, "on-failure")).value_or(false);
}

}  // namespace

bool LocalJob::wants_cache_of_failure() const {
    return std::ranges::any_of(options_.cache_exports, is_wanted_of_failure);
}

LocalJob::CacheContent LocalJob::finished_content() {
    CacheContent content;
    std::set<Digest> seen;
    std::vector<const solver::Vertex*> pending;
    const std::vector<ResultRef> asked = *asked_for_.lock();
    // An output that nobody used has no key.
    const auto add = [&](const solver::Output& output) {
        if (const auto report = job_->explain(output); report && report->key) content.keys.push_back(report->key);
    };
    for (const auto& ref : asked) {
        const solver::Output output = output_of(ref);
        add(output);
        pending.push_back(output.vertex.get());
    }
    while (!pending.empty()) {
        const solver::Vertex& vertex = *pending.back();
        pending.pop_back();
        if (!seen.insert(vertex.digest()).second) continue;
        for (const auto& input : vertex.inputs()) {
            pending.push_back(input.vertex.get());
            add(input);
        }
    }
    return content;
}

// The user waits, or has gone: a place that does not answer must not keep what has ended already.
constexpr std::chrono::minutes kMostAfterFailure{10};

ExportAnswer LocalJob::export_after_failure(Error& error) {
    ExportAnswer answer;
    StopSource late;
    const std::jthread timer([&late](const std::stop_token& ended) {
        Guarded<bool> never;
        never.lock().wait_for(ended, kMostAfterFailure, [] { return false; });
        if (!ended.stop_requested()) late.request_stop();
    });
    export_failed_files(error, late.get_token());
    std::vector<const CacheSpec*> wanted;
    for (const auto& spec : options_.cache_exports) {
        if (is_wanted_of_failure(spec)) wanted.push_back(&spec);
    }
    // One that was begun has failed itself, or is whole.
    if (wanted.empty() || caches_begun_) return answer;
    const CacheContent content = finished_content();
    for (const CacheSpec* spec : wanted) {
        Activity activity(progress_, engine_.clock_,
                          "exporting cache of what has finished to " + export_name(spec->type));
        const auto write = [&]() -> Result<> {
            // A client that gets no answer cannot give the name.
            if (spec->type == "local" && !session().id().empty())
                return bad_input("on-failure: a daemon cannot name a cache in its client's directory");
            return export_cache(*spec, content, remotecache::CacheMode::max, Earlier::kept, answer, activity,
                                late.get_token());
        };
        if (const auto done = write(); done) {
            activity.done();
        } else {
            activity.fail(done.error());
        }
    }
    return answer;
}

namespace {

exporter::PackOptions pack_options(const CacheSpec& spec, bool oci_types) {
    exporter::PackOptions pack;
    pack.oci_media_types = oci_types;
    const std::string compression = attribute(spec, "compression");
    if (compression == "zstd") pack.compression = exporter::LayerCompression::zstd;
    if (compression == "estargz") pack.compression = exporter::LayerCompression::estargz;
    if (compression == "uncompressed") pack.compression = exporter::LayerCompression::none;
    if (const auto level = parse_int(attribute(spec, "compression-level"))) pack.level = static_cast<int>(*level);
    pack.force_compression = frontend::parse_go_bool(attribute(spec, "force-compression")).value_or(false);
    return pack;
}

Result<> check_compression(const CacheSpec& spec) {
    static const std::vector<std::string> kCompressions = {"", "gzip", "zstd", "estargz", "uncompressed"};
    if (std::ranges::find(kCompressions, attribute(spec, "compression")) == kCompressions.end())
        return bad_input("unknown compression of the cache: {}", quoted(attribute(spec, "compression")));
    return {};
}

}  // namespace

namespace {

constexpr double kGuessedBytesPerSecond = 10e6;  // of what was not made here

bool is_gone(const Error& error) { return error.code() == Code::not_found || error.code() == Code::data_loss; }

}  // namespace

struct LocalJob::Sending {
    cachestore::CacheStore& cache;
    std::vector<const exporter::PackedLayer*> layers;
    VertexProgress& progress;
    std::optional<std::chrono::milliseconds> time;
};

Result<std::set<Digest>> LocalJob::send_layers(const Sending& sending, const Stop& stop) {
    // What is under way when the time is over is broken off.
    StopSource own;
    const std::stop_callback forward(stop, [&own] { own.request_stop(); });
    std::atomic<bool> late = false;
    std::jthread timer;
    if (sending.time) {
        timer = std::jthread([&](const std::stop_token& ended) {
            Guarded<bool> never;
            never.lock().wait_for(ended, *sending.time, [] { return false; });
            if (ended.stop_requested()) return;
            late = true;
            own.request_stop();
        });
    }
    Guarded<std::set<Digest>> there;
    TRY(parallel_for(sending.layers.size(), sending.cache.parallelism(), [&](std::size_t i) -> Result<> {
        const exporter::PackedLayer& layer = *sending.layers[i];
        if (late) return {};
        const auto put = put_layer(sending.cache, layer, sending.progress, own.get_token());
        if (put) {
            there.lock()->insert(layer.blob.digest);
            return {};
        }
        if (put.error().is_cancelled() && late) return {};
        // Neither here nor where it came from: what needs it is left out.
        if (!layer.reference.empty() && is_gone(put.error())) return {};
        return put.error();
    }));
    return std::move(*there.lock());
}

Result<> LocalJob::check_cache_exports() {
    for (const auto& spec : options_.cache_exports) {
        const bool ignored = frontend::parse_go_bool(attribute(spec, "ignore-error")).value_or(false);
        if (spec.type == "inline" || ignored) continue;
        TRY_CONTEXT(check_compression(spec), "export the cache");
        TRY_CONTEXT(cachestore::check_export_attributes({spec.type, spec.attrs}), "export the cache");
        TRY_CONTEXT(open_cache(spec, cachestore::Way::to), "export the cache");
    }
    return {};
}

Result<> LocalJob::export_cache(const CacheSpec& spec, const CacheContent& content, remotecache::CacheMode mode,
                                Earlier earlier, ExportAnswer& answer, Activity& activity, const Stop& stop) {
    TRY(check_compression(spec));
    const cachestore::Budget budget = TRY(cachestore::budget_of({spec.type, spec.attrs}));
    const auto cache = TRY(open_cache(spec, cachestore::Way::to));
    const bool oci_types = TRY(cachestore::flag({spec.type, spec.attrs}, "oci-mediatypes", true));
    VertexProgress& progress = activity.progress();

    progress.status("prepare", "preparing build cache for export", 0, 0, false);
    remotecache::Collected collected = TRY(remotecache::collect(*engine_.store_, content.keys, content.chains, mode));
    progress.status("prepare", "preparing build cache for export", 0, 0, true);
    const auto skip = [&]() -> Result<> {
        progress.status("skip", "skipping cache export for empty result", 0, 0, true);
        return {};
    };
    if (collected.layers.empty()) return skip();
    const auto layers =
        TRY(workshop_->packer().pack_chain({collected.layers}, pack_options(spec, oci_types), progress, stop));
    std::map<Digest, oci::Descriptor> blobs;
    std::vector<remotecache::LayerWorth> worth;
    for (std::size_t i = 0; i < layers.size(); ++i) {
        collected.graph.layers[i] = layers[i].blob.digest;
        const store::LayerRecord record = TRY(engine_.store_->layer(layers[i].layer));
        // Of one that came from elsewhere it is known only how long that took.
        const auto made = record.lazy ? std::chrono::nanoseconds(0) : record.cost;
        const std::chrono::duration<double> took = notes_->time_of(layers[i].layer).value_or(made);
        worth.push_back({.bytes = layers[i].blob.size,
                         .seconds = took.count() > 0
                                        ? took.count()
                                        : static_cast<double>(layers[i].blob.size) / kGuessedBytesPerSecond});
        oci::Descriptor blob = layers[i].blob;
        // Beside what says how an eStargz layer is read file by file.
        blob.annotations[std::string(kDiffIdAnnotation)] = layers[i].diff_id.to_string();
        blob.annotations[std::string(kCreatedAnnotation)] = format_rfc3339(record.created);
        if (!cache->has_blob_lists()) {
            collected.graph.facts[blob.digest] = {.media_type = blob.media_type,
                                                  .diff_id = layers[i].diff_id,
                                                  .size = blob.size,
                                                  .created = record.created};
        }
        blobs[blob.digest] = std::move(blob);
    }

    std::map<std::string, std::string> states;  // of results, here and anywhere; also of those that are left out
    for (const auto& node : collected.graph.nodes) {
        for (const auto& result : node.results) {
            store::Chain chain;
            std::vector<Digest> diff_ids;
            for (const std::size_t layer : result.layers) {
                chain.layers.push_back(layers[layer].layer);
                diff_ids.push_back(layers[layer].diff_id);
            }
            states[chain.to_string()] = why::state_of_layers(diff_ids);
        }
    }

    Sending sending{.cache = *cache, .layers = {}, .progress = progress, .time = budget.time};
    std::set<Digest> listed;
    const auto send = [&](std::size_t i) {
        if (listed.insert(layers[i].blob.digest).second) sending.layers.push_back(&layers[i]);
    };
    if (budget.is_limited()) {
        for (const std::size_t i : remotecache::most_valuable(collected.graph, worth, budget.bytes)) send(i);
    } else {
        for (std::size_t i = 0; i < layers.size(); ++i) send(i);
    }
    const std::set<Digest> there = TRY(send_layers(sending, stop));
    if (there.size() < blobs.size()) {
        std::vector<bool> kept;
        for (const Digest& blob : collected.graph.layers) kept.push_back(there.contains(blob));
        remotecache::keep_layers(collected.graph, kept);
        const std::string row = fmt::format("leaving out {} of {} layers", blobs.size() - there.size(), blobs.size());
        progress.status(row, row, 0, 0, true);
    }
    std::set<Digest> used;
    for (const auto& node : collected.graph.nodes) {
        for (const auto& result : node.results) {
            for (const std::size_t layer : result.layers) used.insert(collected.graph.layers[layer]);
        }
    }
    if (used.empty()) return skip();
    cachestore::Index index;
    index.media_type = cachestore::kCacheConfigType;
    for (auto& [digest, blob] : blobs) {
        if (used.contains(digest)) index.blobs.push_back(std::move(blob));
    }
    if (earlier == Earlier::kept) {
        // A cache that is there is the better one: a part of a build must not take its place.
        const auto found = cache->get_indexes("", stop);
        if (!found && found.error().code() != Code::not_found) return found.error();
        for (const auto& one : found ? *found : std::vector<cachestore::Index>()) {
            if (one.of_image) continue;
            const auto graph = remotecache::parse_cache_config(one.text);
            if (!graph) continue;  // damaged: it is written anew
            remotecache::merge_into(collected.graph, *graph);
            for (const auto& blob : one.blobs) {
                if (used.insert(blob.digest).second) index.blobs.push_back(blob);
            }
        }
    }
    std::ranges::sort(index.blobs, {}, [](const auto& one) { return one.digest.to_string(); });
    index.text = remotecache::marshal_cache_config(collected.graph);

    const oci::Descriptor top = TRY(cache->put_index("", index, stop));
    const std::string row = fmt::format("writing cache {}manifest {}",
                                        top.media_type == oci::kOciManifest ? "image " : "", top.digest.to_string());
    progress.status(row, row, 0, 0, true);
    if (cache->has_blob_lists()) answer.response["cache.manifest"] = oci::marshal_descriptor(top);
    if (!TRY(cachestore::flag({spec.type, spec.attrs}, "reasons", true))) return {};
    StepTravel::Export records{
        .cache = cache, .states = std::move(states), .keep_others = earlier == Earlier::kept, .written = std::nullopt};
    const auto saved = notes_->travel().save(records, progress, stop);
    // They explain, and nothing else: the cache is whole without them.
    if (!saved && saved.error().is_cancelled()) return saved.error();
    if (!saved)
        progress.log(2, fmt::format("what its steps were made of is not written: {}\n", saved.error().to_string()));
    if (records.written) {
        answer.response[session::answer_key_beside(attribute(spec, "dest"), std::string(kStepsName))] =
            oci::marshal_descriptor(*records.written);
    }
    return {};
}

Result<> LocalJob::export_mounts(const CacheSpec& spec, const FrontendResult& result, ExportAnswer& answer,
                                 Activity& activity, const Stop& stop) {
    MountCaches::Export wanted{.cache = TRY(open_cache(spec, cachestore::Way::to)),
                               .spec = spec,
                               .used = {},
                               .used_with_content = {},
                               .written = {}};
    std::vector<ResultRef> refs = {result.ref};
    for (const auto& [platform, ref] : result.refs) refs.push_back(ref);
    for (const auto& ref : refs) {
        if (ref == nullptr) continue;
        for (const auto& vertex : ref->graph().vertices) {
            const auto* exec = std::get_if<llb::ExecOp>(&vertex.op.body);
            if (exec == nullptr) continue;
            for (const auto& mount : exec->mounts) {
                if (mount.type != llb::MountType::cache) continue;
                (mount.input < 0 ? wanted.used : wanted.used_with_content)
                    .insert(mount.cache ? mount.cache->id : mount.dest);
            }
        }
    }
    TRY(workshop_->mounts().save(wanted, activity.progress(), stop));
    for (const auto& [name, descriptor] : wanted.written)
        answer.response[session::answer_key_beside(attribute(spec, "dest"), name)] =
            oci::marshal_descriptor(descriptor);
    return {};
}

Result<> LocalJob::put_layer(cachestore::CacheStore& cache, const exporter::PackedLayer& layer,
                             VertexProgress& progress, const Stop& stop) {
    const std::string id = layer.blob.digest.to_string();
    const std::string row = "writing layer " + id;
    const auto size = static_cast<std::int64_t>(layer.blob.size);
    cachestore::PutBlob put;
    put.blob = layer.blob;
    put.open = [&] { return workshop_->packer().open_layer(layer, stop); };
    if (!layer.reference.empty() && layer.reference != Workshop::kCacheContent) {
        if (const auto origin = oci::Reference::parse_normalized(layer.reference)) {
            const auto target = oci::Reference::parse_normalized(cache.reference());
            if (target && target->domain() == origin->domain() && target->path() != origin->path())
                put.mount_from.push_back(origin->path());
        }
    }
    put.on_progress = [&](std::uint64_t sent) {
        progress.status(row, row, static_cast<std::int64_t>(sent), size, false);
    };
    progress.status(row, row, 0, size, false);
    if (TRY(cache.put(put, stop)) == cachestore::Put::existed) {
        progress.status(row, row + " (already there)", 0, 0, true);
    } else {
        progress.status(row, row, size, size, true);
    }
    return {};
}

}  // namespace cooper::engine
