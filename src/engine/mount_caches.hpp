// Cache mounts of a build from and to other places: which of them, where, under which names, and when.
//
// A mount is looked for when a step that uses it is about to run, once in a build, in the order of --cache-from; it is
// written when the caches are. What is kept where is cachemount's and cachestore's. Names: docs/cache.md.
//
// Any thread. Lives as long as the steps of the build.
#pragma once

#include "base/clock.hpp"
#include "base/guarded.hpp"
#include "base/progress.hpp"
#include "cachestore/cache_store.hpp"
#include "engine/build_request.hpp"
#include "store/store.hpp"

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace cooper::engine {

inline constexpr std::string_view kMainScope = "main";

// Of mounts=: "*", or ids with ';' or ',' between them. Empty: none.
struct MountChoice {
    bool all = false;
    std::vector<std::string> ids;
    // key: as the state directory names a mount, "NAMESPACE/ID"; of one that begins with content "NAMESPACE/ID:DIGEST",
    // which its id alone names, too.
    [[nodiscard]] bool takes(const std::string& key) const;
};
[[nodiscard]] MountChoice parse_mount_choice(const std::string& text);
// The name of a mount's head in a cache.
[[nodiscard]] std::string mount_name(const std::string& scope, const std::string& key);

class MountCaches {
public:
    explicit MountCaches(store::Store& store) : store_(store) {}

    // A cache of --cache-from. spec: mounts (all when it says nothing), mounts-scope.
    void add(const CacheSpec& spec, std::shared_ptr<cachestore::CacheStore> cache);
    // Before a step uses it. What fails is told and leaves the mount as it is.
    void restore(const std::string& key, VertexProgress& progress, const Stop& stop);

    struct Export {
        std::shared_ptr<cachestore::CacheStore> cache;
        const CacheSpec& spec;
        std::set<std::string> used;               // keys of mounts that steps of the build have
        std::set<std::string> used_with_content;  // the same, without the digests of what they begin with
        // Names that the client has to give to what was written; where names are the client's.
        std::map<std::string, oci::Descriptor> written;
    };
    Result<> save(Export& wanted, VertexProgress& progress, const Stop& stop);

private:
    struct Source {
        MountChoice choice;
        std::vector<std::string> scopes;
        std::shared_ptr<cachestore::CacheStore> cache;
    };
    Result<> restore_from(const Source& source, const std::string& key, VertexProgress& progress, const Stop& stop);
    [[nodiscard]] Result<std::vector<std::string>> keys_of(const Export& wanted);
    [[nodiscard]] Result<std::vector<std::string>> keys_with_content(const std::string& plain);

    store::Store& store_;
    Guarded<std::vector<Source>> sources_;
    Guarded<std::set<std::string>> met_;  // keys of steps that ran
    // One lock for each mount: who comes second waits until it is there.
    Guarded<std::map<std::string, std::shared_ptr<Guarded<bool>>>> done_;
};

}  // namespace cooper::engine
