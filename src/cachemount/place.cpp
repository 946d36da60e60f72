#include "cachemount/place.hpp"

#include "codec/sha256.hpp"
#include "oci/media_type.hpp"

#include <algorithm>

namespace cooper::cachemount {

namespace {

constexpr std::string_view kIdKey = "cooper.cachemount.id";
constexpr std::string_view kScopeKey = "cooper.cachemount.scope";
constexpr std::string_view kLineageKey = "cooper.cachemount.lineage";
constexpr std::string_view kBeforeKey = "cooper.cachemount.before";

std::string annotation(const oci::Manifest& manifest, std::string_view key) {
    const auto found = manifest.annotations.find(std::string(key));
    return found == manifest.annotations.end() ? std::string() : found->second;
}

}  // namespace

oci::Descriptor empty_config() {
    oci::Descriptor config;
    config.media_type = oci::kOciEmptyJson;
    config.digest = codec::sha256_of(std::string_view("{}"));
    config.size = 2;
    return config;
}

Result<Head> parse_head(std::string_view text) {
    const oci::Manifest manifest = TRY(oci::parse_manifest(text, oci::kOciManifest));
    if (manifest.artifact_type != kArtifactType)
        return fail(Code::data_loss, Blame::world, "what is there is no cache mount but {}",
                    manifest.artifact_type.empty() ? std::string("an image") : manifest.artifact_type);
    Head head;
    std::uint64_t parts_bytes = 0;
    for (const auto& layer : manifest.layers) {
        if (layer.digest.algorithm() != Digest::Algorithm::sha256)
            return fail(Code::data_loss, Blame::world, "cache mount: {} is no sha256", layer.digest.to_string());
        if (layer.media_type == kPartType) {
            parts_bytes += std::min<std::uint64_t>(layer.size, kMaxPartBytes + 1);
            head.parts.push_back(layer);
        } else if (layer.media_type == kPackType) {
            if (layer.size > kMaxPackBytes)
                return fail(Code::data_loss, Blame::world, "cache mount: a pack of {} bytes", layer.size);
            head.packs.push_back(layer);
        } else {
            return fail(Code::unimplemented, Blame::user, "cache mount: a layer of type {}", layer.media_type)
                .with_hint("another version of cooper has written it");
        }
    }
    if (parts_bytes > kMaxPartBytes)
        return fail(Code::data_loss, Blame::world, "cache mount: an index of {} bytes", parts_bytes);
    head.id = annotation(manifest, kIdKey);
    head.scope = annotation(manifest, kScopeKey);
    head.lineage = annotation(manifest, kLineageKey);
    head.before = annotation(manifest, kBeforeKey);
    return head;
}

std::string marshal_head(const Head& head) {
    oci::Manifest manifest;
    manifest.media_type = oci::kOciManifest;
    manifest.artifact_type = kArtifactType;
    manifest.config = empty_config();
    manifest.layers = head.parts;
    manifest.layers.insert(manifest.layers.end(), head.packs.begin(), head.packs.end());
    manifest.annotations[std::string(kIdKey)] = head.id;
    manifest.annotations[std::string(kScopeKey)] = head.scope;
    manifest.annotations[std::string(kLineageKey)] = head.lineage;
    if (!head.before.empty()) manifest.annotations[std::string(kBeforeKey)] = head.before;
    return oci::marshal_manifest(manifest);
}

}  // namespace cooper::cachemount
