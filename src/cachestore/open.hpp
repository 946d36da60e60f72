// The door: type and attributes of --cache-to or --cache-from to a CacheStore.
#pragma once

#include "cachestore/cache_store.hpp"
#include "session/session.hpp"

#include <map>

namespace cooper::cachestore {

enum class Way : std::uint8_t { to, from };

struct Spec {
    std::string type;
    std::map<std::string, std::string> attrs;
};

// What stores work with; all outlive the store.
struct Surroundings {
    registry::Registry& registry;
    std::shared_ptr<session::Session> session;
};

// Asks nobody. The place of type=local is src (or dest) and, to read, the digest of its manifest; of other names of it
// the attributes are digest.NAME.
[[nodiscard]] Result<std::shared_ptr<CacheStore>> open_store(const Spec& spec, Way way, const Surroundings& here);

// "" when there is no such attribute.
[[nodiscard]] std::string attribute(const Spec& spec, const std::string& name);
// As Go reads it; invalid_argument.
[[nodiscard]] Result<bool> flag(const Spec& spec, const std::string& name, bool otherwise);

}  // namespace cooper::cachestore
