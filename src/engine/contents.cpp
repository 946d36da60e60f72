// Images to look into: named here, at a registry, or lying in a directory or an archive.
#include "base/text.hpp"
#include "engine/local_engine.hpp"
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

Result<inside::Image> LocalEngine::open_image(const std::string& name, const std::optional<oci::Platform>& platform,
                                              Stop stop) {
    const OnDisk on_disk = look_at_path(name);
    if (name.starts_with(kLayout) || on_disk == OnDisk::layout) {
        const LayoutName layout = parse_layout_name(on_disk == OnDisk::layout ? name : name.substr(kLayout.size()));
        auto origin = std::make_shared<source::OciLayoutOrigin>(TRY(source::OciLayoutOrigin::open(layout.directory)));
        oci::Reference reference = TRY_CONTEXT(oci::Reference::parse_normalized("layout:" + layout.tag), "{}", name);
        if (!layout.digest.empty()) reference = reference.with_digest(TRY(Digest::parse(layout.digest)));
        const source::ImageRequest request{.reference = reference, .platform = platform.value_or(oci::host_platform())};
        inside::Image image = TRY(contents_of(TRY(images_.look_at(request, *origin, stop)), origin));
        image.name = name;
        return image;
    }
    auto found = find_image(name);
    if (found) return contents_of(name, *found, platform);
    if (found.error().code() != Code::not_found) return found.error();
    if (on_disk == OnDisk::file) {
        sys::Fd file(::open(name.c_str(), O_RDONLY | O_CLOEXEC));
        if (!file.valid()) return fail_errno(errno, name);
        NullProgress silent;
        VertexProgress progress(silent, Digest{}, clock_);
        const auto loaded = TRY_CONTEXT(
            exporter::load_archive(*store_, std::make_unique<sys::FdSource>(std::move(file)),
                                   platform.value_or(oci::host_platform()), exporter::LoadLimits{}, progress, stop),
            "{}", name);
        if (loaded.size() != 1) {
            return bad_input("{} holds {} images", name, loaded.size())
                .with_hint("cooper load reads them; then name one");
        }
        return contents_of(name, loaded.front().record, platform);
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

}  // namespace cooper::engine
