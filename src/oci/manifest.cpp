#include "oci/manifest.hpp"

#include "base/text.hpp"
#include "oci/detail/json_fields.hpp"
#include "oci/media_type.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace cooper::oci {
namespace {

using detail::Json;

constexpr std::size_t kMaxEntries = 10'000;

Error schema1_refused() {
    return fail(Code::failed_precondition, Blame::user, "the image has the obsolete Docker schema 1 format")
        .with_hint("push it again with a current docker or skopeo, which write schema 2 or OCI");
}

bool has_list(const Json& object, const char* key) {
    const Json* value = detail::field(object, key);
    return value && value->is_array();
}

// What the document is, by its own words or by its shape.
Result<std::string> media_type_of(const Json& object) {
    std::string own;
    TRY(detail::read(object, "mediaType", own));
    std::int64_t version = 0;
    TRY(detail::read(object, "schemaVersion", version));
    if (version == 1 || is_schema1(own) || detail::field(object, "fsLayers")) return schema1_refused();
    const bool manifest_like = detail::field(object, "config") || has_list(object, "layers");
    const bool index_like = has_list(object, "manifests");
    // A document that is both could be read one way here and another way elsewhere.
    if (manifest_like && index_like) return bad_input("the document has both layers and manifests");
    if (!own.empty()) {
        if (is_manifest(own) && index_like) return bad_input("the document calls itself {} but lists manifests", own);
        if (is_index(own) && manifest_like) return bad_input("the document calls itself {} but lists layers", own);
        if (is_manifest(own) || is_index(own)) return own;
        return bad_input("unknown type of manifest {}", cooper::quoted(own));
    }
    if (index_like) return std::string(kOciIndex);
    if (manifest_like) return std::string(kOciManifest);
    return bad_input("the document is neither an image manifest nor an index");
}

Result<std::string> agreed_media_type(const Json& object, std::string_view said) {
    if (is_schema1(said)) return schema1_refused();
    std::string own = TRY(media_type_of(object));
    if (said.empty() || said == own) return own;
    const bool silent = detail::field(object, "mediaType") == nullptr;
    if (silent && (is_manifest(said) == is_manifest(own)) && (is_manifest(said) || is_index(said))) {
        return std::string(said);
    }
    return bad_input("the document was announced as {} but is {}", cooper::quoted(said), own);
}

Result<std::vector<Descriptor>> read_list(const Json& object, const char* key) {
    std::vector<Descriptor> list;
    const Json* items = detail::field(object, key);
    if (!items) return list;
    if (!items->is_array()) return bad_input("field {} must be a list", quoted(key));
    if (items->size() > kMaxEntries) return bad_input("field {} has more than {} entries", quoted(key), kMaxEntries);
    list.reserve(items->size());
    for (const Json& item : *items) {
        list.push_back(TRY_CONTEXT(detail::descriptor_from(item), "{}[{}]", key, list.size()));
    }
    return list;
}

Result<std::optional<Descriptor>> read_subject(const Json& object) {
    const Json* subject = detail::field(object, "subject");
    if (!subject) return std::optional<Descriptor>();
    return std::optional(TRY_CONTEXT(detail::descriptor_from(*subject), "subject"));
}

Json list_json(const std::vector<Descriptor>& list) {
    Json items = Json::array();
    for (const Descriptor& descriptor : list) items.push_back(detail::to_json(descriptor));
    return items;
}

}  // namespace

Result<std::string> sniff_media_type(std::string_view json) {
    const Json object = TRY(detail::parse_object(json, kMaxManifestBytes, "manifest"));
    return media_type_of(object);
}

Result<Manifest> parse_manifest(std::string_view json, std::string_view media_type) {
    const Json object = TRY(detail::parse_object(json, kMaxManifestBytes, "manifest"));
    Manifest manifest;
    manifest.media_type = TRY(agreed_media_type(object, media_type));
    if (!is_manifest(manifest.media_type)) return bad_input("expected a manifest, found {}", manifest.media_type);
    TRY(detail::read(object, "artifactType", manifest.artifact_type));
    const Json* config = detail::field(object, "config");
    if (!config) return bad_input("the manifest has no config");
    manifest.config = TRY_CONTEXT(detail::descriptor_from(*config), "config");
    manifest.layers = TRY(read_list(object, "layers"));
    manifest.subject = TRY(read_subject(object));
    TRY(detail::read(object, "annotations", manifest.annotations));
    manifest.raw = json;
    return manifest;
}

Result<Index> parse_index(std::string_view json, std::string_view media_type) {
    const Json object = TRY(detail::parse_object(json, kMaxManifestBytes, "index"));
    Index index;
    index.media_type = TRY(agreed_media_type(object, media_type));
    if (!is_index(index.media_type)) return bad_input("expected an index, found {}", index.media_type);
    TRY(detail::read(object, "artifactType", index.artifact_type));
    index.manifests = TRY(read_list(object, "manifests"));
    index.subject = TRY(read_subject(object));
    TRY(detail::read(object, "annotations", index.annotations));
    index.raw = json;
    return index;
}

std::string marshal_manifest(const Manifest& manifest) {
    Json object = Json::object();
    object["schemaVersion"] = 2;
    if (!manifest.media_type.empty()) object["mediaType"] = manifest.media_type;
    if (!manifest.artifact_type.empty()) object["artifactType"] = manifest.artifact_type;
    object["config"] = detail::to_json(manifest.config);
    object["layers"] = list_json(manifest.layers);
    if (manifest.subject) object["subject"] = detail::to_json(*manifest.subject);
    if (!manifest.annotations.empty()) object["annotations"] = manifest.annotations;
    return detail::print_indented(object);
}

std::string marshal_index(const Index& index) {
    Json object = Json::object();
    object["schemaVersion"] = 2;
    if (!index.media_type.empty()) object["mediaType"] = index.media_type;
    if (!index.artifact_type.empty()) object["artifactType"] = index.artifact_type;
    object["manifests"] = list_json(index.manifests);
    if (index.subject) object["subject"] = detail::to_json(*index.subject);
    if (!index.annotations.empty()) object["annotations"] = index.annotations;
    return detail::print_indented(object);
}

std::vector<Descriptor> select_platform(const Index& index, const Platform& platform) {
    constexpr int kNoPlatform = 1000;
    std::vector<std::pair<int, const Descriptor*>> ranked;
    for (const Descriptor& entry : index.manifests) {
        if (entry.annotations.contains("vnd.docker.reference.type")) continue;
        if (!entry.platform || entry.platform->os.empty()) {
            if (is_manifest(entry.media_type) || is_index(entry.media_type) || entry.media_type.empty()) {
                ranked.emplace_back(kNoPlatform, &entry);
            }
            continue;
        }
        if (const auto rank = match_rank(platform, *entry.platform)) ranked.emplace_back(*rank, &entry);
    }
    std::ranges::stable_sort(ranked, {}, &std::pair<int, const Descriptor*>::first);
    std::vector<Descriptor> chosen;
    chosen.reserve(ranked.size());
    for (const auto& [rank, entry] : ranked) chosen.push_back(*entry);
    return chosen;
}

}  // namespace cooper::oci
