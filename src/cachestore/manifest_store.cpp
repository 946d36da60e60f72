#include "cachestore/manifest_store.hpp"

#include "base/text.hpp"
#include "codec/base64.hpp"
#include "codec/sha256.hpp"
#include "oci/image_config.hpp"
#include "oci/manifest.hpp"
#include "oci/media_type.hpp"

#include <nlohmann/json.hpp>
#include <optional>

namespace cooper::cachestore {

namespace {

constexpr int kMaxIndexDepth = 4;
constexpr std::size_t kMaxIndexEntries = 200;
constexpr std::size_t kMaxEmbedded = 256u << 10;

// Of an image configuration: base64 of the records, as Go writes bytes.
Result<std::string> inline_records(const oci::ImageConfig& config) {
    const auto found = config.other.find(std::string(kInlineField));
    if (found == config.other.end()) return std::string();
    const auto text = nlohmann::json::parse(found->second, nullptr, false);
    if (!text.is_string()) return std::string();
    return codec::base64_decode(text.get<std::string>());
}

// The text that stands in its descriptor (image-spec descriptor.md, "data"), when it does and is right.
std::optional<std::string> embedded(const oci::Descriptor& text) {
    if (text.data.empty() || text.size > kMaxEmbedded) return std::nullopt;
    auto bytes = codec::base64_decode(text.data);
    if (!bytes || bytes->size() != text.size || codec::sha256_of(*bytes) != text.digest) return std::nullopt;
    return std::move(*bytes);
}

// BuildKit's cache, or one of ours that stands beside it.
bool is_cache_text(const std::string& media_type) {
    return media_type == kCacheConfigType || media_type.starts_with("application/vnd.cooper.");
}

}  // namespace

Result<> check_index_name(std::string_view name) {
    const auto is_word = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
    bool fits = name.size() <= kMaxNameBytes && (name.empty() || is_word(name.front()));
    for (const char c : name) fits = fits && (is_word(c) || c == '.' || c == '_' || c == '-');
    if (!fits)
        return bad_input("{} is no name of a cache index", quoted(name)).with_hint("at most 64 of a-z 0-9 . _ -");
    return {};
}

Result<std::vector<Index>> ManifestStore::get_indexes(const std::string& name, const Stop& stop) {
    TRY(check_index_name(name));
    std::vector<Index> found;
    TRY(collect(TRY(resolve(name, stop)), 0, found, stop));
    return found;
}

Result<> ManifestStore::collect(const oci::Descriptor& target, int depth, std::vector<Index>& found, const Stop& stop) {
    TRY(check_stop(stop));
    const std::string bytes = TRY(read(target, stop));
    const std::string type = TRY(oci::sniff_media_type(bytes));
    if (oci::is_index(type)) {
        const oci::Index index = TRY(oci::parse_index(bytes, target.media_type));
        std::vector<oci::Descriptor> others;
        const oci::Descriptor* config = nullptr;
        for (const auto& one : index.manifests) {
            if (is_cache_text(one.media_type)) {
                config = &one;
            } else {
                others.push_back(one);
            }
        }
        if (config != nullptr) {
            Index cache;
            cache.media_type = config->media_type;
            cache.text = TRY(read_text(*config, stop));
            cache.blobs = std::move(others);
            found.push_back(std::move(cache));
            return {};
        }
        if (depth == kMaxIndexDepth || others.size() > kMaxIndexEntries)
            return bad_input("the index {} is too deep or too long", target.digest.to_string());
        for (const auto& image : others) {
            if (oci::is_manifest(image.media_type) || oci::is_index(image.media_type))
                TRY(collect(image, depth + 1, found, stop));
        }
        return {};
    }
    oci::Manifest manifest = TRY(oci::parse_manifest(bytes, target.media_type));
    Index cache;
    if (is_cache_text(manifest.config.media_type)) {
        cache.media_type = manifest.config.media_type;
        cache.text = TRY(read_text(manifest.config, stop));
        cache.blobs = std::move(manifest.layers);
        found.push_back(std::move(cache));
        return {};
    }
    if (!oci::is_config(manifest.config.media_type)) return {};  // attestations and other artifacts
    oci::ImageConfig config = TRY(oci::parse_image_config(TRY(read(manifest.config, stop))));
    cache.text = TRY(inline_records(config));
    if (cache.text.empty() || config.diff_ids.size() != manifest.layers.size()) return {};
    cache.media_type = kInlineField;
    cache.of_image = true;
    cache.blobs = std::move(manifest.layers);
    cache.diff_ids = std::move(config.diff_ids);
    found.push_back(std::move(cache));
    return {};
}

Result<std::string> ManifestStore::read_text(const oci::Descriptor& text, const Stop& stop) {
    if (auto here = embedded(text)) return std::move(*here);
    return read(text, stop);
}

Result<oci::Descriptor> ManifestStore::put_index(const std::string& name, const Index& index, const Stop& stop) {
    TRY(check_index_name(name));
    oci::Descriptor config;
    config.media_type = index.media_type;
    config.digest = codec::sha256_of(index.text);
    config.size = index.text.size();
    PutBlob text;
    text.blob = config;
    text.open = [&index]() -> Result<std::unique_ptr<ByteSource>> {
        return std::make_unique<StringSource>(index.text);
    };
    TRY(put(text, stop));
    if (index.embed && config.size <= kMaxEmbedded) config.data = codec::base64_encode(index.text);
    std::string bytes;
    oci::Descriptor top;
    if (form_ == ManifestForm::image) {
        oci::Manifest manifest;
        manifest.media_type = oci::kOciManifest;
        manifest.config = std::move(config);
        manifest.layers = index.blobs;
        top.media_type = manifest.media_type;
        bytes = oci::marshal_manifest(manifest);
    } else {
        oci::Index list;
        list.media_type = form_ == ManifestForm::oci_index ? oci::kOciIndex : oci::kDockerIndex;
        list.manifests = index.blobs;
        list.manifests.push_back(std::move(config));
        top.media_type = list.media_type;
        bytes = oci::marshal_index(list);
    }
    top.digest = codec::sha256_of(bytes);
    top.size = bytes.size();
    TRY(write_manifest(name, top, bytes, stop));
    return top;
}

}  // namespace cooper::cachestore
