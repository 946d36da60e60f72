// A cache in a content store that the client offers: a directory with an OCI layout. The store has no names for the
// server to ask: the client says beforehand which digest each name stands for, and writes the names itself when it has
// the answer of the build.
#pragma once

#include "cachestore/manifest_store.hpp"
#include "session/session.hpp"

#include <map>

namespace cooper::cachestore {

class ClientStore final : public ManifestStore {
public:
    // id: "local:DIR", as the client calls it. digests: of the manifests, by name.
    ClientStore(std::shared_ptr<session::Session> session, std::string id, std::map<std::string, Digest> digests,
                ManifestForm form);

    [[nodiscard]] const std::string& place() const override { return id_; }
    [[nodiscard]] std::string reference() const override { return {}; }
    [[nodiscard]] bool names_are_ours() const override { return false; }
    [[nodiscard]] std::size_t parallelism() const override;
    [[nodiscard]] Result<bool> has(const Digest& blob, const Stop& stop) override;
    [[nodiscard]] Result<Put> put(const PutBlob& blob, const Stop& stop) override;
    [[nodiscard]] Result<std::unique_ptr<ByteSource>> get(const oci::Descriptor& blob, const Range& range,
                                                          const Stop& stop) override;

private:
    Result<oci::Descriptor> resolve(const std::string& name, const Stop& stop) override;
    Result<std::string> read(const oci::Descriptor& blob, const Stop& stop) override;
    // Writes the bytes; the name is the client's to give.
    Result<> write_manifest(const std::string& name, const oci::Descriptor& manifest, const std::string& bytes,
                            const Stop& stop) override;

    std::shared_ptr<session::Session> session_;
    std::string id_;
    std::map<std::string, Digest> digests_;
};

}  // namespace cooper::cachestore
