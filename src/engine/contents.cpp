// Images to look into: named here, at a registry, or lying in a directory or an archive.
#include "base/text.hpp"
#include "engine/local_engine.hpp"
#include "exporter/attestations.hpp"
#include "exporter/index.hpp"
#include "exporter/load.hpp"
#include "oci/media_type.hpp"
#include "source/oci_layout.hpp"

#include <fcntl.h>
#include <sys/stat.h>

namespace cooper::engine {

namespace {

constexpr std::string_view kLayout = "oci-layout://";

enum class OnDisk : std::uint8_t { nothing, layout, file };

OnDisk look_at_path(const std::string& name) {
    struct stat info{};
    if (::stat(name.c_str(), &info) != 0) return OnDisk::nothing;
    if (S_ISREG(info.st_mode)) {
        // A file that happens to be called as an image is none.
        const bool meant = name.find_first_of("/.") != std::string::npos;
        return meant ? OnDisk::file : OnDisk::nothing;
    }
    return ::stat((name + "/oci-layout").c_str(), &info) == 0 ? OnDisk::layout : OnDisk::nothing;
}

struct LayoutName {
    std::string directory;
    std::string tag = "latest";
    std::string digest;
};

// DIR, DIR:TAG, DIR@DIGEST.
LayoutName parse_layout_name(std::string text) {
    LayoutName name;
    if (const std::size_t at = text.rfind("@sha256:"); at != std::string::npos) {
        name.digest = text.substr(at + 1);
        text.resize(at);
    } else if (const std::size_t colon = text.rfind(':');
               colon != std::string::npos && text.find('/', colon) == std::string::npos) {
        name.tag = text.substr(colon + 1);
        text.resize(colon);
    }
    name.directory = std::move(text);
    return name;
}

Result<oci::Reference> reference_in(const LayoutName& layout) {
    oci::Reference reference = TRY(oci::Reference::parse_normalized("layout:" + layout.tag));
    return layout.digest.empty() ? reference : reference.with_digest(TRY(Digest::parse(layout.digest)));
}

// Keeps alive what it reads from.
class VerifiedBlob final : public ByteSource {
public:
    VerifiedBlob(std::shared_ptr<source::ImageOrigin> origin, std::unique_ptr<ByteSource> blob,
                 const oci::Descriptor& descriptor)
        : origin_(std::move(origin)), blob_(std::move(blob)), verified_(*blob_, descriptor.digest, descriptor.size) {}
    Result<std::size_t> read(std::span<std::byte> buffer) override { return verified_.read(buffer); }

private:
    std::shared_ptr<source::ImageOrigin> origin_;
    std::unique_ptr<ByteSource> blob_;
    codec::VerifyingSource verified_;
};

std::optional<std::uint64_t> packed_size(const oci::Descriptor& blob) {
    if (oci::packing_of(blob.media_type) == oci::Packing::none) return std::nullopt;
    return blob.size;
}

}  // namespace

Result<inside::Image> LocalEngine::contents_of(const std::string& name, const store::ImageRecord& record,
                                               const std::optional<oci::Platform>& platform) {
    const exporter::PackedResult result = TRY(exporter::open_result(packer_, record));
    const exporter::PackedImage* chosen = platform ? nullptr : &result.main_image();
    oci::ImageConfig config;
    std::vector<std::string> offered;
    for (const auto& image : result.images) {
        oci::ImageConfig one = TRY(oci::parse_image_config(image.config_bytes));
        if (platform && chosen == nullptr && oci::matches(*platform, one.platform)) chosen = &image;
        offered.push_back(oci::format_platform(one.platform));
        if (chosen == &image) config = std::move(one);
    }
    if (chosen == nullptr) {
        return fail(Code::not_found, Blame::user, "image {} has nothing for {}", name, oci::format_platform(*platform))
            .with_hint("it has: " + join(offered, ", "));
    }
    inside::Image out{.name = name, .manifest = chosen->manifest.digest, .config_digest = chosen->config.digest};
    for (const auto& layer : chosen->layers) {
        inside::LayerSource source{
            .diff_id = layer.diff_id, .blob = layer.blob.digest, .packed_size = packed_size(layer.blob)};
        if (!source.packed_size && layer.layer != 0) {
            for (const auto& known : TRY(store_->layer_blobs(layer.layer))) {
                if (known.compression == "gzip" || known.compression == "zstd") source.packed_size = known.blob.size;
            }
        }
        source.open = [this, layer](const Stop& stop) { return packer_.open_files(layer, stop); };
        out.layers.push_back(std::move(source));
    }
    out.config = std::move(config);
    return out;
}

Result<inside::Image> LocalEngine::contents_of(const source::ResolvedImage& image,
                                               std::shared_ptr<source::ImageOrigin> origin) {
    inside::Image out{.name = image.reference.familiar(),
                      .manifest = image.manifest.digest,
                      .config_digest = image.content.config.digest,
                      .config = image.config};
    const std::string from = image.reference.with_digest(image.target.digest).canonical();
    for (std::size_t i = 0; i < image.content.layers.size(); ++i) {
        const oci::Descriptor& blob = image.content.layers[i];
        inside::LayerSource source{
            .diff_id = image.config.diff_ids[i], .blob = blob.digest, .packed_size = packed_size(blob)};
        const auto known = TRY(store_->find_layer(source.diff_id));
        const exporter::PackedLayer layer{
            .layer = known.value_or(0), .diff_id = source.diff_id, .blob = blob, .reference = from};
        source.open = [this, layer, origin,
                       reference = image.reference](const Stop& stop) -> Result<std::unique_ptr<ByteSource>> {
            const bool here = layer.layer != 0 && TRY(store_->layer(layer.layer)).on_disk;
            if (here || !origin) return packer_.open_files(layer, stop);
            auto bytes = TRY(origin->fetch_blob(reference, layer.blob, 0, stop));
            return std::make_unique<VerifiedBlob>(origin, std::move(bytes), layer.blob);
        };
        out.layers.push_back(std::move(source));
    }
    return out;
}

Result<store::ImageRecord> LocalEngine::load_only(const std::string& path, const std::optional<oci::Platform>& platform,
                                                  const Stop& stop) {
    sys::Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.valid()) return fail_errno(errno, path);
    NullProgress silent;
    VertexProgress progress(silent, Digest{}, clock_);
    auto loaded = TRY_CONTEXT(
        exporter::load_archive(*store_, std::make_unique<sys::FdSource>(std::move(file)),
                               platform.value_or(oci::host_platform()), exporter::LoadLimits{}, progress, stop),
        "{}", path);
    if (loaded.size() != 1) {
        return bad_input("{} holds {} images", path, loaded.size()).with_hint("cooper load reads them; then name one");
    }
    return std::move(loaded.front().record);
}

Result<inside::Image> LocalEngine::open_image(const std::string& name, const std::optional<oci::Platform>& platform,
                                              Stop stop) {
    const OnDisk on_disk = look_at_path(name);
    if (name.starts_with(kLayout) || on_disk == OnDisk::layout) {
        const LayoutName layout = parse_layout_name(on_disk == OnDisk::layout ? name : name.substr(kLayout.size()));
        auto origin = std::make_shared<source::OciLayoutOrigin>(TRY(source::OciLayoutOrigin::open(layout.directory)));
        const source::ImageRequest request{.reference = TRY_CONTEXT(reference_in(layout), "{}", name),
                                           .platform = platform.value_or(oci::host_platform())};
        const auto resolved = TRY_CONTEXT(images_.look_at(request, *origin, stop), "{}", name);
        inside::Image image = TRY(contents_of(resolved, origin));
        image.name = name;
        return image;
    }
    auto found = find_image(name);
    if (found) return contents_of(name, *found, platform);
    if (found.error().code() != Code::not_found) return found.error();
    if (on_disk == OnDisk::file) {
        return contents_of(name, TRY(load_only(name, platform, stop)), platform);
    }
    const auto reference = oci::Reference::parse_normalized(name);
    if (!reference) return found.error();
    source::ImageRequest request{.reference = *reference, .platform = platform.value_or(oci::host_platform())};
    request.mode = config_.offline ? source::ImageResolve::standard : source::ImageResolve::pull;
    const auto image = images_.resolve(request, nullptr, stop);
    // Whoever mistyped the name of an image that is here is told so.
    if (!image && image.error().hint().empty() && !found.error().hint().empty()) {
        return image.error().with_hint(found.error().hint());
    }
    if (!image) return image.error();
    return contents_of(*image, nullptr);
}

namespace {

constexpr std::size_t kMaxParts = 1000;
constexpr std::size_t kMaxConfig = std::size_t{8} << 20U;

std::uint64_t bytes_of(const std::vector<oci::Descriptor>& layers) {
    std::uint64_t total = 0;
    for (const auto& layer : layers) total += layer.size;
    return total;
}

// From manifests alone; the configuration is read where no index says the platform.
Result<ImageParts> parts_at(source::ImageOrigin& origin, const oci::Reference& reference, const Stop& stop) {
    ImageParts out{.name = {}, .target = TRY(origin.resolve(reference, stop)), .parts = {}};
    const std::string top = TRY(origin.fetch_manifest(reference, out.target.digest, stop));
    std::vector<oci::Descriptor> entries{out.target};
    const bool index = oci::is_index(TRY(oci::sniff_media_type(top)));
    if (index) entries = TRY(oci::parse_index(top, out.target.media_type)).manifests;
    for (const auto& entry : entries) {
        if (out.parts.size() == kMaxParts) return bad_input("the index names more than {} images", kMaxParts);
        if (exporter::is_attestation(entry)) {
            ++out.attestations;
            continue;
        }
        ImagePart part{.platform = entry.platform ? oci::format_platform(*entry.platform) : "",
                       .manifest = entry.digest};
        const std::string bytes = index ? TRY(origin.fetch_manifest(reference, entry.digest, stop)) : top;
        if (!oci::is_index(TRY(oci::sniff_media_type(bytes)))) {
            const oci::Manifest manifest = TRY(oci::parse_manifest(bytes, entry.media_type));
            part.layers = manifest.layers.size();
            part.packed_bytes = bytes_of(manifest.layers);
            if (part.platform.empty()) {
                const auto blob = TRY(origin.fetch_blob(reference, manifest.config, 0, stop));
                codec::VerifyingSource verified(*blob, manifest.config.digest, manifest.config.size);
                const std::string config = TRY(read_all(verified, kMaxConfig));
                part.platform = oci::format_platform(TRY(oci::parse_image_config(config)).platform);
            }
        }
        out.parts.push_back(std::move(part));
    }
    return out;
}

}  // namespace

Result<ImageParts> LocalEngine::parts_of(const store::ImageRecord& record) {
    const exporter::PackedResult result = TRY(exporter::open_result(packer_, record));
    ImageParts out{.name = {}, .target = record.target, .parts = {}, .attestations = result.attestations.size()};
    for (const auto& image : result.images) {
        ImagePart part{.platform = oci::format_platform(TRY(oci::parse_image_config(image.config_bytes)).platform),
                       .manifest = image.manifest.digest,
                       .layers = image.layers.size(),
                       .packed_bytes = 0,
                       .unpacked_bytes = 0};
        for (const auto& layer : image.layers) {
            auto packed = packed_size(layer.blob);
            if (layer.layer != 0 && !packed) {
                for (const auto& known : TRY(store_->layer_blobs(layer.layer))) {
                    if (known.compression == "gzip" || known.compression == "zstd") packed = known.blob.size;
                }
            }
            std::optional<std::uint64_t> unpacked;
            if (layer.layer != 0) {
                const auto kept = TRY(store_->layer(layer.layer));
                if (kept.on_disk) unpacked = kept.info.size_bytes;
            }
            part.packed_bytes =
                part.packed_bytes && packed ? std::optional(*part.packed_bytes + *packed) : std::nullopt;
            part.unpacked_bytes =
                part.unpacked_bytes && unpacked ? std::optional(*part.unpacked_bytes + *unpacked) : std::nullopt;
        }
        out.parts.push_back(std::move(part));
    }
    return out;
}

Result<ImageParts> LocalEngine::image_parts(const std::string& name, Stop stop) {
    const auto named = [&](Result<ImageParts> parts) -> Result<ImageParts> {
        if (!parts) return std::move(parts).error().with_context(name);
        parts->name = name;
        return parts;
    };
    const OnDisk on_disk = look_at_path(name);
    if (name.starts_with(kLayout) || on_disk == OnDisk::layout) {
        const LayoutName layout = parse_layout_name(on_disk == OnDisk::layout ? name : name.substr(kLayout.size()));
        auto origin = TRY(source::OciLayoutOrigin::open(layout.directory));
        return named(parts_at(origin, TRY_CONTEXT(reference_in(layout), "{}", name), stop));
    }
    const auto found = find_image(name);
    if (found) return named(parts_of(*found));
    if (found.error().code() != Code::not_found) return found.error();
    if (on_disk == OnDisk::file) return named(parts_of(TRY(load_only(name, std::nullopt, stop))));
    const auto reference = oci::Reference::parse_normalized(name);
    if (!reference || config_.offline) return found.error();
    source::RegistryOrigin origin(registry_);
    auto parts = parts_at(origin, *reference, stop);
    if (!parts && parts.error().hint().empty() && !found.error().hint().empty())
        return parts.error().with_hint(found.error().hint());
    return named(std::move(parts));
}

}  // namespace cooper::engine
