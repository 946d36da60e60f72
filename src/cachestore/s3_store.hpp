// A cache in a bucket of Amazon S3, or of what speaks its protocol. Small objects are put at once, big ones in parts;
// an object that is there and was last written long ago is copied onto itself, so that rules that remove old objects
// let it live.
#pragma once

#include "base/clock.hpp"
#include "cachestore/aws.hpp"
#include "cachestore/detail/caller.hpp"
#include "cachestore/object_store.hpp"

namespace cooper::cachestore {

struct S3Config {
    std::string bucket;
    std::string region;
    std::string prefix;
    std::string manifests_prefix = "manifests/";
    std::string blobs_prefix = "blobs/";
    std::vector<std::string> names;
    std::string endpoint;  // "" = Amazon's of the region
    bool path_style = false;
    std::chrono::seconds touch_refresh{24 * 3600};
    std::size_t upload_parallelism = 4;
    AwsCredentials credentials;
    detail::CallLimits limits;
    std::uint64_t part_bytes = 8u << 20;  // objects of more than two of these go in parts
};

class S3Store final : public ObjectStore {
public:
    // client and clock outlive the store.
    static Result<std::shared_ptr<CacheStore>> open(S3Config config, http::Client& client, const Clock& clock);

    [[nodiscard]] const std::string& place() const override { return place_; }
    [[nodiscard]] std::size_t parallelism() const override { return config_.upload_parallelism; }
    [[nodiscard]] Result<bool> has(const Digest& blob, const Stop& stop) override;
    [[nodiscard]] Result<Put> put(const PutBlob& blob, const Stop& stop) override;
    [[nodiscard]] Result<std::unique_ptr<ByteSource>> get(const oci::Descriptor& blob, const Range& range,
                                                          const Stop& stop) override;

private:
    struct Head {
        std::uint64_t size = 0;
        std::optional<std::int64_t> modified_s;
    };
    S3Store(S3Config config, http::Client& client, const Clock& clock, std::string origin, std::string path_prefix);
    [[nodiscard]] std::string blob_key(const Digest& blob) const;
    [[nodiscard]] std::string path_of(const std::string& key) const;
    [[nodiscard]] std::string what(std::string_view doing, const std::string& key) const;
    [[nodiscard]] Error refused(http::Response& response, const std::string& doing) const;
    Result<std::optional<Head>> head(const std::string& key, const Stop& stop);
    Result<> touch(const std::string& key, std::uint64_t size, const Stop& stop);
    Result<> put_whole(const std::string& key, const PutBlob& blob, const Stop& stop);
    Result<> put_parts(const std::string& key, const PutBlob& blob, const Stop& stop);
    Result<std::string> begin_upload(const std::string& key, const Stop& stop);
    Result<> complete_upload(const std::string& key, const std::string& upload_id,
                             const std::vector<std::string>& etags, const Stop& stop);
    void abort_upload(const std::string& key, const std::string& upload_id);
    Result<std::optional<std::string>> read_text(const std::string& name, const Stop& stop) override;
    Result<> write_text(const std::string& name, const std::string& text, const Stop& stop) override;

    S3Config config_;
    const Clock& clock_;
    detail::Caller caller_;
    std::string path_prefix_;
    std::string place_;
};

}  // namespace cooper::cachestore
