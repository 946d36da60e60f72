#include "source/session_layout.hpp"

#include "codec/sha256.hpp"
#include "oci/media_type.hpp"

namespace cooper::source {

Result<oci::Descriptor> SessionLayoutOrigin::resolve(const oci::Reference& reference, const Stop& stop) {
    if (reference.digest().empty()) {
        return bad_input("an image of an OCI layout is named by its digest: {} has none", reference.canonical());
    }
    const std::string bytes = TRY(fetch_manifest(reference, reference.digest(), stop));
    return oci::Descriptor{.media_type = TRY_CONTEXT(oci::sniff_media_type(bytes), "content store {}", store_),
                           .digest = reference.digest(),
                           .size = bytes.size()};
}

Result<std::string> SessionLayoutOrigin::fetch_manifest(const oci::Reference& /*reference*/, const Digest& digest,
                                                        const Stop& stop) {
    const auto source = TRY(session_.read_content(store_, digest, 0, stop));
    std::string bytes = TRY_CONTEXT(read_all(*source, oci::kMaxManifestBytes), "content store {}", store_);
    if (codec::sha256_of(bytes) != digest) {
        return fail(Code::data_loss, Blame::user, "content store {}: {} has other bytes", store_, digest.to_string());
    }
    return bytes;
}

Result<std::unique_ptr<ByteSource>> SessionLayoutOrigin::fetch_blob(const oci::Reference& /*reference*/,
                                                                    const oci::Descriptor& blob, std::uint64_t offset,
                                                                    const Stop& stop) {
    return session_.read_content(store_, blob.digest, offset, stop);
}

}  // namespace cooper::source
