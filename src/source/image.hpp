// Images as sources: a name becomes a pinned manifest, a config and a chain of layers. Layers are lazy:
// rows that say where their bytes are, unpacked by materialize() when something needs their files.
//
// Threads: any number may call. Two that want the same layer wait for each other, across processes too.
// What has been resolved once is remembered in the store: an offline or repeated build asks nobody.
#pragma once

#include "base/progress.hpp"
#include "base/stop.hpp"
#include "layer/apply.hpp"
#include "oci/image_config.hpp"
#include "oci/manifest.hpp"
#include "oci/reference.hpp"
#include "store/store.hpp"

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace cooper::registry {
class Registry;
}

namespace cooper::source {

// standard, local: a local image of that name, then what was resolved before, then the registry.
// pull: the registry always says what a tag means now.
enum class ImageResolve : std::uint8_t { standard, pull, local };

// Where manifests and blobs come from.
class ImageOrigin {
public:
    virtual ~ImageOrigin() = default;
    virtual Result<oci::Descriptor> resolve(const oci::Reference& reference, const Stop& stop) = 0;
    // Verified against the digest.
    virtual Result<std::string> fetch_manifest(const oci::Reference& reference, const Digest& digest,
                                               const Stop& stop) = 0;
    // From offset on; not verified.
    virtual Result<std::unique_ptr<ByteSource>> fetch_blob(const oci::Reference& reference, const oci::Descriptor& blob,
                                                           std::uint64_t offset, const Stop& stop) = 0;
};

class RegistryOrigin final : public ImageOrigin {
public:
    explicit RegistryOrigin(registry::Registry& registry) : registry_(registry) {}
    Result<oci::Descriptor> resolve(const oci::Reference& reference, const Stop& stop) override;
    Result<std::string> fetch_manifest(const oci::Reference& reference, const Digest& digest,
                                       const Stop& stop) override;
    Result<std::unique_ptr<ByteSource>> fetch_blob(const oci::Reference& reference, const oci::Descriptor& blob,
                                                   std::uint64_t offset, const Stop& stop) override;

private:
    registry::Registry& registry_;
};

struct ResolvedImage {
    oci::Reference reference;  // as asked for
    oci::Descriptor target;    // what the name means: a manifest or an index
    oci::Descriptor manifest;  // of the platform
    oci::Manifest content;     // its layers
    std::string config_json;
    oci::ImageConfig config;
};

struct ImageRequest {
    oci::Reference reference;
    oci::Platform platform;
    ImageResolve mode = ImageResolve::standard;
    std::optional<Digest> checksum;          // the target must have this digest (image.checksum)
    std::optional<std::size_t> layer_limit;  // only the first layers (image.layerlimit)
};

class ImageSource {
public:
    // All references must outlive the source.
    ImageSource(store::Store& store, ImageOrigin& origin, layer::ApplyLimits limits, std::size_t threads)
        : store_(store), origin_(origin), limits_(limits), threads_(threads) {}
    // What a tag meant longer ago than this is asked again; when nobody answers it still holds. Before the first use.
    void set_tag_max_age(std::chrono::seconds age) { tag_max_age_ = age; }

    // Pins the name: manifest and config are fetched into the store's blobs when they are not there.
    // progress may be null; it gets "resolve NAME" and what is fetched.
    [[nodiscard]] Result<ResolvedImage> resolve(const ImageRequest& request, VertexProgress* progress,
                                                const Stop& stop);
    // As import(), but the layers stay where they are.
    [[nodiscard]] Result<ResolvedImage> look_at(const ImageRequest& request, ImageOrigin& from, const Stop& stop);
    // As resolve(), from another place and without remembering what the name meant (OCI layouts). The
    // layers' blobs are copied into the store at once, for the place may be gone later.
    [[nodiscard]] Result<ResolvedImage> import(const ImageRequest& request, ImageOrigin& from, VertexProgress* progress,
                                               const Stop& stop);

    // The layers as rows of the store, bottom first; nothing is downloaded. Held for this process.
    [[nodiscard]] Result<store::Chain> chain(const ResolvedImage& image, const ImageRequest& request);

    // Makes sure that the files are on disk. Layers of a chain are fetched and unpacked in parallel.
    // Prefer the chain: directories that a layer's archive implies without an entry get the metadata
    // they have below, which a layer alone does not know (it makes them 0755, root).
    [[nodiscard]] Result<> materialize(store::LayerId layer, VertexProgress* progress, const Stop& stop);
    [[nodiscard]] Result<> materialize(const store::Chain& chain, VertexProgress* progress, const Stop& stop);

    // A layer's packed bytes, verified: from the store, else from where they came. For exports.
    [[nodiscard]] Result<std::unique_ptr<ByteSource>> open_blob(const oci::Descriptor& blob,
                                                                const std::string& reference, const Stop& stop);

private:
    struct Pinned {
        oci::Descriptor target;
        bool remembered = false;
    };
    [[nodiscard]] bool is_stale(const oci::Reference& reference, Timestamp then) const;
    Result<Pinned> pin(const ImageRequest& request, VertexProgress* progress, const Stop& stop);
    Result<ResolvedImage> describe(ImageOrigin& origin, const ImageRequest& request, oci::Descriptor target,
                                   VertexProgress* progress, const Stop& stop);
    Result<std::string> manifest_bytes(ImageOrigin& origin, const ImageRequest& request, const oci::Descriptor& wanted,
                                       VertexProgress* progress, const Stop& stop);
    Result<std::string> config_bytes(ImageOrigin& origin, const ImageRequest& request, const oci::Descriptor& wanted,
                                     VertexProgress* progress, const Stop& stop);
    Result<> fetch_into_store(ImageOrigin& origin, const oci::Reference& reference, const oci::Descriptor& blob,
                              VertexProgress* progress, const Stop& stop);
    // The layers under the one being unpacked, and a way to wait until they are on disk.
    struct Below;
    Result<> materialize_over(store::LayerId layer, Below* below, VertexProgress* progress, const Stop& stop);
    Result<> unpack(const store::LayerRecord& record, store::LayerDraft draft, Below* below, VertexProgress* progress,
                    const Stop& stop);

    store::Store& store_;
    ImageOrigin& origin_;
    std::optional<std::chrono::seconds> tag_max_age_;  // none: until somebody asks for newer ones
    layer::ApplyLimits limits_;
    std::size_t threads_;
};

// BuildKit's two cache keys of an image. The second is empty when the config names
// no layers.
[[nodiscard]] Digest image_manifest_key(const ResolvedImage& image, const ImageRequest& request);
[[nodiscard]] Digest image_config_key(const ResolvedImage& image, const ImageRequest& request);

// "docker-image://" identifiers without the scheme must be complete references; the attributes are
// LLB's (image.resolvemode, image.checksum, image.layerlimit, image.recordtype).
[[nodiscard]] Result<ImageRequest> image_request(const std::string& reference, const oci::Platform& platform,
                                                 const std::map<std::string, std::string>& attributes);

}  // namespace cooper::source
