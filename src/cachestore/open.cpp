#include "cachestore/open.hpp"

#include "base/text.hpp"
#include "cachestore/client_store.hpp"
#include "cachestore/registry_store.hpp"
#include "frontend/git_ref.hpp"

namespace cooper::cachestore {

namespace {

constexpr std::string_view kDigestOf = "digest.";

Result<ManifestForm> form_of(const Spec& spec) {
    const bool oci_types = TRY(flag(spec, "oci-mediatypes", true));
    const bool as_image = TRY(flag(spec, "image-manifest", oci_types));
    if (as_image && !oci_types) return bad_input("image-manifest=true and oci-mediatypes=false exclude each other");
    if (as_image) return ManifestForm::image;
    return oci_types ? ManifestForm::oci_index : ManifestForm::docker_list;
}

Result<std::shared_ptr<CacheStore>> open_registry(const Spec& spec, Way way, const Surroundings& here) {
    const std::string ref = attribute(spec, "ref");
    if (ref.empty()) return bad_input("a cache in a registry needs ref=REGISTRY/NAME");
    oci::Reference reference = TRY(oci::Reference::parse_normalized(ref)).with_default_tag();
    const ManifestForm form = way == Way::to ? TRY(form_of(spec)) : ManifestForm::image;
    return std::shared_ptr<CacheStore>(std::make_shared<RegistryStore>(here.registry, std::move(reference), form));
}

Result<std::shared_ptr<CacheStore>> open_client(const Spec& spec, Way way, const Surroundings& here) {
    const std::string directory = attribute(spec, way == Way::to ? "dest" : "src");
    if (directory.empty()) return bad_input("a local cache needs {}=DIR", way == Way::to ? "dest" : "src");
    ManifestForm form = ManifestForm::image;
    std::map<std::string, Digest> digests;
    if (way == Way::to) {
        form = TRY(form_of(spec));
    } else {
        const std::string digest = attribute(spec, "digest");
        if (digest.empty()) return bad_input("a local cache needs the digest of its manifest");
        digests[""] = TRY(Digest::parse(digest));
        for (const auto& [key, value] : spec.attrs) {
            if (key.starts_with(kDigestOf)) digests[key.substr(kDigestOf.size())] = TRY(Digest::parse(value));
        }
    }
    return std::shared_ptr<CacheStore>(
        std::make_shared<ClientStore>(here.session, "local:" + directory, std::move(digests), form));
}

}  // namespace

std::string attribute(const Spec& spec, const std::string& name) {
    const auto found = spec.attrs.find(name);
    return found == spec.attrs.end() ? std::string() : found->second;
}

Result<bool> flag(const Spec& spec, const std::string& name, bool otherwise) {
    const std::string value = attribute(spec, name);
    if (value.empty()) return otherwise;
    const auto parsed = frontend::parse_go_bool(value);
    if (!parsed) return bad_input("cache attribute {}={} is neither true nor false", name, quoted(value));
    return *parsed;
}

Result<std::shared_ptr<CacheStore>> open_store(const Spec& spec, Way way, const Surroundings& here) {
    if (spec.type == "registry") return open_registry(spec, way, here);
    if (spec.type == "local") return open_client(spec, way, here);
    if (spec.type == "inline" && way == Way::from) {
        return bad_input("an inline cache is imported from its image").with_hint("type=registry,ref=IMAGE");
    }
    return bad_input("unknown cache {}: {}", way == Way::to ? "exporter" : "importer", quoted(spec.type))
        .with_hint(way == Way::to ? "registry, local and inline are known" : "registry and local are known");
}

}  // namespace cooper::cachestore
