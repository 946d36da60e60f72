// ImageSource: names to pinned manifests and chains of lazy layers.
#include "source/image.hpp"

#include "base/text.hpp"
#include "codec/go_json.hpp"
#include "codec/sha256.hpp"
#include "oci/media_type.hpp"
#include "registry/registry.hpp"

#include <algorithm>

namespace cooper::source {
namespace {

constexpr int kMaxIndexDepth = 4;

std::string fact_key(const oci::Reference& reference) { return "image:" + reference.canonical(); }

std::string known_platforms(const oci::Index& index) {
    std::vector<std::string> names;
    for (const oci::Descriptor& entry : index.manifests) {
        if (entry.platform && entry.platform->os != "unknown") names.push_back(oci::format_platform(*entry.platform));
    }
    return names.empty() ? "none" : join(names, ", ");
}

void tell(VertexProgress* progress, const std::string& id, std::uint64_t current, std::uint64_t total, bool done) {
    if (progress) {
        progress->status(id, id, static_cast<std::int64_t>(current), static_cast<std::int64_t>(total), done);
    }
}

std::vector<oci::Descriptor> layers_of(const ResolvedImage& image, const ImageRequest& request) {
    std::vector<oci::Descriptor> layers = image.content.layers;
    if (request.layer_limit) layers.resize(*request.layer_limit);
    return layers;
}

Result<> check_layers(const ResolvedImage& image, const ImageRequest& request) {
    const std::string name = request.reference.familiar();
    if (image.content.layers.size() != image.config.diff_ids.size()) {
        return bad_input("image {} is damaged: its manifest has {} layers, its config {}", name,
                         image.content.layers.size(), image.config.diff_ids.size());
    }
    if (request.layer_limit && *request.layer_limit > image.content.layers.size()) {
        return bad_input("image {} has {} layers, fewer than the {} asked for", name, image.content.layers.size(),
                         *request.layer_limit);
    }
    for (const oci::Descriptor& layer : image.content.layers) {
        if (!oci::is_layer(layer.media_type)) {
            return bad_input("image {}: {} is no file-system layer we can unpack", name,
                             cooper::quoted(layer.media_type));
        }
    }
    return {};
}

Result<> check_size(const ImageRequest& request, const oci::Descriptor& wanted, const std::string& bytes) {
    if (bytes.size() == wanted.size) return {};
    return bad_input("image {}: {} has {} bytes, and what names it says {}", request.reference.familiar(),
                     wanted.digest.to_string(), bytes.size(), wanted.size);
}

}  // namespace

Result<oci::Descriptor> RegistryOrigin::resolve(const oci::Reference& reference, const Stop& stop) {
    return registry_.resolve(reference, stop);
}
Result<std::string> RegistryOrigin::fetch_manifest(const oci::Reference& reference, const Digest& digest,
                                                   const Stop& stop) {
    return registry_.fetch_manifest(reference, digest, stop);
}
Result<std::unique_ptr<ByteSource>> RegistryOrigin::fetch_blob(const oci::Reference& reference,
                                                               const oci::Descriptor& blob, std::uint64_t offset,
                                                               const Stop& stop) {
    return registry_.fetch_blob(reference, blob, offset, stop);
}

bool ImageSource::is_stale(const oci::Reference& reference, Timestamp then) const {
    if (!tag_max_age_ || !reference.digest().empty()) return false;
    return SystemClock().now() - then > *tag_max_age_;
}

// What the name means, from the cheapest place that knows.
Result<ImageSource::Pinned> ImageSource::pin(const ImageRequest& request, VertexProgress* progress, const Stop& stop) {
    const oci::Reference& reference = request.reference;
    const std::string id = "resolve " + reference.canonical();
    tell(progress, id, 0, 0, false);
    std::optional<oci::Descriptor> stale;
    const bool may_remember = request.mode != ImageResolve::pull || !reference.digest().empty();
    if (may_remember) {
        const oci::Reference tagged = reference.tag().empty() ? reference : reference.without_digest();
        if (const auto image = TRY(store_.find_image(tagged.canonical()))) {
            if (reference.digest().empty() || image->target.digest == reference.digest()) {
                tell(progress, id, 0, 0, true);
                return Pinned{.target = image->target, .remembered = true};
            }
        }
        if (const auto fact = TRY(store_.fact(fact_key(reference)))) {
            if (auto remembered = oci::parse_descriptor(fact->value)) {
                if (!is_stale(reference, fact->time)) {
                    tell(progress, id, 0, 0, true);
                    return Pinned{.target = std::move(*remembered), .remembered = true};
                }
                stale = std::move(*remembered);
            }
        }
        // A digest is its own answer when the bytes are here.
        if (!reference.digest().empty()) {
            if (const auto bytes = store_.read_blob(reference.digest(), oci::kMaxManifestBytes)) {
                oci::Descriptor here{.media_type = TRY(oci::sniff_media_type(*bytes)),
                                     .digest = reference.digest(),
                                     .size = bytes->size()};
                tell(progress, id, 0, 0, true);
                return Pinned{.target = std::move(here), .remembered = true};
            }
        }
    }
    auto asked = origin_.resolve(reference, stop);
    if (!asked && stale && !asked.error().is_cancelled() && asked.error().code() != Code::not_found) {
        tell(progress, id, 0, 0, true);
        return Pinned{.target = std::move(*stale), .remembered = true};
    }
    oci::Descriptor target = TRY(std::move(asked));
    TRY(store_.set_fact(fact_key(reference), oci::marshal_descriptor(target)));
    tell(progress, id, 0, 0, true);
    return Pinned{.target = std::move(target)};
}

Result<ResolvedImage> ImageSource::resolve(const ImageRequest& request, VertexProgress* progress, const Stop& stop) {
    Pinned pinned = TRY(pin(request, progress, stop));
    auto image = describe(origin_, request, std::move(pinned.target), progress, stop);
    const bool vanished = !image && image.error().code() == Code::not_found;
    if (!vanished || !pinned.remembered || !request.reference.digest().empty()) return image;
    // What the tag meant once was pruned here and is gone there: see what it means now.
    ImageRequest afresh = request;
    afresh.mode = ImageResolve::pull;
    pinned = TRY(pin(afresh, progress, stop));
    return describe(origin_, request, std::move(pinned.target), progress, stop);
}

Result<ResolvedImage> ImageSource::import(const ImageRequest& request, ImageOrigin& from, VertexProgress* progress,
                                          const Stop& stop) {
    oci::Descriptor target = TRY(from.resolve(request.reference, stop));
    ResolvedImage image = TRY(describe(from, request, std::move(target), progress, stop));
    const std::vector<oci::Descriptor> layers = layers_of(image, request);
    for (std::size_t i = 0; i < layers.size(); ++i) {
        if (const auto known = TRY(store_.find_layer(image.config.diff_ids[i]))) {
            if (TRY(store_.layer(*known)).on_disk) continue;
        }
        TRY(fetch_into_store(from, request.reference, layers[i], progress, stop));
    }
    return image;
}

Result<ResolvedImage> ImageSource::look_at(const ImageRequest& request, ImageOrigin& from, const Stop& stop) {
    return describe(from, request, TRY(from.resolve(request.reference, stop)), nullptr, stop);
}

Result<std::string> ImageSource::manifest_bytes(ImageOrigin& origin, const ImageRequest& request,
                                                const oci::Descriptor& wanted, VertexProgress* progress,
                                                const Stop& stop) {
    if (auto here = store_.read_blob(wanted.digest, oci::kMaxManifestBytes)) return std::move(*here);
    std::string bytes = TRY(origin.fetch_manifest(request.reference, wanted.digest, stop));
    TRY(store_.put_blob(bytes, wanted.media_type));
    tell(progress, wanted.digest.to_string(), bytes.size(), bytes.size(), true);
    return bytes;
}

Result<std::string> ImageSource::config_bytes(ImageOrigin& origin, const ImageRequest& request,
                                              const oci::Descriptor& wanted, VertexProgress* progress,
                                              const Stop& stop) {
    if (auto here = store_.read_blob(wanted.digest, oci::kMaxImageConfigBytes)) {
        TRY(check_size(request, wanted, *here));
        return std::move(*here);
    }
    if (wanted.size > oci::kMaxImageConfigBytes) {
        return bad_input("the config of {} is {} bytes, more than the {} allowed", request.reference.familiar(),
                         wanted.size, oci::kMaxImageConfigBytes);
    }
    const auto source = TRY(origin.fetch_blob(request.reference, wanted, 0, stop));
    codec::VerifyingSource verified(*source, wanted.digest, wanted.size);
    std::string bytes =
        TRY_CONTEXT(read_all(verified, oci::kMaxImageConfigBytes), "config of {}", request.reference.familiar());
    TRY(store_.put_blob(bytes, wanted.media_type));
    tell(progress, wanted.digest.to_string(), bytes.size(), bytes.size(), true);
    return bytes;
}

Result<ResolvedImage> ImageSource::describe(ImageOrigin& origin, const ImageRequest& request, oci::Descriptor target,
                                            VertexProgress* progress, const Stop& stop) {
    const std::string name = request.reference.familiar();
    if (request.checksum && *request.checksum != target.digest) {
        return bad_input("image {} has the digest {}, not {} as required", name, target.digest.to_string(),
                         request.checksum->to_string());
    }
    ResolvedImage image{.reference = request.reference, .target = target, .manifest = target};
    for (int depth = 0;; ++depth) {
        const std::string bytes = TRY(manifest_bytes(origin, request, image.manifest, progress, stop));
        // What a name means may come without a size; what an index says does not.
        if (depth > 0) TRY(check_size(request, image.manifest, bytes));
        const std::string type = TRY_CONTEXT(oci::sniff_media_type(bytes), "image {}", name);
        if (!oci::is_index(type)) {
            image.content = TRY_CONTEXT(oci::parse_manifest(bytes, image.manifest.media_type), "image {}", name);
            break;
        }
        if (depth == kMaxIndexDepth) return bad_input("image {}: indexes nest too deep", name);
        const oci::Index index = TRY_CONTEXT(oci::parse_index(bytes, image.manifest.media_type), "image {}", name);
        const std::vector<oci::Descriptor> fitting = oci::select_platform(index, request.platform);
        if (fitting.empty()) {
            return fail(Code::not_found, Blame::user, "image {} has nothing for {}", name,
                        oci::format_platform(request.platform))
                .with_hint("it has: " + known_platforms(index));
        }
        image.manifest = fitting.front();
    }
    image.config_json = TRY(config_bytes(origin, request, image.content.config, progress, stop));
    image.config = TRY_CONTEXT(oci::parse_image_config(image.config_json), "image {}", name);
    TRY(check_layers(image, request));
    return image;
}

Result<store::Chain> ImageSource::chain(const ResolvedImage& image, const ImageRequest& request) {
    store::Chain chain;
    const std::vector<oci::Descriptor> layers = layers_of(image, request);
    // The digest pins it: a moved tag does not matter any more.
    const std::string from = request.reference.with_digest(image.target.digest).canonical();
    for (std::size_t i = 0; i < layers.size(); ++i) {
        chain.layers.push_back(TRY(
            store_.add_lazy_layer(image.config.diff_ids[i], store::LazyLayer{.blob = layers[i], .reference = from})));
    }
    if (!TRY(store_.hold(chain))) {
        return fail(Code::aborted, Blame::world, "layers of {} were removed by a prune at the same moment",
                    request.reference.familiar())
            .with_hint("try again");
    }
    return chain;
}

Digest image_manifest_key(const ResolvedImage& image, const ImageRequest& request) {
    const oci::Platform platform = oci::normalize(request.platform);
    codec::GoJson json;
    json.begin_object();
    json.field("Digest", image.target.digest.to_string());
    json.field("OS", platform.os);
    json.field("Arch", platform.architecture);
    if (!platform.variant.empty()) json.field("Variant", platform.variant);
    if (!platform.os_version.empty()) json.field("OSVersion", platform.os_version);
    if (!platform.os_features.empty()) json.key("OSFeatures").strings(platform.os_features);
    if (request.layer_limit) json.key("Limit").unsigned_integer(*request.layer_limit);
    json.end_object();
    return codec::sha256_of(json.text());
}

Digest image_config_key(const ResolvedImage& image, const ImageRequest& request) {
    if (image.config.rootfs_type != "layers") return {};
    std::vector<Digest> diff_ids = image.config.diff_ids;
    if (request.layer_limit && *request.layer_limit < diff_ids.size()) diff_ids.resize(*request.layer_limit);
    return oci::chain_id(diff_ids);
}

Result<ImageRequest> image_request(const std::string& reference, const oci::Platform& platform,
                                   const std::map<std::string, std::string>& attributes) {
    ImageRequest request{.reference = TRY(oci::Reference::parse_canonical(reference)),
                         .platform = oci::normalize(platform)};
    for (const auto& [name, value] : attributes) {
        if (name == "image.resolvemode") {
            if (value == "pull") {
                request.mode = ImageResolve::pull;
            } else if (value == "local") {
                request.mode = ImageResolve::local;
            } else if (value != "default" && !value.empty()) {
                return bad_input("image.resolvemode {} is none of default, pull, local", cooper::quoted(value));
            }
        } else if (name == "image.checksum") {
            request.checksum = TRY_CONTEXT(Digest::parse(value), "image.checksum");
        } else if (name == "image.layerlimit") {
            const auto limit = parse_int(value);
            if (!limit || *limit <= 0)
                return bad_input("image.layerlimit {} is not a positive number", cooper::quoted(value));
            request.layer_limit = static_cast<std::size_t>(*limit);
        } else if (name == "image.recordtype") {
            if (value != "internal" && value != "frontend" && value != "regular") {
                return bad_input("image.recordtype {} is none of internal, frontend, regular", cooper::quoted(value));
            }
        }
    }
    return request;
}

}  // namespace cooper::source
