// A cache in a repository of a registry: blobs are its blobs, an index is a manifest under a tag. The cache's own is
// the tag that the reference names; others are TAG-NAME.
#pragma once

#include "cachestore/manifest_store.hpp"

namespace cooper::cachestore {

class RegistryStore final : public ManifestStore {
public:
    // reference: with a tag or a digest (then it is only read). The registry outlives the store.
    RegistryStore(registry::Registry& registry, oci::Reference reference, ManifestForm form);

    [[nodiscard]] const std::string& place() const override { return place_; }
    [[nodiscard]] std::string reference() const override { return reference_.canonical(); }
    [[nodiscard]] std::size_t parallelism() const override;
    [[nodiscard]] Result<bool> has(const Digest& blob, const Stop& stop) override;
    [[nodiscard]] Result<Put> put(const PutBlob& blob, const Stop& stop) override;
    [[nodiscard]] Result<std::unique_ptr<ByteSource>> get(const oci::Descriptor& blob, const Range& range,
                                                          const Stop& stop) override;

private:
    Result<oci::Descriptor> resolve(const std::string& name, const Stop& stop) override;
    Result<std::string> read(const oci::Descriptor& blob, const Stop& stop) override;
    Result<> write_manifest(const std::string& name, const oci::Descriptor& manifest, const std::string& bytes,
                            const Stop& stop) override;
    [[nodiscard]] Result<oci::Reference> named(const std::string& name) const;

    registry::Registry& registry_;
    oci::Reference reference_;
    oci::Reference repository_;
    std::string place_;
};

}  // namespace cooper::cachestore
