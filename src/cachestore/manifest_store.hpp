// Where an index is an OCI manifest or index: its configuration is the text, its layers are the blobs. Both forms that
// BuildKit has are read and written; images are read for the cache in their configuration, those of an image index one
// after the other.
#pragma once

#include "cachestore/cache_store.hpp"

namespace cooper::cachestore {

inline constexpr std::string_view kCacheConfigType = "application/vnd.buildkit.cacheconfig.v0";
inline constexpr std::string_view kInlineField = "moby.buildkit.cache.v0";  // of an image configuration, base64

enum class ManifestForm : std::uint8_t { image, oci_index, docker_list };

class ManifestStore : public CacheStore {
public:
    [[nodiscard]] bool has_blob_lists() const override { return true; }
    [[nodiscard]] Result<std::vector<Index>> get_indexes(const std::string& name, const Stop& stop) override;
    [[nodiscard]] Result<oci::Descriptor> put_index(const std::string& name, const Index& index,
                                                    const Stop& stop) override;

protected:
    explicit ManifestStore(ManifestForm form) : form_(form) {}
    // What a name stands for now; not_found.
    virtual Result<oci::Descriptor> resolve(const std::string& name, const Stop& stop) = 0;
    // A manifest or a configuration, verified. The media type may be unknown.
    virtual Result<std::string> read(const oci::Descriptor& blob, const Stop& stop) = 0;
    virtual Result<> write_manifest(const std::string& name, const oci::Descriptor& manifest, const std::string& bytes,
                                    const Stop& stop) = 0;

private:
    Result<std::string> read_text(const oci::Descriptor& text, const Stop& stop);
    Result<> collect(const oci::Descriptor& target, int depth, std::vector<Index>& found, const Stop& stop);
    ManifestForm form_;
};

}  // namespace cooper::cachestore
