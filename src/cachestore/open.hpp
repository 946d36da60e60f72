// The door: type and attributes of --cache-to or --cache-from to a CacheStore.
#pragma once

#include "base/clock.hpp"
#include "cachestore/cache_store.hpp"
#include "session/session.hpp"

#include <chrono>
#include <functional>
#include <limits>
#include <map>
#include <optional>

namespace cooper::cachestore {

enum class Way : std::uint8_t { to, from };

// What process_environment() reads is set by nobody while the program runs.
[[nodiscard]] std::string process_environment(const std::string& name);

// Of --cache-to (with inline, which is no store) and of --cache-from.
inline const std::vector<std::string> kTypesTo = {"registry", "local", "inline", "s3", "gha", "azblob"};
inline const std::vector<std::string> kTypesFrom = {"registry", "local", "s3", "gha", "azblob"};

struct Spec {
    std::string type;
    std::map<std::string, std::string> attrs;
};

// What stores work with; all outlive the store.
struct Surroundings {
    registry::Registry& registry;
    std::shared_ptr<session::Session> session;
    http::Client& client;
    const Clock& clock;
    // The value of a variable of this process, or "".
    std::function<std::string(const std::string& name)> environment;
};

// Asks nobody. The place of type=local is src (or dest) and, to read, the digest of its manifest; of other names of it
// the attributes are digest.NAME.
[[nodiscard]] Result<std::shared_ptr<CacheStore>> open_store(const Spec& spec, Way way, const Surroundings& here);

// What only the machine of the client knows, for an engine elsewhere: credentials of S3 as find_aws_credentials() finds
// them, and what GitHub tells its jobs. Attributes that are given stay as they are.
void add_client_attributes(Spec& spec, const std::function<std::string(const std::string& name)>& environment);

// "" when there is no such attribute.
[[nodiscard]] std::string attribute(const Spec& spec, const std::string& name);
// "24h", "1m30s", "250ms"; invalid_argument.
[[nodiscard]] Result<std::chrono::milliseconds> duration(const std::string& text);
// "500MB", "2G", "1GiB", "4096": powers of 1024 with an i, else of 1000; invalid_argument.
[[nodiscard]] Result<std::uint64_t> byte_size(const std::string& text);

// The attribute `budget` of --cache-to: how many bytes of layers a cache may hold, or how long sending them may take.
struct Budget {
    std::uint64_t bytes = std::numeric_limits<std::uint64_t>::max();
    std::optional<std::chrono::milliseconds> time;
    [[nodiscard]] bool is_limited() const {
        return time.has_value() || bytes != std::numeric_limits<std::uint64_t>::max();
    }
};
[[nodiscard]] Result<Budget> budget_of(const Spec& spec);
// Attributes that are the same for every place; asks nobody.
[[nodiscard]] Result<> check_export_attributes(const Spec& spec);

// As Go reads it; invalid_argument.
[[nodiscard]] Result<bool> flag(const Spec& spec, const std::string& name, bool otherwise);

}  // namespace cooper::cachestore
