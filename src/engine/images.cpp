// Images of the store: listing, naming, removing, moving in and out.
#include "base/text.hpp"
#include "engine/local_engine.hpp"
#include "engine/recorder.hpp"
#include "exporter/archive.hpp"
#include "exporter/index.hpp"
#include "exporter/load.hpp"
#include "exporter/push.hpp"
#include "handover/receiver.hpp"

#include <algorithm>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <set>
#include <unistd.h>

namespace cooper::engine {

namespace {

using nlohmann::json;

constexpr std::size_t kMaxConfig = oci::kMaxImageConfigBytes;

Timestamp parse_time(const std::optional<std::string>& text) {
    if (!text) return Timestamp{};
    std::tm parts{};
    const char* end = ::strptime(text->c_str(), "%Y-%m-%dT%H:%M:%S", &parts);
    if (end == nullptr) return Timestamp{};
    return Timestamp{std::chrono::seconds(::timegm(&parts))};
}

// What an image is called when it has no name: an index that is kept with all its images by its own digest.
Digest id_of(const store::ImageRecord& image) {
    return image.config.empty() || !image.others.empty() ? image.target.digest : image.config;
}

// Of all its images, each once.
store::Chain all_layers(const store::ImageRecord& image) {
    store::Chain all = image.chain;
    for (const auto& other : image.others) {
        for (const store::LayerId id : other.layers) {
            if (std::ranges::find(all.layers, id) == all.layers.end()) all.layers.push_back(id);
        }
    }
    return all;
}

bool is_unnamed(const std::string& name) { return name.empty() || name.starts_with("sha256:"); }

template <class Work>
auto as_step(ProgressSink& sink, const Clock& clock, const std::string& name, Work work) {
    Activity activity(sink, clock, name);
    auto result = work(activity.progress());
    if (result) {
        activity.done();
    } else {
        activity.fail(result.error());
    }
    return result;
}

}  // namespace

Result<std::uint64_t> LocalEngine::size_of(const store::Chain& chain) {
    std::uint64_t total = 0;
    for (const store::LayerId id : chain.layers) {
        const auto layer = store_->layer(id);
        if (!layer) continue;
        total += layer->on_disk ? layer->info.size_bytes : layer->lazy ? layer->lazy->blob.size : 0;
    }
    return total;
}

Result<oci::ImageConfig> LocalEngine::config_of(const store::ImageRecord& image) {
    return oci::parse_image_config(TRY(store_->read_blob(image.config, kMaxConfig)));
}

Result<store::ImageRecord> LocalEngine::find_image(const std::string& name_or_id) {
    if (auto reference = oci::Reference::parse_normalized(name_or_id)) {
        if (auto found = TRY(store_->find_image(reference->canonical()))) return *found;
    }
    std::string wanted = name_or_id;
    if (wanted.starts_with("sha256:")) wanted.erase(0, 7);
    const auto images = TRY(store_->images());
    std::set<Digest> ids;
    const store::ImageRecord* match = nullptr;
    const bool hex = wanted.size() >= 4 && wanted.find_first_not_of("0123456789abcdef") == std::string::npos;
    for (const auto& image : images) {
        if (!hex) break;
        if (id_of(image).hex().starts_with(wanted) || image.target.digest.hex().starts_with(wanted)) {
            ids.insert(id_of(image));
            match = &image;
        }
    }
    if (ids.size() > 1) return bad_input("{} images have an id that begins with {}", ids.size(), wanted);
    if (match != nullptr) return *match;
    std::vector<std::string> names;
    for (const auto& image : images) {
        if (const auto reference = oci::Reference::parse_normalized(image.name); reference && !is_unnamed(image.name)) {
            names.push_back(reference->familiar());
            if (names.back().ends_with(":latest")) names.push_back(names.back().substr(0, names.back().size() - 7));
        }
    }
    const Error error = fail(Code::not_found, Blame::user, "no such image: {}", name_or_id);
    const auto near = nearest(name_or_id, names);
    return near ? error.with_hint("did you mean " + *near + "?") : error;
}

Result<std::vector<ImageRow>> LocalEngine::list_images() {
    std::vector<ImageRow> rows;
    for (const auto& image : TRY(store_->images())) {
        ImageRow row;
        if (!is_unnamed(image.name)) row.name = image.name;
        row.id = id_of(image);
        row.manifest = image.target.digest;
        row.size_bytes = TRY(size_of(all_layers(image)));
        if (const auto config = config_of(image)) row.created = parse_time(config->created);
        rows.push_back(std::move(row));
    }
    return rows;
}

Result<std::vector<std::string>> LocalEngine::remove_image(const std::string& name_or_id, Force force) {
    const store::ImageRecord image = TRY(find_image(name_or_id));
    std::vector<std::string> names;
    for (const auto& other : TRY(store_->images())) {
        if (id_of(other) == id_of(image)) names.push_back(other.name);
    }
    const auto reference = oci::Reference::parse_normalized(name_or_id);
    const bool by_name = reference && reference->canonical() == image.name;
    if (!by_name && names.size() > 1 && force == Force::no) {
        return fail(Code::failed_precondition, Blame::user, "image {} has {} names: {}", id_of(image).short_hex(),
                    names.size(), join(names, ", "))
            .with_hint("name one of them, or remove all with -f");
    }
    std::vector<std::string> lines;
    for (const auto& name : by_name ? std::vector{image.name} : names) {
        TRY(store_->remove_image(name));
        if (!is_unnamed(name)) lines.push_back("Untagged: " + oci::Reference::parse_normalized(name)->familiar());
    }
    if (!by_name || names.size() == 1) lines.push_back("Deleted: " + id_of(image).to_string());
    return lines;
}

Result<> LocalEngine::tag_image(const std::string& source, const std::string& target) {
    store::ImageRecord image = TRY(find_image(source));
    const auto reference = TRY(oci::Reference::parse_normalized(target));
    if (!reference.digest().empty()) return bad_input("{}: a new name cannot have a digest", target);
    const exporter::PackedResult packed = TRY(exporter::open_result(packer_, image));
    image.name = reference.canonical();
    return store_->put_image(image, exporter::blobs_of(packed));
}

Result<store::ImageRecord> LocalEngine::ensure_image(const std::string& name,
                                                     const std::optional<oci::Platform>& platform,
                                                     source::ImageResolve mode, VertexProgress& progress, Stop stop) {
    source::ImageRequest request{.reference = TRY(oci::Reference::parse_normalized(name)),
                                 .platform = platform.value_or(oci::host_platform())};
    request.mode = mode;
    const source::ResolvedImage image = TRY(images_.resolve(request, &progress, stop));
    store::ImageRecord record;
    record.name = request.reference.canonical();
    record.target = image.target;
    record.config = image.content.config.digest;
    record.chain = TRY(images_.chain(image, request));
    TRY(store_->put_image(record, {image.target.digest, image.manifest.digest, image.content.config.digest}));
    return record;
}

Result<oci::Descriptor> LocalEngine::pull_image(const std::string& name, const std::optional<oci::Platform>& platform,
                                                ProgressSink& progress, Stop stop) {
    return as_step(progress, clock_, "pull " + name, [&](VertexProgress& step) -> Result<oci::Descriptor> {
        const store::ImageRecord record = TRY(ensure_image(name, platform, source::ImageResolve::pull, step, stop));
        TRY(images_.materialize(record.chain, &step, stop));
        return record.target;
    });
}

Result<oci::Descriptor> LocalEngine::push_image(const std::string& name, ProgressSink& progress, Stop stop) {
    return as_step(progress, clock_, "push " + name, [&](VertexProgress& step) -> Result<oci::Descriptor> {
        const store::ImageRecord image = TRY(find_image(name));
        const auto reference = TRY(oci::Reference::parse_normalized(name));
        const exporter::PackedResult packed =
            TRY(exporter::repack_result(packer_, image, exporter::PackOptions{}, step, stop));
        TRY(exporter::push_image(packer_, registry_, packed, {reference}, exporter::PushName::tag, step, stop));
        if (packed.target().digest != image.target.digest) {
            // What the registry has is what this name means from now on.
            store::ImageRecord record = exporter::record_of(packed);
            record.name = image.name;
            TRY(store_->put_image(record, exporter::blobs_of(packed)));
        }
        return packed.target();
    });
}

Result<> LocalEngine::save_images(const std::vector<std::string>& names, int out_fd, Stop stop) {
    NullProgress silent;
    VertexProgress progress(silent, Digest{}, clock_);
    std::vector<exporter::ArchiveImage> images;
    for (const auto& name : names) {
        const store::ImageRecord image = TRY(find_image(name));
        exporter::ArchiveImage one;
        one.image = TRY(exporter::repack_result(packer_, image, exporter::PackOptions{}, progress, stop));
        if (const auto reference = oci::Reference::parse_normalized(name);
            reference && reference->canonical() == image.name) {
            one.names = {image.name};
        }
        images.push_back(std::move(one));
    }
    return exporter::write_archive(packer_, images, exporter::ArchiveFormat::docker, out_fd, progress, stop);
}

Result<std::vector<Engine::HandOverRow>> LocalEngine::hand_over_images(const HandOverRequest& request, Stop stop) {
    const handover::Kind kind = TRY(handover::parse_kind(request.to));
    const handover::Address address{.kind = kind, .address = request.address, .name_space = request.name_space};
    const auto receiver = TRY(handover::open_receiver(http_, request.dial, address));
    std::vector<HandOverRow> rows;
    for (const auto& name : request.names) {
        const store::ImageRecord image = TRY(find_image(name));
        exporter::ArchiveImage one{.image = TRY(exporter::open_result(packer_, image)), .names = {}};
        if (const auto reference = oci::Reference::parse_normalized(name);
            reference && reference->canonical() == image.name) {
            one.names = {image.name};
        }
        const handover::HandedOver done = TRY_CONTEXT(receiver->take(packer_, one, stop), "{}", name);
        rows.push_back({.name = one.names.empty() ? id_of(image).to_string() : name,
                        .layers = done.layers,
                        .layers_sent = done.layers_sent,
                        .bytes_sent = done.bytes_sent});
    }
    return rows;
}

Result<std::vector<std::string>> LocalEngine::load_images(int in_fd, Stop stop) {
    NullProgress silent;
    VertexProgress progress(silent, Digest{}, clock_);
    sys::Fd copy(::fcntl(in_fd, F_DUPFD_CLOEXEC, 3));
    if (!copy.valid()) return fail_errno(errno, "read the archive");
    auto source = std::make_unique<sys::FdSource>(std::move(copy));
    std::vector<std::string> loaded;
    for (auto& image : TRY(exporter::load_archive(*store_, std::move(source), oci::host_platform(),
                                                  exporter::LoadLimits{}, progress, stop))) {
        std::vector<std::string> names = image.names;
        if (names.empty()) names = {id_of(image.record).to_string()};
        for (const auto& name : names) {
            image.record.name = name;
            TRY(store_->put_image(image.record, image.blobs));
            const auto reference = oci::Reference::parse_normalized(name);
            loaded.push_back(!is_unnamed(name) && reference ? reference->familiar() : name);
        }
    }
    return loaded;
}

Result<std::string> LocalEngine::inspect_image(const std::string& name) {
    const store::ImageRecord image = TRY(find_image(name));
    const oci::ImageConfig config = TRY(config_of(image));
    json out;
    out["Id"] = id_of(image).to_string();
    out["RepoTags"] = json::array();
    for (const auto& other : TRY(store_->images())) {
        const auto reference = oci::Reference::parse_normalized(other.name);
        if (id_of(other) == id_of(image) && !is_unnamed(other.name) && reference)
            out["RepoTags"].push_back(reference->familiar());
    }
    out["Digest"] = image.target.digest.to_string();
    out["MediaType"] = image.target.media_type;
    out["Created"] = config.created.value_or("");
    out["Author"] = config.author;
    out["Architecture"] = config.platform.architecture;
    if (!config.platform.variant.empty()) out["Variant"] = config.platform.variant;
    out["Os"] = config.platform.os;
    out["Size"] = TRY(size_of(all_layers(image)));
    const json raw = json::parse(oci::marshal_image_config(config), nullptr, false);
    out["Config"] = raw.contains("config") ? raw["config"] : json::object();
    json layers = json::array();
    for (const auto& diff_id : config.diff_ids) layers.push_back(diff_id.to_string());
    out["RootFS"] = {{"Type", "layers"}, {"Layers", layers}};
    if (!image.others.empty()) {
        // What stands above is of the image for this machine.
        const oci::Index index = TRY(oci::parse_index(
            TRY(store_->read_blob(image.target.digest, oci::kMaxManifestBytes)), image.target.media_type));
        json manifests = json::array();
        for (const auto& entry : index.manifests) {
            json one = {{"Digest", entry.digest.to_string()}, {"MediaType", entry.media_type}, {"Size", entry.size}};
            if (entry.platform) one["Platform"] = oci::format_platform(*entry.platform);
            manifests.push_back(std::move(one));
        }
        out["Manifests"] = std::move(manifests);
        out["Annotations"] = index.annotations;
    }
    std::string text = out.dump(4, ' ', false, json::error_handler_t::replace);
    return text;
}

Result<std::vector<Engine::HistoryRow>> LocalEngine::image_history(const std::string& name) {
    const store::ImageRecord image = TRY(find_image(name));
    const oci::ImageConfig config = TRY(config_of(image));
    std::vector<HistoryRow> rows;
    std::size_t layer = 0;
    for (const auto& entry : config.history) {
        HistoryRow row;
        row.created = entry.created.value_or("");
        row.created_by = entry.created_by;
        row.comment = entry.comment;
        row.empty_layer = entry.empty_layer;
        if (!entry.empty_layer && layer < image.chain.layers.size()) {
            row.size_bytes = TRY(size_of(store::Chain{{image.chain.layers[layer]}}));
            ++layer;
        }
        rows.push_back(std::move(row));
    }
    std::reverse(rows.begin(), rows.end());
    return rows;
}

}  // namespace cooper::engine
