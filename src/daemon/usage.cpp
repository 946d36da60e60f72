#include "daemon/usage.hpp"

#include "base/text.hpp"
#include "daemon/detail/timestamps.hpp"
#include "proto/control.pb.h"

#include <algorithm>
#include <cerrno>
#include <sys/statvfs.h>

namespace cooper::daemon {

namespace {

// Frontends' images and the daemon's own: only `all` removes them.
bool internal(const engine::UsageRow& row) { return row.record_type == "internal" || row.record_type == "frontend"; }

std::string word(bool value) { return value ? "true" : "false"; }

}  // namespace

std::optional<std::string> field_of(const engine::UsageRow& row, const Filter::Path& path) {
    if (path.size() != 1) return std::nullopt;
    const std::string& name = path.front();
    // A field that is false or empty is not there.
    const auto flag = [](bool value) { return value ? std::optional<std::string>("true") : std::nullopt; };
    if (name == "id") return row.id;
    if (name == "type") return row.record_type;
    if (name == "description") return row.description;
    if (name == "parents") {
        if (row.parents.empty()) return std::nullopt;
        return join(row.parents, ";");
    }
    if (name == "inuse") return flag(row.in_use);
    if (name == "mutable") return flag(row.mutable_record);
    if (name == "immutable") return flag(!row.mutable_record);
    if (name == "shared") return word(row.shared);
    if (name == "private") return word(!row.shared);
    return std::nullopt;
}

std::optional<std::string> field_of(const Worker& worker, const Filter::Path& path) {
    if (path.size() == 1 && path.front() == "id") return worker.id;
    if (path.size() < 2 || path.front() != "labels") return std::nullopt;
    std::string name = path[1];
    for (std::size_t i = 2; i < path.size(); ++i) name += "." + path[i];
    const auto at = worker.labels.find(name);
    if (at == worker.labels.end()) return std::nullopt;
    return at->second;
}

Result<std::vector<engine::UsageRow>> find_usage(engine::Engine& engine, const std::vector<std::string>& filters,
                                                 std::chrono::nanoseconds age_limit, Timestamp now) {
    const auto parsed = TRY(parse_filters(filters));
    std::vector<engine::UsageRow> found;
    for (auto& row : TRY(engine.disk_usage())) {
        if (age_limit.count() > 0 && row.last_used && now - *row.last_used < age_limit) continue;
        const Filter::Fields fields{.find = [&](const Filter::Path& path) { return field_of(row, path); },
                                    .compare = {}};
        if (TRY(any_matches(parsed, fields))) found.push_back(std::move(row));
    }
    return found;
}

Result<std::vector<engine::UsageRow>> prune_by(engine::Engine& engine, const GcPolicy& policy) {
    const auto filters = TRY(parse_filters(policy.filters));
    std::optional<Error> wrong;
    engine::PruneRequest request;
    request.all = true;  // what only cache records name is cache, too
    if (policy.keep_duration_s > 0) request.unused_for = std::chrono::seconds(policy.keep_duration_s);
    request.only = [&](const engine::UsageRow& row) {
        if (!policy.all && internal(row)) return false;
        const auto matches = any_matches(
            filters, {.find = [&](const Filter::Path& path) { return field_of(row, path); }, .compare = {}});
        if (!matches) wrong = matches.error();
        return matches && *matches;
    };
    if (policy.reserved_bytes != 0 || policy.max_used_bytes != 0 || policy.min_free_bytes != 0) {
        std::uint64_t used = 0;
        for (const auto& row : TRY(engine.disk_usage())) {
            if (!row.shared) used += row.size_bytes;
        }
        struct statvfs disk{};
        if (::statvfs(engine.root().c_str(), &disk) != 0)
            return fail_errno(errno, "look at the disk of " + engine.root());
        const std::uint64_t free = std::uint64_t{disk.f_bavail} * disk.f_frsize;
        std::uint64_t keep = policy.max_used_bytes == 0 ? used : policy.max_used_bytes;
        if (policy.min_free_bytes > free) {
            const std::uint64_t excess = policy.min_free_bytes - free;
            keep = std::min(keep, used > excess ? used - excess : 0);
        } else if (policy.max_used_bytes == 0 && policy.min_free_bytes == 0) {
            keep = 0;  // all but what is reserved
        }
        request.keep_storage_bytes = std::max(keep, policy.reserved_bytes);
    }
    auto response = TRY(engine.prune(request));
    if (wrong) return *wrong;
    return std::move(response.removed);
}

void put_usage(const engine::UsageRow& row, moby::buildkit::v1::UsageRecord& record) {
    record.set_id(row.id);
    record.set_mutable_(row.mutable_record);
    record.set_inuse(row.in_use);
    record.set_size(static_cast<std::int64_t>(row.size_bytes));
    if (row.created) detail::put(*row.created, *record.mutable_createdat());
    if (row.last_used) detail::put(*row.last_used, *record.mutable_lastusedat());
    record.set_usagecount(row.usage_count);
    record.set_description(row.description);
    record.set_recordtype(row.record_type);
    record.set_shared(row.shared);
    for (const auto& parent : row.parents) record.add_parents(parent);
}

void put_version(moby::buildkit::v1::types::BuildkitVersion& version) {
    version.set_package(std::string(kPackage));
    version.set_version(std::string(kBuildKitVersion));
    version.set_revision(COOPER_VERSION);
    version.set_dockerfileversion(std::string(kDockerfileVersion));
}

void put_worker(const Worker& worker, moby::buildkit::v1::types::WorkerRecord& record) {
    record.set_id(worker.id);
    for (const auto& [name, value] : worker.labels) (*record.mutable_labels())[name] = value;
    for (const auto& platform : worker.platforms) {
        auto* one = record.add_platforms();
        one->set_os(platform.os);
        one->set_architecture(platform.architecture);
        one->set_variant(platform.variant);
        one->set_osversion(platform.os_version);
    }
    for (const auto& policy : worker.gc) {
        auto* one = record.add_gcpolicy();
        one->set_all(policy.all);
        one->set_keepduration(policy.keep_duration_s * 1'000'000'000);
        for (const auto& filter : policy.filters) one->add_filters(filter);
        one->set_reservedspace(static_cast<std::int64_t>(policy.reserved_bytes));
        one->set_maxusedspace(static_cast<std::int64_t>(policy.max_used_bytes));
        one->set_minfreespace(static_cast<std::int64_t>(policy.min_free_bytes));
    }
    put_version(*record.mutable_buildkitversion());
}

}  // namespace cooper::daemon
