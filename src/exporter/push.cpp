#include "exporter/push.hpp"

#include "base/work_pool.hpp"
#include "oci/media_type.hpp"

#include <algorithm>
#include <set>
#include <utility>

namespace cooper::exporter {

namespace {

constexpr std::size_t kParallelBlobs = 4;  // as BuildKit's limit of connections per registry

struct Pushing {
    Packer& packer;
    registry::Registry& registry;
    const std::vector<PackedLayer>& layers;
    VertexProgress& progress;
    const Stop& stop;
};

// Under which the store remembers a repository of a registry that was given the blob.
std::string pushed_key(const oci::Reference& target, const PackedLayer& layer) {
    return fmt::format("pushed {} {}", target.domain(), layer.blob.digest.to_string());
}

// Repositories on the same host that have (or are about to have) the blob.
std::vector<std::string> mount_sources(store::Store& store, const PackedLayer& layer, const oci::Reference& target,
                                       const std::vector<oci::Reference>& done) {
    std::vector<std::string> paths;
    const auto add = [&](const oci::Reference& other) {
        if (other.domain() != target.domain() || other.path() == target.path()) return;
        if (std::ranges::find(paths, other.path()) == paths.end()) paths.push_back(other.path());
    };
    for (const auto& other : done) add(other);
    if (!layer.reference.empty()) {
        if (const auto origin = oci::Reference::parse_normalized(layer.reference)) add(*origin);
    }
    if (const auto known = store.fact(pushed_key(target, layer)); known && known->has_value()) {
        if (const auto other = oci::Reference::parse_normalized((*known)->value)) add(*other);
    }
    return paths;
}

Result<> push_layer(const Pushing& pushing, const PackedLayer& layer, const oci::Reference& repository,
                    std::vector<std::string> mount_from) {
    const std::string id = layer.blob.digest.to_string();
    const auto size = static_cast<std::int64_t>(layer.blob.size);
    registry::PushBlob push;
    push.blob = layer.blob;
    push.open = [&pushing, &layer] { return pushing.packer.open_layer(layer, pushing.stop); };
    push.mount_from = std::move(mount_from);
    push.on_progress = [&](std::uint64_t sent) {
        pushing.progress.status(id, id, static_cast<std::int64_t>(sent), size, false);
    };
    const registry::Pushed how = TRY(pushing.registry.push_blob(repository, push, pushing.stop));
    static_cast<void>(pushing.packer.store().set_fact(pushed_key(repository, layer), repository.repository()));
    if (how == registry::Pushed::existed) {
        pushing.progress.status(id, id + " already exists", 0, 0, true);
    } else {
        pushing.progress.status(id, id, size, size, true);
    }
    return {};
}

Result<> push_blobs(const Pushing& pushing, const oci::Reference& repository, const std::vector<oci::Reference>& done) {
    std::vector<const PackedLayer*> layers;
    std::set<Digest> seen;
    for (const auto& layer : pushing.layers) {
        if (oci::is_foreign_layer(layer.blob.media_type) && !layer.blob.urls.empty()) continue;
        if (seen.insert(layer.blob.digest).second) layers.push_back(&layer);
    }
    return parallel_for(layers.size(), kParallelBlobs, [&](std::size_t i) -> Result<> {
        return push_layer(pushing, *layers[i], repository,
                          mount_sources(pushing.packer.store(), *layers[i], repository, done));
    });
}

Result<> push_text(const Pushing& pushing, const oci::Descriptor& blob, const std::string& text,
                   const oci::Reference& repository) {
    registry::PushBlob push;
    push.blob = blob;
    push.open = [&text]() -> Result<std::unique_ptr<ByteSource>> { return std::make_unique<StringSource>(text); };
    TRY(pushing.registry.push_blob(repository, push, pushing.stop));
    return {};
}

// The configurations of the images, and all that is attested of them but the manifests.
Result<> push_texts(const Pushing& pushing, const PackedResult& result, const oci::Reference& repository) {
    for (const auto& image : result.images) TRY(push_text(pushing, image.config, image.config_bytes, repository));
    for (const auto& attestation : result.attestations) {
        TRY(push_text(pushing, attestation.config.descriptor, attestation.config.text, repository));
        for (const auto& layer : attestation.layers) TRY(push_text(pushing, layer.descriptor, layer.text, repository));
    }
    return {};
}

Result<> push_manifest(const Pushing& pushing, const oci::Reference& target, const oci::Descriptor& manifest,
                       const std::string& bytes) {
    const std::string row = fmt::format("pushing manifest for {}@{}", target.canonical(), manifest.digest.to_string());
    pushing.progress.status(row, row, 0, 0, false);
    const Digest pushed = TRY_CONTEXT(pushing.registry.push_manifest(target, manifest.media_type, bytes, pushing.stop),
                                      "push {}", target.canonical());
    if (pushed != manifest.digest) {
        return fail(Code::data_loss, Blame::world, "push {}: the registry took the manifest {} as {}",
                    target.canonical(), manifest.digest.to_string(), pushed.to_string());
    }
    pushing.progress.status(row, row, 0, 0, true);
    return {};
}

}  // namespace

Result<> push_image(Packer& packer, registry::Registry& registry, const PackedResult& result,
                    const std::vector<oci::Reference>& names, PushName by, VertexProgress& progress, const Stop& stop) {
    std::vector<PackedLayer> layers;
    for (const auto& image : result.images) layers.insert(layers.end(), image.layers.begin(), image.layers.end());
    const Pushing pushing{.packer = packer, .registry = registry, .layers = layers, .progress = progress, .stop = stop};
    for (const auto& name : names) {
        if (by == PushName::digest && !name.tag().empty()) {
            return Error(bad_input("can't push tagged ref {} by digest", name.canonical()))
                .with_hint("leave out the tag");
        }
    }
    const std::string layers_row = "pushing layers";
    progress.status(layers_row, layers_row, 0, 0, false);
    std::vector<oci::Reference> done;  // repositories
    for (const auto& name : names) {
        const oci::Reference repository = name.repository_only();
        if (std::ranges::find(done, repository) != done.end()) continue;
        TRY_CONTEXT(push_blobs(pushing, repository, done), "push {}", name.canonical());
        TRY_CONTEXT(push_texts(pushing, result, repository), "push {}", name.canonical());
        done.push_back(repository);
    }
    progress.status(layers_row, layers_row, 0, 0, true);
    if (result.index) {
        // A registry takes an index only when it has what the index names.
        for (const auto& repository : done) {
            for (const auto& image : result.images)
                TRY(push_manifest(pushing, repository, image.manifest, image.manifest_bytes));
            // Behind the images, so that a registry with referrers knows what they are about.
            for (const auto& attestation : result.attestations)
                TRY(push_manifest(pushing, repository, attestation.manifest.descriptor, attestation.manifest.text));
        }
    }
    for (const auto& name : names) {
        const oci::Reference target =
            by == PushName::digest ? name.repository_only() : name.without_digest().with_default_tag();
        TRY(push_manifest(pushing, target, result.target(),
                          result.index ? result.index_bytes : result.images.front().manifest_bytes));
    }
    return {};
}

}  // namespace cooper::exporter
