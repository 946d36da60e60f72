#include "daemon/collector.hpp"

#include "base/log.hpp"
#include "daemon/usage.hpp"
#include "engine/engine.hpp"

#include <algorithm>
#include <sys/statvfs.h>

namespace cooper::daemon {

namespace {

constexpr auto kAfterBuild = std::chrono::seconds(1);
constexpr auto kPause = std::chrono::minutes(1);

}  // namespace

GcPolicy default_policy(const std::string& root, const engine::GcConfig& config) {
    GcPolicy policy;
    policy.all = true;
    policy.keep_duration_s = config.keep_duration_s;
    policy.max_used_bytes = config.keep_storage_bytes;
    struct statvfs disk{};
    if (policy.max_used_bytes == 0 && ::statvfs(root.c_str(), &disk) == 0) {
        policy.max_used_bytes = std::max<std::uint64_t>(std::uint64_t{disk.f_blocks} * disk.f_frsize / 10, 2ULL << 30);
    }
    return policy;
}

Collector::Collector(engine::Engine& engine, std::vector<GcPolicy> policies)
    : engine_(engine), policies_(std::move(policies)) {
    if (!policies_.empty()) thread_ = std::jthread([this](const Stop& stop) { run(stop); });
}

void Collector::notice_build() {
    *due_.lock() = true;
    due_.notify_all();
}

void Collector::run(const Stop& stop) noexcept {
    for (;;) {
        {
            auto due = due_.lock();
            if (!due.wait(stop, [&] { return *due; })) return;
            due.wait_for(stop, kAfterBuild, [] { return false; });
            if (stop.stop_requested()) return;
            *due = false;
        }
        for (const auto& policy : policies_) {
            const auto removed = prune_by(engine_, policy);
            if (!removed) {
                log::warn("garbage collection failed", {{"error", removed.error().to_string()}});
            } else if (!removed->empty()) {
                log::info("garbage collected", {{"records", std::to_string(removed->size())}});
            }
        }
        auto due = due_.lock();
        due.wait_for(stop, kPause, [] { return false; });
        if (stop.stop_requested()) return;
    }
}

}  // namespace cooper::daemon
