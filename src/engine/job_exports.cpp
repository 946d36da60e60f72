// Exports of a build: images into the state and to registries, archives and directories to whoever
// asked. Where files go (a path of this machine, or the client) is decided in one place: Place.

#include "base/text.hpp"
#include "codec/base64.hpp"
#include "engine/cache_writing.hpp"
#include "engine/detail/exporting.hpp"
#include "exporter/archive.hpp"
#include "exporter/file_tree.hpp"
#include "exporter/index.hpp"
#include "exporter/options.hpp"
#include "exporter/push.hpp"
#include "exporter/squash.hpp"
#include "inside/layers_report.hpp"
#include "inside/shown.hpp"
#include "oci/json_text.hpp"
#include "sys/output_file.hpp"

#include <algorithm>
#include <array>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <set>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

namespace cooper::engine {

namespace {

// A descriptor whose bytes go to a sink. The sink is used by one thread, from start() to finish().
class FdToSink {
public:
    static Result<std::unique_ptr<FdToSink>> start(ByteSink& sink) {
        auto pipe = std::unique_ptr<FdToSink>(new FdToSink);
        std::array<int, 2> ends{};
        if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno(errno, "pipe");
        sys::Fd read_end(ends[0]);
        pipe->write_end_ = sys::Fd(ends[1]);
        static_cast<void>(::fcntl(ends[1], F_SETPIPE_SZ, 1 << 20));
        pipe->thread_ = std::jthread([&sink, pipe = pipe.get(), in = std::move(read_end)] {
            std::vector<std::byte> buffer(std::size_t{256} << 10U);
            while (true) {
                const ssize_t got = ::read(in.get(), buffer.data(), buffer.size());
                if (got < 0 && errno == EINTR) continue;
                if (got < 0) pipe->result_ = fail_errno(errno, "read a pipe");
                if (got <= 0) return;
                pipe->result_ = sink.write(std::span(buffer).first(static_cast<std::size_t>(got)));
                // The writer sees a broken pipe and stops.
                if (!pipe->result_) return;
            }
        });
        return pipe;
    }
    [[nodiscard]] int fd() const { return write_end_.get(); }
    // The sink's error, if it had one, says more than the writer's.
    Result<> finish(const Result<>& written) {
        write_end_ = sys::Fd();
        thread_.join();
        if (!result_) return result_;
        return written;
    }

private:
    FdToSink() = default;
    sys::Fd write_end_;
    Result<> result_;
    std::jthread thread_;
};

std::string file_name_of(const std::string& platform) {
    std::string name = platform;
    std::replace(name.begin(), name.end(), '/', '_');
    return name;
}

}  // namespace

namespace {

struct NamedPlatform {
    std::string id;
    oci::Platform platform;
};

// What a frontend says of the platforms of its answer, in its order. A door: frontends may be anybody's.
Result<std::vector<NamedPlatform>> platforms_of(const FrontendResult& result) {
    std::vector<NamedPlatform> platforms;
    const auto text = result.metadata.find("refs.platforms");
    if (text == result.metadata.end()) {
        if (result.single) return platforms;
        return bad_input("the frontend's answer has {} parts and does not say for which platforms", result.refs.size());
    }
    TRY(oci::check_json_bounds(text->second, std::size_t{1} << 20U, "refs.platforms"));
    const auto json = nlohmann::json::parse(text->second, nullptr, false);
    if (!json.is_object() || !json.contains("Platforms") || !json["Platforms"].is_array()) {
        return bad_input("refs.platforms of the frontend is no list of platforms");
    }
    std::set<std::string> seen;
    for (const auto& item : json["Platforms"]) {
        const auto said = item.is_object() ? item.find("Platform") : item.end();
        if (!item.is_object() || said == item.end() || !said->is_object() || !item.contains("ID") ||
            !item["ID"].is_string()) {
            return bad_input("refs.platforms of the frontend is no list of platforms");
        }
        const auto field = [&](const char* key) {
            const auto found = said->find(key);
            return found != said->end() && found->is_string() ? found->get<std::string>() : std::string();
        };
        NamedPlatform one{.id = item["ID"].get<std::string>(), .platform = {}};
        one.platform.os = field("os");
        one.platform.architecture = field("architecture");
        one.platform.variant = field("variant");
        one.platform.os_version = field("os.version");
        if (const auto features = said->find("os.features"); features != said->end() && features->is_array()) {
            for (const auto& feature : *features) {
                if (feature.is_string()) one.platform.os_features.push_back(feature.get<std::string>());
            }
        }
        one.platform = oci::normalize(one.platform);
        if (!seen.insert(one.id).second) return bad_input("the frontend answers twice for {}", quoted(one.id));
        if (!result.single && !result.refs.contains(one.id)) {
            return bad_input("the frontend names the platform {} and has no result for it", quoted(one.id));
        }
        platforms.push_back(std::move(one));
    }
    if (!result.single && platforms.size() != result.refs.size()) {
        return bad_input("the frontend's answer has {} parts and names {} platforms", result.refs.size(),
                         platforms.size());
    }
    return platforms;
}

}  // namespace

namespace {

// Runs `write` with a descriptor that leads to where the file shall be.
Result<> write_file(session::Session& session, const ExportSpec& spec, const exporter::ExportOptions& options,
                    const std::map<std::string, std::string>& metadata, const Stop& stop,
                    const std::function<Result<>(int fd)>& write) {
    if (spec.client_exporter >= 0) {
        const auto file = TRY(session.export_file(spec.client_exporter, metadata, stop));
        const auto pipe = TRY(FdToSink::start(*file));
        TRY(pipe->finish(write(pipe->fd())));
        return file->finish();
    }
    if (options.dest == "-") return write(STDOUT_FILENO);
    auto file = TRY(sys::OutputFile::create(options.dest));
    TRY(write(file.fd()));
    return std::move(file).commit();
}

// An OCI layout at the client: it takes the blobs, and writes index.json itself when it has our answer.
Result<> send_layout(session::Session& session, exporter::Packer& packer, const exporter::PackedResult& result,
                     const Stop& stop) {
    static constexpr const char* kStore = "export";
    std::set<Digest> sent;
    for (const auto& image : result.images) {
        for (const auto& layer : image.layers) {
            if (!sent.insert(layer.blob.digest).second) continue;
            const auto source = TRY(packer.open_layer(layer, stop));
            TRY(session.write_content(kStore, layer.blob.digest, layer.blob.size, *source, stop));
        }
        if (sent.insert(image.config.digest).second) {
            StringSource config(image.config_bytes);
            TRY(session.write_content(kStore, image.config.digest, image.config.size, config, stop));
        }
        if (sent.insert(image.manifest.digest).second) {
            StringSource manifest(image.manifest_bytes);
            TRY(session.write_content(kStore, image.manifest.digest, image.manifest.size, manifest, stop));
        }
    }
    const auto write = [&](const exporter::PackedBlob& blob) -> Result<> {
        if (!sent.insert(blob.descriptor.digest).second) return {};
        StringSource text(blob.text);
        return session.write_content(kStore, blob.descriptor.digest, blob.descriptor.size, text, stop);
    };
    for (const auto& attestation : result.attestations) {
        for (const auto& layer : attestation.layers) TRY(write(layer));
        TRY(write(attestation.config));
        TRY(write(attestation.manifest));
    }
    if (!result.index) return {};
    StringSource index(result.index_bytes);
    return session.write_content(kStore, result.index->digest, result.index->size, index, stop);
}

// Nobody means the whole machine.
Result<> check_may_be_emptied(const sys::RootedDir& dest) {
    struct stat root{};
    struct stat mine{};
    if (::stat("/", &root) != 0 || ::fstat(dest.fd(), &mine) != 0) return fail_errno(errno, "stat");
    if (root.st_dev != mine.st_dev || root.st_ino != mine.st_ino) return {};
    return bad_input("mode=delete would remove all files of this machine: dest is the root directory");
}

Result<sys::RootedDir> make_directory(const std::string& path) {
    if (::mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) return fail_errno(errno, path);
    return sys::RootedDir::open_host(path);
}

}  // namespace

namespace {

// Several trees put into one, each below its name. What two of them would put at the same place is refused.
Result<> gather(const std::vector<session::DirectoryExport>& trees, const std::vector<std::string>& platforms,
                snapshot::LayerBuilder& into, const Stop& stop) {
    std::map<std::string, std::size_t> files;  // path → whose
    for (std::size_t i = 0; i < trees.size(); ++i) {
        std::vector<std::pair<std::string, snapshot::DirectoryRef>> open{
            {trees[i].name.empty() ? "" : "/" + trees[i].name, TRY(trees[i].tree->root())}};
        while (trees[i].name.empty() && !open.empty()) {
            TRY(check_stop(stop));
            const auto [path, directory] = std::move(open.back());
            open.pop_back();
            for (const auto& entry : TRY(directory->list())) {
                const std::string below = path + "/" + entry.name;
                if (entry.kind == snapshot::Kind::directory) {
                    open.emplace_back(below, TRY(directory->open_dir(entry.name)));
                } else if (const auto [at, mine] = files.try_emplace(below, i); !mine) {
                    return bad_input("{} is in the results of {} and {}", below, platforms[at->second], platforms[i])
                        .with_hint("without platform-split=false each has a folder of its own");
                }
            }
        }
        layer::CopyOptions copy;
        copy.source = "/";
        copy.destination = "/" + trees[i].name + (trees[i].name.empty() ? "" : "/");
        copy.dir_copy_contents = true;
        copy.create_dest_path = true;
        TRY(layer::copy(trees[i].tree, into, copy, stop));
    }
    return into.finish();
}

}  // namespace

std::string LocalJob::folder_of(const Exporting& e, const std::string& platform) {
    if (!platform.empty()) return file_name_of(platform);
    oci::Platform one = oci::host_platform();
    if (const auto config = oci::parse_image_config(e.metadata("containerimage.config", platform)))
        one = config->platform;
    return file_name_of(oci::format_platform(oci::normalize(one)));
}

Result<> LocalJob::export_files(Exporting& e) {
    std::vector<session::DirectoryExport> trees;
    std::vector<std::string> platforms;
    std::vector<AttestedTree> attested;
    const bool tar = e.options.type == exporter::ExportType::tar;
    // A tar of several platforms has a folder for each, whatever is asked.
    const bool split = tar ? !e.result.single : e.options.platform_split.value_or(!e.result.single);
    for (const auto& [platform, ref] : e.parts()) {
        const auto result = TRY(build(ref, e.stop));
        const std::string folder = split ? folder_of(e, platform) : std::string();
        if (TRY(attests(e, platform))) {
            const std::string suffix = split || e.result.single ? std::string() : "." + folder_of(e, platform);
            attested.push_back(TRY(attest_tree(e, platform, ref, suffix)));
            trees.push_back({folder, attested.back().tree});
        } else {
            trees.push_back({folder, TRY(workshop_->trees().tree(result, e.progress(), e.stop))});
        }
        platforms.push_back(platform);
    }
    // A place for what has to be put together first; it goes with the export.
    std::optional<store::LayerDraft> draft;
    const bool together = tar ? split : trees.size() > 1 && !split;
    if (together) {
        draft.emplace(TRY(workshop_->store().begin_layer()));
        const auto builder = TRY(snapshot::LayerBuilder::create({}, TRY(draft->open())));
        TRY(gather(trees, platforms, *builder, e.stop));
        std::vector<snapshot::LayerDir> layers;
        layers.push_back({0, TRY(draft->open())});
        trees.assign(1, {std::string(),
                         TRY(snapshot::ChainView::create(std::move(layers), snapshot::ChainView::TopLayer::in_work))});
    }
    if (tar) {
        return write_file(session(), e.spec, e.options, {}, e.stop, [&](int fd) -> Result<> {
            TRY(exporter::export_tar(*trees.front().tree, fd, {e.epoch_of(e.parts().front().first)}, e.progress(),
                                     e.stop));
            return {};
        });
    }
    if (e.to_client()) {
        return session().export_directory(
            e.spec.client_exporter, trees,
            {.epoch_seconds = e.epoch_of(e.parts().front().first), .remove_others = e.options.delete_others},
            e.progress(), e.stop);
    }
    const auto dest = TRY(make_directory(e.options.dest));
    const exporter::FileTreeOptions files{.epoch_seconds = e.epoch_of(e.parts().front().first),
                                          .remove_others = e.options.delete_others};
    if (files.remove_others) TRY(check_may_be_emptied(dest));
    if (files.remove_others && !trees.front().name.empty()) {
        for (const auto& there : TRY(sys::list_dir(dest.fd()))) {
            const bool wanted =
                std::ranges::any_of(trees, [&there](const auto& one) { return one.name == there.name; });
            if (!wanted) TRY(sys::remove_tree_at(dest.fd(), there.name));
        }
    }
    for (const auto& one : trees) {
        if (one.name.empty()) {
            TRY(exporter::export_local(*one.tree, dest, files, e.progress(), e.stop));
            continue;
        }
        TRY(dest.make_dirs(one.name, 0755));
        const auto inside = TRY(dest.open_dir(one.name));
        TRY(exporter::export_local(*one.tree, inside, files, e.progress(), e.stop));
    }
    return {};
}

Result<exporter::ImageResult> LocalJob::image_of(Exporting& e, const std::string& platform, const ResultRef& ref) {
    const solver::SharedResult result = TRY(build(ref, e.stop));
    exporter::ImageResult image{.chain = TRY(workshop_->trees().layers_of(result, "an image", e.stop)),
                                .config = {},
                                .base = std::nullopt,
                                .epoch_seconds = e.epoch_of(platform)};
    const std::string config = e.metadata("containerimage.config", platform);
    if (!config.empty()) {
        image.config = TRY_CONTEXT(oci::parse_image_config(config), "image configuration of the frontend");
    } else {
        image.config.platform = platform.empty() ? oci::host_platform() : TRY(oci::parse_platform(platform));
    }
    if (const std::string base = e.metadata("containerimage.base.config", platform); !base.empty()) {
        image.base = TRY_CONTEXT(oci::parse_image_config(base), "base image configuration of the frontend");
    }
    if (!e.options.squash_waste) return image;
    // Layers that were pulled are somebody else's, whatever the frontend says of the base.
    std::size_t base = image.base ? image.base->diff_ids.size() : 0;
    while (base < image.chain.layers.size() && TRY(engine_.store_->layer(image.chain.layers[base])).lazy) ++base;
    TRY(workshop_->trees().ensure(image.chain, e.progress(), e.stop));
    const exporter::Squashed squashed =
        TRY(exporter::squash_waste(*engine_.store_, image.chain, base, core_count(), e.stop));
    TRY(exporter::squash_history(*engine_.store_, image.chain, squashed, image.config));
    image.chain = squashed.chain;
    std::string told = "squash-waste: nothing above the base is stored in vain";
    if (squashed.gave_up) {
        told = "squash-waste: these layers cannot be planned anew without changing a file; they stay as they are";
        e.progress().warn(WarningEvent{.short_text = told});
    } else if (squashed.saved_bytes > 0) {
        told = fmt::format("squash-waste: {} less in {} layers; the files are the same, {}",
                           human_size(squashed.saved_bytes), squashed.chain.layers.size(), squashed.tree.to_string());
    }
    e.progress().status(told, told, 0, 0, true);
    return image;
}

Result<exporter::PackedImage> LocalJob::pack_image(Exporting& e, const std::string& platform, const ResultRef& ref,
                                                   const exporter::PackOptions& pack) {
    exporter::ImageResult image = TRY(image_of(e, platform, ref));
    TRY(workshop_->secrets().check(oci::marshal_image_config(image.config), "the configuration of the image",
                                   e.progress()));
    TRY(add_inline_cache(ref, image));
    return workshop_->packer().pack(image, pack, e.progress(), e.stop);
}

// What leaves under one name: an image, or an index when the frontend answered by platform, be it one.
Result<exporter::PackedResult> LocalJob::pack_result(Exporting& e) {
    const bool archive = e.options.type != exporter::ExportType::image;
    exporter::PackOptions pack = e.options.pack;
    bool attested = false;
    for (const auto& [platform, ref] : e.parts()) attested = TRY(attests(e, platform)) || attested;
    if (!archive && !e.options.push && !attested && !e.spec.attrs.contains("compression")) {
        // Nobody needs the packed layers yet. (What is attested names them.)
        pack.compression = exporter::LayerCompression::none;
    }
    const std::vector<NamedPlatform> platforms = TRY(platforms_of(e.result));
    const auto of_platform = [&](const oci::Platform& platform) {
        exporter::PackOptions own = pack;
        const auto found = e.options.of_platforms.find(oci::format_platform(platform));
        if (found == e.options.of_platforms.end()) return own;
        for (const auto& [key, value] : found->second.manifest) own.annotations[key] = value;
        for (const auto& [key, value] : found->second.descriptor) own.descriptor_annotations[key] = value;
        return own;
    };
    std::vector<exporter::PackedImage> images;
    std::vector<exporter::PackedAttestation> attestations;
    if (e.result.single) {
        const bool of_index = !e.options.index_annotations.empty() || !e.options.index_descriptor_annotations.empty();
        if (of_index && !attested) {
            return bad_input("annotations of an index: an image for one platform has none")
                .with_hint("write annotation.KEY=VALUE, or build with several platforms or multi-platform=true");
        }
        const oci::Platform platform = platforms.empty() ? oci::host_platform() : platforms.front().platform;
        exporter::PackedImage image = TRY(pack_image(e, "", e.result.ref, of_platform(platform)));
        if (!attested) return exporter::PackedResult(std::move(image));
        image.manifest.platform = platform;
        attestations.push_back(TRY(attest_image(e, "", e.result.ref, image)));
        images.push_back(std::move(image));
    } else if (e.options.type == exporter::ExportType::docker) {
        return bad_input("type=docker cannot hold an index: docker load knows images of one platform only")
            .with_hint("use type=oci, or push with type=registry, or build one platform without multi-platform");
    } else {
        for (const auto& [id, platform] : platforms) {
            const ResultRef& ref = e.result.refs.at(id);
            images.push_back(TRY_CONTEXT(pack_image(e, id, ref, of_platform(platform)), "image for {}", id));
            images.back().manifest.platform = platform;
            if (TRY(attests(e, id)))
                attestations.push_back(TRY_CONTEXT(attest_image(e, id, ref, images.back()), "for {}", id));
        }
    }
    const exporter::IndexOptions options{.oci_media_types = pack.oci_media_types,
                                         .annotations = e.options.index_annotations,
                                         .descriptor_annotations = e.options.index_descriptor_annotations};
    return exporter::pack_index(workshop_->store(), std::move(images), std::move(attestations), options, e.progress());
}

Result<> LocalJob::push(Exporting& e, const exporter::PackedResult& packed,
                        const std::vector<oci::Reference>& references) {
    const auto by = e.options.push_by_digest ? exporter::PushName::digest : exporter::PushName::tag;
    const auto to = [&](registry::Registry& registry) {
        return exporter::push_image(workshop_->packer(), registry, packed, references, by, e.progress(), e.stop);
    };
    if (!e.options.insecure_registry) return to(workshop_->registry());
    // Without looking at certificates; and without TLS where nobody speaks it.
    auto pushed = to(*workshop_->insecure_registry(references, registry::Scheme::https));
    if (!pushed && pushed.error().code() == Code::unavailable)
        pushed = to(*workshop_->insecure_registry(references, registry::Scheme::http));
    return pushed;
}

// What made a layer, and where it is written.
Result<std::string> LocalJob::step_of(store::LayerId id) {
    if (id == 0) return std::string();
    const std::string description = TRY(workshop_->store().layer(id)).info.description;
    auto places = places_.lock();
    const auto found = places->find(description);
    return found == places->end() ? description : found->second + ": " + description;
}

Result<> LocalJob::export_image(Exporting& e) {
    const bool archive = e.options.type != exporter::ExportType::image;
    exporter::Packer& packer = workshop_->packer();
    const exporter::PackedResult packed = TRY(pack_result(e));
    const oci::Descriptor& target = packed.target();
    // An image stays known by its configuration when something is said of it.
    const Digest image_id = e.result.single ? packed.images.front().config.digest : target.digest;
    ExportAnswer& answer = e.answer;
    if (!archive || !answer.image_id) {
        answer.image_id = image_id;
        answer.target = target;
    }
    if (!packed.index) answer.response["containerimage.config.digest"] = image_id.to_string();
    answer.response["containerimage.digest"] = target.digest.to_string();
    answer.response["containerimage.descriptor"] = codec::base64_encode(oci::marshal_descriptor(target));
    for (const auto& image : packed.images) {
        for (const auto& layer : image.layers) {
            if (const std::string step = TRY(step_of(layer.layer)); !step.empty()) answer.steps[layer.diff_id] = step;
        }
    }
    std::vector<std::string> kept_names = e.options.names;
    if (!e.options.dangling_prefix.empty() && (!e.options.dangling_only || kept_names.empty()))
        kept_names.push_back(e.options.dangling_prefix + "@" + target.digest.to_string());
    if (!kept_names.empty()) answer.response["image.name"] = join(kept_names, ",");

    if (archive) {
        const auto format = e.options.type == exporter::ExportType::oci ? exporter::ArchiveFormat::oci
                                                                        : exporter::ArchiveFormat::docker;
        const std::vector<exporter::ArchiveImage> images = {{packed, e.options.names}};
        if (!e.options.tar) {
            if (e.to_client()) return send_layout(session(), packer, packed, e.stop);
            const auto dest = TRY(make_directory(e.options.dest));
            return exporter::write_layout(packer, images, format, dest, e.progress(), e.stop);
        }
        if (!e.to_client()) {
            if (e.options.dest.empty() && e.options.type == exporter::ExportType::docker) return {};  // kept here
            if (e.options.dest == "-" && ::isatty(STDOUT_FILENO) == 1) {
                return bad_input("an image archive is not for a terminal")
                    .with_hint("add dest=FILE or redirect standard output");
            }
        }
        return write_file(session(), e.spec, e.options, answer.response, e.stop, [&](int fd) {
            return exporter::write_archive(packer, images, format, fd, e.progress(), e.stop);
        });
    }
    if (e.options.store) {
        store::ImageRecord record = exporter::record_of(packed);
        const std::vector<Digest> blobs = exporter::blobs_of(packed);
        std::vector<std::string> names = kept_names;
        if (names.empty()) names = {image_id.to_string()};
        if (e.options.name_canonical) {
            for (const auto& name : e.options.names) names.push_back(name + "@" + target.digest.to_string());
        }
        for (const auto& name : names) {
            record.name = name;
            TRY(workshop_->store().put_image(record, blobs));
            if (!kept_names.empty()) e.progress().status("naming to " + name, "naming to " + name, 0, 0, true);
        }
    }
    if (e.options.push) {
        if (e.options.names.empty())
            return bad_input("nothing to push to: the image has no name").with_hint("add -t or name=");
        std::vector<oci::Reference> references;
        for (const auto& name : e.options.names) {
            references.push_back(TRY(e.options.push_by_digest ? oci::Reference::parse_untagged(name)
                                                              : oci::Reference::parse_normalized(name)));
        }
        if (e.before_push) e.before_push();
        TRY(push(e, packed, references));
    }
    for (const auto& name : e.options.names) answer.names.push_back(name);
    return {};
}

Result<> LocalJob::export_one(const FrontendResult& result, const ExportSpec& spec,
                              const std::vector<std::string>& tags, ExportAnswer& answer, const BeforePush& before_push,
                              const Stop& stop) {
    // Whatever the destination is called, a client's is its own business.
    const std::string dest = spec.client_exporter >= 0 ? std::string("client") : spec.dest;
    exporter::ExportOptions options = TRY(exporter::parse_export_options(
        spec.type, spec.attrs, dest, tags,
        spec.keeps_unknown_attrs ? exporter::UnknownAttribute::keep : exporter::UnknownAttribute::refuse));
    // All results are built before anything leaves, whoever wants them.
    if (result.single) {
        TRY(build(result.ref, stop));
    } else {
        for (const auto& [platform, ref] : result.refs) TRY(build(ref, stop));
    }
    if (options.type == exporter::ExportType::cacheonly) return {};
    const bool files = options.type == exporter::ExportType::local || options.type == exporter::ExportType::tar;
    const auto attempt = [&]() -> Result<> {
        Activity activity(progress_, engine_.clock_,
                          options.type == exporter::ExportType::local    ? "exporting to client directory"
                          : options.type == exporter::ExportType::tar    ? "exporting to client tarball"
                          : options.type == exporter::ExportType::oci    ? "exporting to oci image format"
                          : options.type == exporter::ExportType::docker ? "exporting to docker image format"
                                                                         : "exporting to image");
        Exporting exporting{result, spec, options, activity, stop, answer, before_push};
        auto done = files ? export_files(exporting) : export_image(exporting);
        if (done) {
            activity.done();
        } else {
            activity.fail(done.error());
        }
        return done;
    };
    auto done = attempt();
    if (!done && workshop_->take_lost_layers()) {
        TRY(build_again(result.ref, stop));
        for (const auto& [platform, ref] : result.refs) TRY(build_again(ref, stop));
        done = attempt();
    }
    if (!done) return done.error().with_context("export");
    return {};
}

namespace {

constexpr std::size_t kCulprits = 5;

// "Dockerfile:12" of the step that made a layer; empty when it is of the base image, or nobody knows.
std::string place_of(const ResultRef& ref, const std::string& description) {
    if (ref == nullptr) return {};
    for (const auto& vertex : ref->graph().vertices) {
        if (vertex.name != description || vertex.locations.empty()) continue;
        return fmt::format("{}:{}", vertex.locations.front().file, vertex.locations.front().first_line);
    }
    return {};
}

std::string culprits(const inside::LayersReport& report, const std::vector<std::string>& places) {
    std::vector<std::size_t> order(report.facts.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::ranges::stable_sort(
        order, [&](std::size_t a, std::size_t b) { return report.facts[a].bytes > report.facts[b].bytes; });
    std::string text = "Largest layers\n";
    for (std::size_t i = 0; i < order.size() && i < kCulprits; ++i) {
        const std::size_t layer = order[i];
        if (report.facts[layer].bytes == 0) break;
        text += fmt::format("{:>9}  {}{}{}\n", human_size(report.facts[layer].bytes), places[layer],
                            places[layer].empty() ? "" : "  ", inside::shown(report.instructions[layer].text, 100));
    }
    text += "Largest files\n";
    for (const auto& file : report.largest) {
        text += fmt::format("{:>9}  {}{}{}\n", human_size(file.bytes), inside::shown(file.path),
                            places[file.layer].empty() ? "" : "  ", places[file.layer]);
    }
    if (!report.waste.empty()) text += "Stored, and not seen\n";
    for (const auto& waste : report.waste) {
        const std::string& place = places[waste.hidden_by];
        text += fmt::format("{:>9}  {}  {}{}{}\n", human_size(waste.bytes), inside::shown(waste.path), waste.why,
                            place.empty() ? "" : " by ", place);
    }
    return text;
}

}  // namespace

Result<> LocalJob::check_size(Exporting& e, const std::string& platform, const ResultRef& ref) {
    const exporter::ImageResult result = TRY(image_of(e, platform, ref));
    inside::Image image{.name = "the result", .manifest = {}, .config_digest = {}, .config = result.config};
    std::vector<std::string> places;
    const std::size_t base = result.base ? result.base->diff_ids.size() : 0;
    for (const store::LayerId id : result.chain.layers) {
        const store::LayerRecord record = TRY(engine_.store_->layer(id));
        exporter::PackedLayer layer{.layer = id, .diff_id = {}, .blob = {}, .reference = {}};
        if (record.lazy) {
            layer.blob = record.lazy->blob;
            layer.reference = record.lazy->reference;
        }
        image.layers.push_back({.diff_id = {}, .blob = {}, .packed_size = {}, .open = [this, layer](const Stop& stop) {
                                    return workshop_->packer().open_files(layer, stop);
                                }});
        places.push_back(places.size() < base ? std::string("base image") : place_of(ref, record.info.description));
    }
    const auto report = TRY(inside::report_layers(image, kCulprits, core_count(), e.stop));
    const std::uint64_t limit = *e.options.max_size_bytes;
    if (report->stored_bytes <= limit) return {};
    auto error =
        fail(Code::failed_precondition, Blame::user, "{}the layers hold {} of files, more than the {} of max-size",
             platform.empty() ? std::string() : platform + ": ", human_size(report->stored_bytes), human_size(limit))
            .with_detail(Excerpt{culprits(*report, places)});
    if (report->wasted_bytes == 0 || e.options.squash_waste) return error;
    return error.with_hint(
        fmt::format("{} are stored and not seen: --squash-waste leaves out what is above the base image",
                    human_size(report->wasted_bytes)));
}

Result<> LocalJob::check_sizes(const FrontendResult& result, const std::vector<ExportSpec>& exports,
                               const std::vector<std::string>& tags, const Stop& stop) {
    for (const auto& spec : exports) {
        if (!spec.attrs.contains("max-size")) continue;
        const std::string dest = spec.client_exporter >= 0 ? std::string("client") : spec.dest;
        const exporter::ExportOptions options = TRY(exporter::parse_export_options(
            spec.type, spec.attrs, dest, tags,
            spec.keeps_unknown_attrs ? exporter::UnknownAttribute::keep : exporter::UnknownAttribute::refuse));
        std::vector<std::pair<std::string, ResultRef>> parts;
        if (result.single) {
            parts.emplace_back("", result.ref);
        } else {
            parts.assign(result.refs.begin(), result.refs.end());
        }
        for (const auto& [platform, ref] : parts) TRY(build(ref, stop));
        Activity activity(progress_, engine_.clock_, "checking the size of the result");
        ExportAnswer unused;
        const BeforePush nothing;
        Exporting exporting{result, spec, options, activity, stop, unused, nothing};
        for (const auto& [platform, ref] : parts) {
            const auto checked = check_size(exporting, platform, ref);
            if (checked) continue;
            activity.fail(checked.error());
            return checked.error();
        }
        activity.done();
    }
    return {};
}

Result<> LocalJob::expect_failure(const std::vector<ExportSpec>& exports) {
    on_failure_.clear();
    for (const auto& spec : exports) {
        if (spec.attrs.contains("on-failure")) on_failure_.push_back(TRY(failure_export_of(spec)));
    }
    if (!on_failure_.empty()) workshop_->want_failed_step();
    return {};
}

void LocalJob::export_failed_files(Error& error, const Stop& stop) {
    const auto failed = workshop_->failed_step();
    if (!failed) return;
    for (const auto& wanted : on_failure_) {
        const auto done = export_failure(failed->files, failed->name, wanted, stop);
        // The step's own error is what counts.
        if (!done) error = error.with_hint(fmt::format("files of the failed step: {}", done.error().to_string()));
    }
}

Result<ExportAnswer> LocalJob::export_result(const FrontendResult& result, const std::vector<ExportSpec>& all,
                                             const std::vector<std::string>& tags, Stop stop) {
    ExportAnswer answer;
    std::vector<ExportSpec> exports = all;
    std::erase_if(exports, [](const auto& spec) { return spec.attrs.contains("on-failure"); });
    TRY(check_sizes(result, exports, tags, stop));
    CacheWriting caches(*this, result, stop);
    const auto begin_caches = [&] { caches.begin(); };
    for (const auto& spec : exports) TRY(export_one(result, spec, tags, answer, begin_caches, stop));
    if (exports.empty()) {
        if (result.single) {
            TRY(build(result.ref, stop));
        } else {
            for (const auto& [platform, ref] : result.refs) TRY(build(ref, stop));
        }
    }
    TRY(caches.finish(answer));
    if (options_.keep_provenance) TRY(keep_provenance(result, answer));
    return answer;
}

Result<LocalJob::FailureExport> LocalJob::failure_export_of(const ExportSpec& spec) {
    FailureExport wanted{.source = "/", .dest = spec.dest, .client_exporter = spec.client_exporter};
    for (const auto& [key, value] : spec.attrs) {
        if (key == "on-failure") {
            if (value != "true") return bad_input("on-failure={}: want true", quoted(value));
        } else if (key == "src") {
            wanted.source = value;
        } else if (key == "dest") {
            wanted.dest = value;
        } else if (key != "source-date-epoch") {
            return bad_input("unknown output attribute {} beside on-failure", quoted(key))
                .with_hint("attributes: dest, src");
        }
    }
    if (spec.type != "local") return bad_input("on-failure is for type=local, not for type={}", spec.type);
    if (!wanted.source.starts_with('/')) wanted.source = "/" + wanted.source;
    if (wanted.client_exporter < 0 && wanted.dest.empty()) return bad_input("on-failure needs dest=DIRECTORY");
    return wanted;
}

Result<> LocalJob::export_failure(const store::Chain& files, const std::string& step, const FailureExport& wanted,
                                  const Stop& stop) {
    Activity activity(progress_, engine_.clock_, "exporting " + wanted.source + " of the failed " + step);
    const auto write = [&]() -> Result<> {
        const auto tree = TRY(workshop_->trees().tree(ops::make_result(files), activity.progress(), stop));
        if (!TRY(tree->find(wanted.source, snapshot::FollowLast::yes)))
            return fail(Code::not_found, Blame::user, "{} is not there", wanted.source);
        store::LayerDraft draft = TRY(workshop_->store().begin_layer());
        const auto builder = TRY(snapshot::LayerBuilder::create({}, TRY(draft.open())));
        layer::CopyOptions copy;
        copy.source = wanted.source;
        copy.destination = "/";
        copy.dir_copy_contents = true;
        copy.follow_symlink = true;
        TRY(layer::copy(tree, *builder, copy, stop));
        TRY(builder->finish());
        std::vector<snapshot::LayerDir> layers;
        layers.push_back({0, TRY(draft.open())});
        const auto part = TRY(snapshot::ChainView::create(std::move(layers), snapshot::ChainView::TopLayer::in_work));
        if (wanted.client_exporter >= 0)
            return session().export_directory(wanted.client_exporter, {{std::string(), part}}, {}, activity.progress(),
                                              stop);
        TRY(exporter::export_local(*part, TRY(make_directory(wanted.dest)), {}, activity.progress(), stop));
        return {};
    };
    auto done = write();
    if (done) {
        activity.done();
    } else {
        activity.fail(done.error());
    }
    return done;
}

}  // namespace cooper::engine
