// Collector: applies the rules of garbage collection one second after a build, at most once a minute, on a thread of
// its own. Without rules it does nothing: then the engine has its own. Any thread.
#pragma once

#include "base/guarded.hpp"
#include "base/stop.hpp"
#include "daemon/worker.hpp"

#include <string>
#include <thread>
#include <vector>

namespace cooper::engine {
class Engine;
struct GcConfig;
}  // namespace cooper::engine

namespace cooper::daemon {

// The engine's rule, as clients are told it.
[[nodiscard]] GcPolicy default_policy(const std::string& root, const engine::GcConfig& config);

class Collector {
public:
    Collector(engine::Engine& engine, std::vector<GcPolicy> policies);
    Collector(const Collector&) = delete;
    Collector& operator=(const Collector&) = delete;
    // A build has ended.
    void notice_build();

private:
    void run(const Stop& stop) noexcept;
    engine::Engine& engine_;
    std::vector<GcPolicy> policies_;
    Guarded<bool> due_;
    std::jthread thread_;  // last: joined before the rest goes
};

}  // namespace cooper::daemon
