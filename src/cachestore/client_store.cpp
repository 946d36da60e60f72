#include "cachestore/client_store.hpp"

#include "cachestore/detail/limited.hpp"
#include "codec/sha256.hpp"

namespace cooper::cachestore {

ClientStore::ClientStore(std::shared_ptr<session::Session> session, std::string id,
                         std::map<std::string, Digest> digests, ManifestForm form)
    : ManifestStore(form), session_(std::move(session)), id_(std::move(id)), digests_(std::move(digests)) {}

std::size_t ClientStore::parallelism() const { return 1; }

Result<bool> ClientStore::has(const Digest& blob, const Stop& stop) {
    const auto size = session_->content_size(id_, blob, stop);
    if (size) return true;
    if (size.error().code() == Code::not_found) return false;
    return size.error();
}

Result<Put> ClientStore::put(const PutBlob& blob, const Stop& stop) {
    if (TRY(has(blob.blob.digest, stop))) return Put::existed;
    const auto source = TRY(blob.open());
    TRY(session_->write_content(id_, blob.blob.digest, blob.blob.size, *source, stop));
    if (blob.on_progress) blob.on_progress(blob.blob.size);
    return Put::uploaded;
}

Result<std::unique_ptr<ByteSource>> ClientStore::get(const oci::Descriptor& blob, const Range& range,
                                                     const Stop& stop) {
    auto source = TRY(session_->read_content(id_, blob.digest, range.offset, stop));
    if (range.length == kWhole.length) return source;
    return std::unique_ptr<ByteSource>(std::make_unique<detail::Limited>(std::move(source), range.length));
}

Result<oci::Descriptor> ClientStore::resolve(const std::string& name, const Stop& /*stop*/) {
    const auto found = digests_.find(name);
    if (found == digests_.end()) {
        return fail(Code::not_found, Blame::user, "{} has no {}", id_,
                    name.empty() ? "cache that the client names" : name);
    }
    oci::Descriptor target;
    target.digest = found->second;
    return target;
}

Result<std::string> ClientStore::read(const oci::Descriptor& blob, const Stop& stop) {
    const auto source = TRY(session_->read_content(id_, blob.digest, 0, stop));
    std::string bytes = TRY(read_all(*source, kMaxIndexBytes));
    if (codec::sha256_of(bytes) != blob.digest)
        return fail(Code::data_loss, Blame::world, "{} in the cache is damaged", blob.digest.to_string());
    return bytes;
}

Result<> ClientStore::write_manifest(const std::string& /*name*/, const oci::Descriptor& manifest,
                                     const std::string& bytes, const Stop& stop) {
    StringSource source(bytes);
    return session_->write_content(id_, manifest.digest, manifest.size, source, stop);
}

}  // namespace cooper::cachestore
