// The calls of a daemon's Control service that are no build: workers, disk usage, pruning, history.
#pragma once

#include "base/bytes.hpp"
#include "base/clock.hpp"
#include "base/result.hpp"
#include "base/stop.hpp"
#include "client/connection.hpp"
#include "client/solve.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace cooper::client {

struct Version {
    std::string package;
    std::string version;
    std::string revision;
};

struct GcRule {
    bool all = false;
    std::vector<std::string> filters;
    std::chrono::nanoseconds keep_duration{};
    std::int64_t reserved_bytes = 0;
    std::int64_t max_used_bytes = 0;
    std::int64_t min_free_bytes = 0;
};

struct Worker {
    std::string id;
    Attributes labels;
    std::vector<std::string> platforms;  // "linux/amd64"
    std::vector<GcRule> gc_policy;
    Version version;
};

struct UsageRecord {
    std::string id;
    bool is_mutable = false;
    bool in_use = false;
    bool shared = false;
    std::int64_t size_bytes = 0;
    std::vector<std::string> parents;
    std::optional<Timestamp> created;
    std::optional<Timestamp> last_used;
    std::int64_t usage_count = 0;
    std::string description;
    std::string type;
};

struct PruneSpec {
    std::vector<std::string> filters;
    bool all = false;
    std::chrono::nanoseconds keep_duration{};
    std::int64_t reserved_bytes = 0;
    std::int64_t max_used_bytes = 0;
    std::int64_t min_free_bytes = 0;
};

struct Descriptor {
    std::string media_type;
    std::string digest;
    std::int64_t size_bytes = 0;
};

struct HistoryRecord {
    std::string event;  // STARTED, COMPLETE, DELETED
    std::string ref;
    std::string frontend;
    Attributes frontend_attrs;
    std::string error;  // empty = none
    std::optional<Timestamp> created;
    std::optional<Timestamp> completed;
    std::optional<Descriptor> logs;
    std::optional<Descriptor> trace;
    std::vector<std::pair<std::string, Descriptor>> attestations;  // by platform; "" = of the only one
    Attributes exporter_response;
    int generation = 0;
    bool pinned = false;
    int cached_steps = 0;
    int completed_steps = 0;
    int total_steps = 0;
    int warnings = 0;
};

struct HistoryFilter {
    bool active_only = false;
    std::string ref;
    bool early_exit = true;  // what is there now, and no more
    std::vector<std::string> filters;
    int limit = 0;
};

[[nodiscard]] Result<std::vector<Worker>> list_workers(const Connection& connection,
                                                       const std::vector<std::string>& filters, const Stop& stop);
[[nodiscard]] Result<Version> info(const Connection& connection, const Stop& stop);
[[nodiscard]] Result<std::vector<UsageRecord>> disk_usage(const Connection& connection,
                                                          const std::vector<std::string>& filters, const Stop& stop);
// Calls visit for what was removed, while it goes on.
[[nodiscard]] Result<> prune(const Connection& connection, const PruneSpec& spec,
                             const std::function<void(const UsageRecord&)>& visit, const Stop& stop);
[[nodiscard]] Result<> list_history(const Connection& connection, const HistoryFilter& filter,
                                    const std::function<void(const HistoryRecord&)>& visit, const Stop& stop);
enum class HistoryUpdate : std::uint8_t { pin, unpin, remove, finalize };
[[nodiscard]] Result<> update_history(const Connection& connection, const std::string& ref, HistoryUpdate update,
                                      const Stop& stop);
// A blob of the daemon's, not verified.
[[nodiscard]] Result<> read_content(const Connection& connection, const std::string& digest, ByteSink& sink,
                                    const Stop& stop);

}  // namespace cooper::client
