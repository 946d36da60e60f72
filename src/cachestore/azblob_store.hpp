// A cache in a container of Azure's blob storage. The container is made when it is missing and something is to be
// written.
#pragma once

#include "base/clock.hpp"
#include "base/guarded.hpp"
#include "cachestore/azure_blob.hpp"
#include "cachestore/object_store.hpp"

namespace cooper::cachestore {

struct AzblobConfig {
    std::string account_url;  // may have the query of a shared access signature
    std::string container = "buildkit-cache";
    std::string prefix;
    std::string manifests_prefix = "manifests";
    std::string blobs_prefix = "blobs";
    std::vector<std::string> names;
    AzureKey key;  // an empty one: the URL is signed
    detail::CallLimits limits;
    std::uint64_t block_bytes = kAzureBlockBytes;
};

class AzblobStore final : public ObjectStore {
public:
    // client and clock outlive the store.
    static Result<std::shared_ptr<CacheStore>> open(AzblobConfig config, http::Client& client, const Clock& clock);

    [[nodiscard]] const std::string& place() const override { return place_; }
    [[nodiscard]] std::size_t parallelism() const override { return 2; }
    [[nodiscard]] Result<bool> has(const Digest& blob, const Stop& stop) override;
    [[nodiscard]] Result<Put> put(const PutBlob& blob, const Stop& stop) override;
    [[nodiscard]] Result<std::unique_ptr<ByteSource>> get(const oci::Descriptor& blob, const Range& range,
                                                          const Stop& stop) override;

private:
    AzblobStore(AzblobConfig config, http::Client& client, const Clock& clock, const std::string& origin,
                std::string path, detail::Query query);
    [[nodiscard]] std::string path_of(std::string_view folder, const std::string& name) const;
    [[nodiscard]] std::string what(std::string_view doing, const std::string& name) const;
    [[nodiscard]] static Error refused(http::Response& response, const std::string& doing);
    // Once.
    Result<> make_container(const Stop& stop);
    Result<std::optional<std::string>> read_text(const std::string& name, const Stop& stop) override;
    Result<> write_text(const std::string& name, const std::string& text, const Stop& stop) override;

    AzblobConfig config_;
    const Clock& clock_;
    detail::Caller caller_;
    std::string path_;     // of the container
    detail::Query query_;  // of a shared access signature
    std::string place_;
    Guarded<bool> has_container_{false};
};

}  // namespace cooper::cachestore
