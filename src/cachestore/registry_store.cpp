#include "cachestore/registry_store.hpp"

#include "cachestore/detail/limited.hpp"
#include "oci/media_type.hpp"

namespace cooper::cachestore {

RegistryStore::RegistryStore(registry::Registry& registry, oci::Reference reference, ManifestForm form)
    : ManifestStore(form),
      registry_(registry),
      reference_(std::move(reference)),
      repository_(reference_.repository_only()),
      place_(reference_.canonical()) {}

std::size_t RegistryStore::parallelism() const { return 4; }

Result<bool> RegistryStore::has(const Digest& blob, const Stop& stop) {
    return registry_.blob_exists(repository_, blob, stop);
}

Result<Put> RegistryStore::put(const PutBlob& blob, const Stop& stop) {
    return TRY_CONTEXT(registry_.push_blob(repository_, blob, stop), "push {}", place_);
}

Result<std::unique_ptr<ByteSource>> RegistryStore::get(const oci::Descriptor& blob, const Range& range,
                                                       const Stop& stop) {
    auto source = TRY(registry_.fetch_blob(repository_, blob, range.offset, stop));
    if (range.length == kWhole.length) return source;
    return std::unique_ptr<ByteSource>(std::make_unique<detail::Limited>(std::move(source), range.length));
}

Result<oci::Reference> RegistryStore::named(const std::string& name) const {
    if (name.empty()) return reference_;
    const oci::Reference tagged = reference_.without_digest().with_default_tag();
    return tagged.with_tag(tagged.tag() + "-" + name);
}

Result<oci::Descriptor> RegistryStore::resolve(const std::string& name, const Stop& stop) {
    return registry_.resolve(TRY(named(name)), stop);
}

Result<std::string> RegistryStore::read(const oci::Descriptor& blob, const Stop& stop) {
    if (blob.media_type.empty() || oci::is_manifest(blob.media_type) || oci::is_index(blob.media_type))
        return registry_.fetch_manifest(repository_, blob.digest, stop);
    return registry_.fetch_blob_text(repository_, blob, kMaxIndexBytes, stop);
}

Result<> RegistryStore::write_manifest(const std::string& name, const oci::Descriptor& manifest,
                                       const std::string& bytes, const Stop& stop) {
    TRY_CONTEXT(registry_.push_manifest(TRY(named(name)), manifest.media_type, bytes, stop), "push {}", place_);
    return {};
}

}  // namespace cooper::cachestore
