// An OCI image layout directory (image-spec image-layout.md) as the origin of an image, for
// ImageSource::import. The directory is not trusted: everything is bounded and verified by digest.
#pragma once

#include "source/image.hpp"
#include "sys/rooted_dir.hpp"

#include <string>

namespace cooper::source {

class OciLayoutOrigin final : public ImageOrigin {
public:
    // Fails when the directory is no layout of version 1.
    static Result<OciLayoutOrigin> open(const std::string& host_path);

    // With a digest: that blob, which must be a manifest or index. With a tag: the entry of index.json
    // whose org.opencontainers.image.ref.name (or io.containerd.image.name) says so; "latest" also takes
    // the only entry there is.
    Result<oci::Descriptor> resolve(const oci::Reference& reference, const Stop& stop) override;
    Result<std::string> fetch_manifest(const oci::Reference& reference, const Digest& digest,
                                       const Stop& stop) override;
    Result<std::unique_ptr<ByteSource>> fetch_blob(const oci::Reference& reference, const oci::Descriptor& blob,
                                                   std::uint64_t offset, const Stop& stop) override;

private:
    OciLayoutOrigin(sys::RootedDir dir, std::string shown) : dir_(std::move(dir)), shown_(std::move(shown)) {}
    [[nodiscard]] Result<sys::Fd> open_blob(const Digest& digest) const;
    sys::RootedDir dir_;
    std::string shown_;
};

}  // namespace cooper::source
