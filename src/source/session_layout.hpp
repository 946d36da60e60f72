// A content store of the client ("oci-layout://" contexts) as the origin of an image, for
// ImageSource::import. The client is not trusted: everything is bounded and verified by digest.
#pragma once

#include "session/session.hpp"
#include "source/image.hpp"

#include <string>

namespace cooper::source {

class SessionLayoutOrigin final : public ImageOrigin {
public:
    // store: "oci:NAME". The session must outlive the origin.
    SessionLayoutOrigin(session::Session& session, std::string store) : session_(session), store_(std::move(store)) {}

    // Only references with a digest: a store of blobs has no names.
    Result<oci::Descriptor> resolve(const oci::Reference& reference, const Stop& stop) override;
    Result<std::string> fetch_manifest(const oci::Reference& reference, const Digest& digest,
                                       const Stop& stop) override;
    Result<std::unique_ptr<ByteSource>> fetch_blob(const oci::Reference& reference, const oci::Descriptor& blob,
                                                   std::uint64_t offset, const Stop& stop) override;

private:
    session::Session& session_;
    std::string store_;
};

}  // namespace cooper::source
