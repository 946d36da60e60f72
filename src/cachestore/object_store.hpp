// Where blobs and indexes are objects under keys: PREFIX BLOBS_PREFIX DIGEST and PREFIX MANIFESTS_PREFIX NAME, as
// BuildKit names them. A cache may have several names: it is written under each, and read from all. An index is its
// text alone; other indexes than the cache's own are NAME.OTHER.
#pragma once

#include "cachestore/cache_store.hpp"

#include <optional>

namespace cooper::cachestore {

class ObjectStore : public CacheStore {
public:
    [[nodiscard]] std::string reference() const override { return {}; }
    [[nodiscard]] bool has_blob_lists() const override { return false; }
    [[nodiscard]] Result<std::vector<Index>> get_indexes(const std::string& name, const Stop& stop) override;
    [[nodiscard]] Result<oci::Descriptor> put_index(const std::string& name, const Index& index,
                                                    const Stop& stop) override;

protected:
    // names: of the attribute `name`, at least one.
    explicit ObjectStore(std::vector<std::string> names) : names_(std::move(names)) {}
    // The text of an object; nullopt when there is none.
    virtual Result<std::optional<std::string>> read_text(const std::string& name, const Stop& stop) = 0;
    virtual Result<> write_text(const std::string& name, const std::string& text, const Stop& stop) = 0;

private:
    std::vector<std::string> names_;
};

// "a;b"; the default of BuildKit is "buildkit".
[[nodiscard]] Result<std::vector<std::string>> cache_names(const std::string& attribute);

}  // namespace cooper::cachestore
