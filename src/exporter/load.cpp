#include "exporter/load.hpp"

#include "base/text.hpp"
#include "base/work_pool.hpp"
#include "codec/compression.hpp"
#include "codec/tar.hpp"
#include "exporter/detail/layer_stream.hpp"
#include "oci/image_config.hpp"
#include "oci/json_text.hpp"
#include "oci/manifest.hpp"
#include "oci/media_type.hpp"
#include "oci/reference.hpp"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

namespace cooper::exporter {

namespace {

constexpr std::size_t kMaxTextBytes = 4 << 20;
constexpr std::size_t kMaxImages = 1000;
constexpr std::size_t kMaxLayers = 1000;
constexpr int kMaxIndexDepth = 3;
constexpr int kMaxLinks = 8;
constexpr std::size_t kVerifyThreads = 2;

Error broken(std::string text) { return bad_input("image archive: {}", text); }

// A member as it went into the store.
struct Stored {
    Digest digest;
    std::uint64_t size = 0;
    codec::Compression compression = codec::Compression::none;
};

// Clean and relative; nullopt for what leads out.
std::optional<std::string> clean_path(std::string_view path) {
    std::vector<std::string> parts;
    for (auto& part : split(path, '/')) {
        if (part.empty() || part == ".") continue;
        if (part == "..") {
            if (parts.empty()) return std::nullopt;
            parts.pop_back();
        } else {
            parts.push_back(std::move(part));
        }
    }
    return join(parts, "/");
}

bool is_text(const std::string& path) {
    return path == "index.json" || path == "manifest.json" || path == "oci-layout" || path == "repositories";
}

// What is in the archive, by clean path: names only, never opened as files.
struct Contents {
    std::map<std::string, std::string> texts;
    std::map<std::string, Stored> files;
    std::map<std::string, std::string> links;  // old docker save links layers it has written already
    std::set<Digest> digests;

    [[nodiscard]] Result<Stored> find(std::string_view path) const {
        auto at = clean_path(path);
        for (int i = 0; at && i < kMaxLinks; ++i) {
            if (const auto file = files.find(*at); file != files.end()) return file->second;
            const auto link = links.find(*at);
            if (link == links.end()) break;
            at = link->second;
        }
        return broken(fmt::format("{} is missing", cooper::quoted(path)));
    }
};

class Loader {
public:
    Loader(store::Store& store, const oci::Platform& platform, const LoadLimits& limits, VertexProgress& progress,
           const Stop& stop)
        : store_(store), platform_(platform), limits_(limits), progress_(progress), stop_(stop) {}

    Result<> read(ByteSource& source) {
        codec::TarReader tar(source, codec::TarLimits{.max_entries = limits_.max_members});
        std::uint64_t left = limits_.max_bytes;
        while (const codec::TarHeader* header = TRY(tar.next())) {
            TRY(check_stop(stop_));
            const auto path = clean_path(header->name);
            if (!path || path->empty()) continue;
            if (header->type == codec::TarType::symlink || header->type == codec::TarType::hard_link) {
                read_link(*header, *path);
                continue;
            }
            if (header->type != codec::TarType::file) continue;
            if (header->size > left) return broken("it is larger than it may be");
            left -= header->size;
            TRY_CONTEXT(read_file(tar, *header, *path), "image archive: {}", cooper::quoted(*path));
        }
        return {};
    }

    Result<std::vector<LoadedImage>> images() {
        std::vector<LoadedImage> loaded;
        if (const auto index = contents_.texts.find("index.json"); index != contents_.texts.end()) {
            loaded = TRY(from_index(index->second));
            TRY(add_docker_names(loaded));
        } else if (const auto list = contents_.texts.find("manifest.json"); list != contents_.texts.end()) {
            loaded = TRY(from_docker(list->second));
        } else if (contents_.texts.contains("repositories")) {
            return Error(broken("it was written by a docker older than 1.10"))
                .with_hint("save it anew with a current docker");
        } else {
            return Error(broken("neither index.json nor manifest.json is in it"))
                .with_hint("archives of `docker save`, `podman save`, `cooper save` and OCI layouts can be loaded");
        }
        if (loaded.empty()) return broken(fmt::format("no image for {} is in it", oci::format_platform(platform_)));
        return loaded;
    }

private:
    void read_link(const codec::TarHeader& header, const std::string& path) {
        std::string target = header.linkname;
        if (header.type == codec::TarType::symlink) {
            const auto slash = path.rfind('/');
            if (slash != std::string::npos) target = path.substr(0, slash + 1) + target;
        }
        if (const auto clean = clean_path(target)) contents_.links[path] = *clean;
    }

    Result<> read_file(codec::TarReader& tar, const codec::TarHeader& header, const std::string& path) {
        if (is_text(path)) {
            if (header.size > kMaxTextBytes) return bad_input("larger than {} bytes", kMaxTextBytes);
            std::string text(header.size, '\0');
            std::size_t at = 0;
            while (at < text.size()) {
                const std::size_t n = TRY(tar.read(std::as_writable_bytes(std::span(text)).subspan(at)));
                if (n == 0) return bad_input("the archive ends within it");
                at += n;
            }
            contents_.texts[path] = std::move(text);
            return {};
        }
        const std::optional<Digest> expected = TRY(digest_of_path(path));
        progress_.status("loading " + path, "loading " + path, 0, static_cast<std::int64_t>(header.size), false);
        Stored stored;
        Bytes head;
        if (header.sparse) return bad_input("members of image archives cannot be sparse");
        store::Ingest ingest = TRY(store_.begin_blob());
        while (true) {
            TRY(check_stop(stop_));
            const auto data = TRY(tar.chunk());
            if (data.empty()) break;
            if (head.size() < codec::kDetectBytes) {
                const std::size_t n = std::min(data.size(), codec::kDetectBytes - head.size());
                head.insert(head.end(), data.begin(), data.begin() + static_cast<std::ptrdiff_t>(n));
            }
            TRY(ingest.write(data));
        }
        const oci::Descriptor blob = TRY(std::move(ingest).commit(expected));
        stored.digest = blob.digest;
        stored.size = blob.size;
        stored.compression = codec::detect_compression(head);
        contents_.digests.insert(stored.digest);
        contents_.files[path] = stored;
        progress_.status("loading " + path, "loading " + path, static_cast<std::int64_t>(header.size),
                         static_cast<std::int64_t>(header.size), true);
        return {};
    }

    static Result<std::optional<Digest>> digest_of_path(const std::string& path) {
        constexpr std::string_view kBlobs = "blobs/sha256/";
        if (!path.starts_with(kBlobs)) return std::optional<Digest>{};
        return std::optional<Digest>(TRY(Digest::parse("sha256:" + path.substr(kBlobs.size()))));
    }

    // A blob that came with this archive; others of the store are not this archive's to name.
    Result<std::string> text_of(const Digest& digest, std::size_t limit_bytes) {
        if (!contents_.digests.contains(digest)) return broken(fmt::format("blob {} is missing", digest.to_string()));
        return store_.read_blob(digest, limit_bytes);
    }

    // A blob that is not as long as whatever names it says, is another one.
    Result<std::string> text_of(const oci::Descriptor& blob, std::size_t limit_bytes) {
        std::string text = TRY(text_of(blob.digest, limit_bytes));
        if (text.size() == blob.size) return text;
        return broken(
            fmt::format("{} has {} bytes, and what names it says {}", blob.digest.to_string(), text.size(), blob.size));
    }

    Result<std::vector<LoadedImage>> from_index(const std::string& text) {
        const oci::Index index = TRY_CONTEXT(oci::parse_index(text, ""), "image archive: index.json");
        std::vector<LoadedImage> loaded;
        for (const auto& entry : index.manifests) {
            auto image = TRY(from_descriptor(entry, 0));
            if (!image) continue;
            const std::vector<std::string> names = names_of(entry.annotations);
            const auto same = std::ranges::find_if(
                loaded, [&](const LoadedImage& other) { return other.record.target.digest == entry.digest; });
            LoadedImage& target = same != loaded.end() ? *same : loaded.emplace_back(std::move(*image));
            add_names(target, names);
            if (loaded.size() > kMaxImages) return broken("it has too many images");
        }
        return loaded;
    }

    // nullopt: nothing for this machine.
    Result<std::optional<LoadedImage>> from_descriptor(const oci::Descriptor& entry, int depth) {
        if (depth > kMaxIndexDepth) return broken("indexes are nested too deeply");
        if (!contents_.digests.contains(entry.digest)) {
            // The index of a pulled image names the images for other machines as well.
            if (depth > 0) return std::optional<LoadedImage>{};
            return broken(fmt::format("blob {} is missing", entry.digest.to_string()));
        }
        const std::string bytes = TRY(text_of(entry, oci::kMaxManifestBytes));
        const std::string media_type =
            TRY_CONTEXT(oci::sniff_media_type(bytes), "image archive: {}", entry.digest.to_string());
        if (!oci::is_index(media_type)) return TRY(from_manifest(entry, bytes, media_type));
        const oci::Index index = TRY(oci::parse_index(bytes, media_type));
        // Those for this machine, best first; then the others.
        std::vector<oci::Descriptor> children = oci::select_platform(index, platform_);
        for (const auto& child : index.manifests) {
            const bool known = std::ranges::find(children, child) != children.end();
            if (!known && child.platform && child.platform->os != "unknown") children.push_back(child);
        }
        for (const auto& child : children) {
            auto image = TRY(from_descriptor(child, depth + 1));
            if (!image) continue;
            TRY(add_others(*image, index, child.digest));
            image->blobs.push_back(entry.digest);
            image->record.target = bare(entry, media_type, bytes.size());
            return image;
        }
        return std::optional<LoadedImage>{};
    }

    // The images for other machines that came along.
    Result<> add_others(LoadedImage& main, const oci::Index& index, const Digest& main_manifest) {
        std::set<Digest> seen{main_manifest};
        for (const auto& child : index.manifests) {
            if (!child.platform || child.platform->os == "unknown" || !seen.insert(child.digest).second) continue;
            if (!contents_.digests.contains(child.digest)) continue;
            if (seen.size() > kMaxImages) return broken("it has too many images");
            const std::string bytes = TRY(text_of(child, oci::kMaxManifestBytes));
            const std::string media_type =
                TRY_CONTEXT(oci::sniff_media_type(bytes), "image archive: {}", child.digest.to_string());
            if (oci::is_index(media_type)) continue;
            auto image = TRY(from_manifest(child, bytes, media_type));
            if (!image) continue;
            main.record.others.push_back(std::move(image->record.chain));
            main.blobs.insert(main.blobs.end(), image->blobs.begin(), image->blobs.end());
        }
        return {};
    }

    static oci::Descriptor bare(const oci::Descriptor& entry, const std::string& media_type, std::size_t size) {
        oci::Descriptor descriptor;
        descriptor.media_type = media_type;
        descriptor.digest = entry.digest;
        descriptor.size = size;
        return descriptor;
    }

    Result<std::optional<LoadedImage>> from_manifest(const oci::Descriptor& entry, const std::string& bytes,
                                                     const std::string& media_type) {
        const oci::Manifest manifest =
            TRY_CONTEXT(oci::parse_manifest(bytes, media_type), "image archive: {}", entry.digest.to_string());
        // Attestations and other artefacts are no images.
        if (!oci::is_config(manifest.config.media_type)) return std::optional<LoadedImage>{};
        const std::string config = TRY(text_of(manifest.config, oci::kMaxImageConfigBytes));
        LoadedImage image;
        image.record.target = bare(entry, media_type, bytes.size());
        TRY(add_layers(image, manifest.config.digest, config, manifest.layers));
        return std::optional<LoadedImage>(std::move(image));
    }

    Result<> add_layers(LoadedImage& image, const Digest& config_digest, const std::string& config_bytes,
                        const std::vector<oci::Descriptor>& layers) {
        const oci::ImageConfig config =
            TRY_CONTEXT(oci::parse_image_config(config_bytes), "image archive: config {}", config_digest.to_string());
        if (config.diff_ids.size() != layers.size()) {
            return broken(fmt::format("image {} has {} layers, but its config names {}", config_digest.short_hex(),
                                      layers.size(), config.diff_ids.size()));
        }
        if (layers.size() > kMaxLayers) return broken("an image has too many layers");
        for (const auto& layer : layers) {
            if (!contents_.digests.contains(layer.digest)) {
                return broken(fmt::format("layer {} is missing", layer.digest.to_string()));
            }
        }
        TRY(parallel_for(layers.size(), kVerifyThreads,
                         [&](std::size_t i) { return check_layer(layers[i], config.diff_ids[i]); }));
        for (std::size_t i = 0; i < layers.size(); ++i) {
            const store::LayerId id =
                TRY(store_.add_lazy_layer(config.diff_ids[i], store::LazyLayer{.blob = layers[i], .reference = {}}));
            // Names the blob, so that it lives as long as the layer.
            TRY(store_.add_layer_blob(
                id, {.compression = std::string(packing_name(layers[i].media_type)), .blob = layers[i]}));
            image.record.chain.layers.push_back(id);
        }
        image.record.config = config_digest;
        image.blobs.push_back(image.record.target.digest);
        image.blobs.push_back(config_digest);
        return {};
    }

    static std::string_view packing_name(std::string_view media_type) {
        switch (oci::packing_of(media_type)) {
            case oci::Packing::none:
                return "none";
            case oci::Packing::gzip:
                return "gzip";
            case oci::Packing::zstd:
                return "zstd";
        }
        UNREACHABLE();
    }

    // A blob must be what the config says it is before it may stand for the layer of that diff id: that layer may
    // belong to other images as well.
    Result<> check_layer(const oci::Descriptor& layer, const Digest& diff_id) {
        const auto size = TRY(store_.blob_size(layer.digest));
        if (!size || *size != layer.size) {
            return broken(fmt::format("layer {} has another size than its manifest says", layer.digest.to_string()));
        }
        if (layer.digest == diff_id && oci::packing_of(layer.media_type) == oci::Packing::none) return {};
        auto file = std::make_unique<sys::FdSource>(TRY(store_.open_blob(layer.digest)));
        const auto plain = TRY_CONTEXT(codec::decompress_any(std::move(file)), "layer {}", layer.digest.to_string());
        if (packing_name(layer.media_type) != store_name(plain.compression)) {
            return broken(fmt::format("layer {} is {}, which its media type {} does not say", layer.digest.to_string(),
                                      codec::compression_name(plain.compression), cooper::quoted(layer.media_type)));
        }
        codec::DigestingSource hashing(*plain.source);
        detail::NullSink nowhere;
        TRY_CONTEXT(detail::copy_stream(hashing, nowhere, stop_), "layer {}", layer.digest.to_string());
        if (const Digest actual = hashing.digest(); actual != diff_id) {
            return fail(Code::data_loss, Blame::user, "image archive: layer {} contains {}, but its image says {}",
                        layer.digest.to_string(), actual.to_string(), diff_id.to_string());
        }
        return {};
    }

    static std::string_view store_name(codec::Compression compression) {
        return compression == codec::Compression::none ? "none" : codec::compression_name(compression);
    }

    static std::vector<std::string> names_of(const oci::Annotations& annotations) {
        if (const auto name = annotations.find("io.containerd.image.name"); name != annotations.end()) {
            return {name->second};
        }
        const auto name = annotations.find("org.opencontainers.image.ref.name");
        // A bare tag says nothing about the repository.
        if (name == annotations.end() || name->second.find_first_of(":/") == std::string::npos) return {};
        return {name->second};
    }

    // Names that are none are left out: they were never ours to refuse an image for.
    static void add_names(LoadedImage& image, const std::vector<std::string>& names) {
        for (const auto& name : names) {
            const auto reference = oci::Reference::parse_normalized(name);
            if (!reference || reference->tag().empty()) continue;
            std::string canonical = reference->without_digest().canonical();
            if (std::ranges::find(image.names, canonical) == image.names.end())
                image.names.push_back(std::move(canonical));
        }
    }

    struct DockerImage {
        std::string config;
        std::vector<std::string> tags;
        std::vector<std::string> layers;
    };

    static Result<std::vector<DockerImage>> parse_docker(const std::string& text) {
        TRY(oci::check_json_bounds(text, kMaxTextBytes, "manifest.json"));
        const auto list = nlohmann::json::parse(text, nullptr, false);
        if (!list.is_array() || list.size() > kMaxImages) return broken("manifest.json is no list of images");
        std::vector<DockerImage> images;
        for (const auto& item : list) {
            const auto texts = [&](const char* key, std::vector<std::string>& out) {
                const auto found = item.find(key);
                if (found == item.end() || found->is_null()) return true;
                if (!found->is_array()) return false;
                for (const auto& one : *found) {
                    if (!one.is_string()) return false;
                    out.push_back(one.get<std::string>());
                }
                return true;
            };
            DockerImage image;
            if (!item.is_object() || !item.contains("Config") || !item["Config"].is_string() ||
                !texts("RepoTags", image.tags) || !texts("Layers", image.layers)) {
                return broken("manifest.json is no list of images");
            }
            image.config = item["Config"].get<std::string>();
            images.push_back(std::move(image));
        }
        return images;
    }

    Result<std::vector<LoadedImage>> from_docker(const std::string& text) {
        std::vector<LoadedImage> loaded;
        for (const auto& docker : TRY(parse_docker(text))) {
            const Stored config = TRY(contents_.find(docker.config));
            oci::Manifest manifest;
            manifest.media_type = oci::kOciManifest;
            manifest.config.media_type = oci::kOciConfig;
            manifest.config.digest = config.digest;
            manifest.config.size = config.size;
            for (const auto& path : docker.layers) {
                const Stored layer = TRY(contents_.find(path));
                oci::Descriptor descriptor;
                descriptor.digest = layer.digest;
                descriptor.size = layer.size;
                descriptor.media_type = layer.compression == codec::Compression::gzip   ? oci::kOciLayerGzip
                                        : layer.compression == codec::Compression::zstd ? oci::kOciLayerZstd
                                                                                        : oci::kOciLayer;
                manifest.layers.push_back(std::move(descriptor));
            }
            const std::string bytes = oci::marshal_manifest(manifest);
            LoadedImage image;
            image.record.target = TRY(store_.put_blob(bytes, manifest.media_type));
            const std::string config_bytes = TRY(text_of(config.digest, oci::kMaxImageConfigBytes));
            TRY(add_layers(image, config.digest, config_bytes, manifest.layers));
            add_names(image, docker.tags);
            loaded.push_back(std::move(image));
        }
        return loaded;
    }

    // An archive with both forms may have its names in the docker one only.
    Result<> add_docker_names(std::vector<LoadedImage>& loaded) {
        const auto list = contents_.texts.find("manifest.json");
        if (list == contents_.texts.end()) return {};
        for (const auto& docker : TRY(parse_docker(list->second))) {
            const auto config = contents_.find(docker.config);
            if (!config) continue;
            for (auto& image : loaded) {
                if (image.record.config == config->digest) add_names(image, docker.tags);
            }
        }
        return {};
    }

    store::Store& store_;
    const oci::Platform& platform_;
    const LoadLimits& limits_;
    VertexProgress& progress_;
    const Stop& stop_;
    Contents contents_;
};

}  // namespace

Result<std::vector<LoadedImage>> load_archive(store::Store& store, std::unique_ptr<ByteSource> source,
                                              const oci::Platform& platform, const LoadLimits& limits,
                                              VertexProgress& progress, const Stop& stop) {
    const auto plain = TRY_CONTEXT(codec::decompress_any(std::move(source)), "image archive");
    Loader loader(store, platform, limits, progress, stop);
    TRY(loader.read(*plain.source));
    return loader.images();
}

}  // namespace cooper::exporter
