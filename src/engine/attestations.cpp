// What is said of an image: of one that is kept here, or in a registry.
#include "exporter/attestations.hpp"

#include "attest/statement.hpp"
#include "engine/local_engine.hpp"
#include "oci/media_type.hpp"

#include <nlohmann/json.hpp>
#include <set>

namespace cooper::engine {

namespace {

constexpr std::size_t kMaxAttestations = 10'000;

// From the store, else from where the image was had.
class Reader {
public:
    Reader(store::Store& store, registry::Registry& registry, std::optional<oci::Reference> origin, const Stop& stop)
        : store_(store), registry_(registry), origin_(std::move(origin)), stop_(stop) {}

    Result<std::string> manifest(const Digest& digest) {
        if (TRY(store_.blob_size(digest))) return store_.read_blob(digest, oci::kMaxManifestBytes);
        if (!origin_) return absent(digest);
        return registry_.fetch_manifest(origin_->repository_only(), digest, stop_);
    }
    Result<std::string> statement(const oci::Descriptor& blob) {
        if (TRY(store_.blob_size(blob.digest))) return store_.read_blob(blob.digest, exporter::kMaxStatementBytes);
        if (!origin_) return absent(blob.digest);
        return registry_.fetch_blob_text(origin_->repository_only(), blob, exporter::kMaxStatementBytes, stop_);
    }
    // Registries that know none have none.
    std::vector<oci::Descriptor> referrers(const Digest& image) {
        if (!origin_) return {};
        auto found = registry_.referrers(origin_->repository_only(), image, stop_);
        return found ? std::move(*found) : std::vector<oci::Descriptor>();
    }

private:
    static Error absent(const Digest& digest) {
        return fail(Code::not_found, Blame::world, "{} is not here, and the image has no name to ask for it",
                    digest.to_string());
    }
    store::Store& store_;
    registry::Registry& registry_;
    std::optional<oci::Reference> origin_;
    const Stop& stop_;
};

Result<> read_attestation(Reader& reader, const oci::Descriptor& entry, const std::string& platform,
                          const Digest& subject, std::vector<Attested>& out) {
    const std::string bytes = TRY(reader.manifest(entry.digest));
    const oci::Manifest manifest = TRY(oci::parse_manifest(bytes, entry.media_type));
    for (const auto& layer : manifest.layers) {
        if (layer.media_type != attest::kMediaType) continue;
        if (out.size() == kMaxAttestations) return bad_input("more than {} attestations", kMaxAttestations);
        Attested one{.platform = platform, .subject = subject, .predicate_type = {}, .statement = {}};
        one.statement = TRY(reader.statement(layer));
        const auto type = layer.annotations.find(std::string(attest::kPredicateAnnotation));
        if (type != layer.annotations.end()) one.predicate_type = type->second;
        out.push_back(std::move(one));
    }
    return {};
}

}  // namespace

Result<std::vector<Attested>> LocalEngine::image_attestations(const std::string& name, Stop stop) {
    std::optional<oci::Reference> origin;
    oci::Descriptor top;
    const auto here = find_image(name);
    if (here) {
        top = here->target;
        // What was pulled may have left its attestations there.
        const auto reference = oci::Reference::parse_normalized(here->name);
        if (reference && !here->name.starts_with("sha256:")) origin = *reference;
    } else {
        const auto reference = oci::Reference::parse_normalized(name);
        if (!reference || config_.offline) return here.error();
        origin = *reference;
        top = TRY_CONTEXT(registry_.resolve(*reference, stop), "{} is not kept here", name);
    }
    Reader reader(*store_, registry_, origin, stop);
    std::vector<Attested> out;
    const std::string bytes = TRY(reader.manifest(top.digest));
    std::map<Digest, std::string> images;  // platform of each
    std::vector<oci::Descriptor> entries;
    if (oci::is_index(TRY(oci::sniff_media_type(bytes)))) {
        entries = TRY(oci::parse_index(bytes, top.media_type)).manifests;
        for (const auto& entry : entries) {
            if (!exporter::is_attestation(entry))
                images[entry.digest] = entry.platform ? oci::format_platform(*entry.platform) : "";
        }
    } else {
        images[top.digest] = "";
    }
    std::set<Digest> read;
    for (const auto& entry : entries) {
        if (!exporter::is_attestation(entry)) continue;
        const auto of = entry.annotations.find(std::string(exporter::kReferenceDigest));
        const auto subject = of == entry.annotations.end() ? Digest{} : TRY(Digest::parse(of->second));
        const auto image = images.find(subject);
        TRY(read_attestation(reader, entry, image == images.end() ? "" : image->second, subject, out));
        read.insert(entry.digest);
    }
    if (!here) {
        for (const auto& [image, platform] : images) {
            for (const auto& entry : reader.referrers(image)) {
                if (oci::is_manifest(entry.media_type) && read.insert(entry.digest).second)
                    TRY(read_attestation(reader, entry, platform, image, out));
            }
        }
    }
    return out;
}

}  // namespace cooper::engine
