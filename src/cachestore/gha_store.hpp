// A cache in GitHub's cache for Actions (version 2 of its protocol: Twirp with JSON, and blobs of Azure at URLs that
// are signed). Entries can be written once and belong to the scope (branch) of the token; so an index is a row of
// entries with numbers, the newest of which counts. Everything that the token's scopes allow is read.
#pragma once

#include "base/clock.hpp"
#include "cachestore/cache_store.hpp"
#include "cachestore/detail/caller.hpp"

#include <optional>

namespace cooper::cachestore {

struct GhaConfig {
    std::string url;    // ACTIONS_RESULTS_URL
    std::string token;  // ACTIONS_RUNTIME_TOKEN
    std::string scope = "buildkit";
    detail::CallLimits limits;
    // How long an index that somebody else is writing is waited for, before the next number is taken.
    std::chrono::milliseconds index_wait{15'000};
    std::chrono::milliseconds index_poll{2'000};
};

class GhaStore final : public CacheStore {
public:
    // client outlives the store. The token is read (not verified: that is the server's) and must not have expired.
    static Result<std::shared_ptr<CacheStore>> open(GhaConfig config, http::Client& client, const Clock& clock);

    [[nodiscard]] const std::string& place() const override { return place_; }
    [[nodiscard]] std::string reference() const override { return {}; }
    [[nodiscard]] bool has_blob_lists() const override { return false; }
    [[nodiscard]] std::size_t parallelism() const override { return 4; }
    [[nodiscard]] Result<bool> has(const Digest& blob, const Stop& stop) override;
    [[nodiscard]] Result<Put> put(const PutBlob& blob, const Stop& stop) override;
    [[nodiscard]] Result<std::unique_ptr<ByteSource>> get(const oci::Descriptor& blob, const Range& range,
                                                          const Stop& stop) override;
    [[nodiscard]] Result<std::vector<Index>> get_indexes(const std::string& name, const Stop& stop) override;
    [[nodiscard]] Result<oci::Descriptor> put_index(const std::string& name, const Index& index,
                                                    const Stop& stop) override;

    struct Scope {
        std::string name;
        bool writable = false;
    };

private:
    struct Entry {
        std::string key;
        std::string url;
    };
    GhaStore(GhaConfig config, http::Client& client, const Clock& clock, std::string origin, std::string path,
             std::vector<Scope> scopes);
    [[nodiscard]] std::string index_key(const std::string& name, const std::string& scope) const;
    [[nodiscard]] Result<std::string> writable_scope() const;
    [[nodiscard]] detail::Caller storage(const std::string& origin) const;
    // Of a call of the service: its answer as JSON text; nullopt when what is to be made is there already.
    Result<std::optional<std::string>> call(const std::string& method, const std::string& body, const Stop& stop);
    // The newest entry whose key begins so.
    Result<std::optional<Entry>> find(const std::string& key, const Stop& stop);
    // The URL to upload to; nullopt when the key is taken.
    Result<std::optional<std::string>> reserve(const std::string& key, const Stop& stop);
    Result<> upload(const std::string& key, const std::string& url, const PutBlob& blob, const Stop& stop);
    Result<std::unique_ptr<ByteSource>> download(const Entry& entry, const Range& range, std::uint64_t size_bytes,
                                                 const Stop& stop);

    GhaConfig config_;
    http::Client& client_;
    const Clock& clock_;
    detail::Caller caller_;
    std::string path_;
    std::vector<Scope> scopes_;
    std::string place_;
};

// What a token allows, from its claims; nothing is verified.
[[nodiscard]] Result<std::vector<GhaStore::Scope>> scopes_of_token(const std::string& token, Timestamp now);

}  // namespace cooper::cachestore
