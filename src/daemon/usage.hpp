// Disk usage, garbage collection and the worker, as BuildKit's messages and filters have them.
#pragma once

#include "daemon/filter.hpp"
#include "daemon/worker.hpp"
#include "engine/engine.hpp"

#include <chrono>
#include <string>
#include <vector>

namespace moby::buildkit::v1 {
class UsageRecord;
namespace types {
class BuildkitVersion;
class WorkerRecord;
}  // namespace types
}  // namespace moby::buildkit::v1

namespace cooper::daemon {

// age_limit: only what has been unused for that long; 0 = everything.
[[nodiscard]] Result<std::vector<engine::UsageRow>> find_usage(engine::Engine& engine,
                                                               const std::vector<std::string>& filters,
                                                               std::chrono::nanoseconds age_limit, Timestamp now);
// Removes what one rule says, least recently used first. What went.
[[nodiscard]] Result<std::vector<engine::UsageRow>> prune_by(engine::Engine& engine, const GcPolicy& policy);

[[nodiscard]] std::optional<std::string> field_of(const engine::UsageRow& row, const Filter::Path& path);
[[nodiscard]] std::optional<std::string> field_of(const Worker& worker, const Filter::Path& path);

void put_usage(const engine::UsageRow& row, moby::buildkit::v1::UsageRecord& record);
void put_worker(const Worker& worker, moby::buildkit::v1::types::WorkerRecord& record);
void put_version(moby::buildkit::v1::types::BuildkitVersion& version);

}  // namespace cooper::daemon
