// SolveService: Control's Solve, behind the door, and the gateway through which clients and frontends take part in a
// build. Whoever calls solve() has opened the build's progress and closes it, and keeps the history; this builds.
#pragma once

#include "base/stop.hpp"
#include "daemon/progress_hub.hpp"
#include "daemon/worker.hpp"
#include "rpc/grpc_types.hpp"

#include <memory>
#include <string>
#include <vector>

namespace cooper::engine {
class Engine;
}
namespace moby::buildkit::v1 {
class SolveRequest;
class SolveResponse;
}  // namespace moby::buildkit::v1

namespace cooper::daemon {

class History;
class Sessions;

class SolveService {
public:
    virtual ~SolveService() = default;
    // Blocks until the build is over. The stop comes when the client has gone or the daemon ends. Any thread, many at
    // once.
    virtual grpc::Status solve(const moby::buildkit::v1::SolveRequest& request, BuildProgress& progress,
                               moby::buildkit::v1::SolveResponse& response, Stop stop) = 0;
    // What is served beside Control on the daemon's own addresses: LLBBridge. They live as long as this.
    [[nodiscard]] virtual std::vector<grpc::Service*> services() = 0;
};

// All of it outlives the service.
struct SolveParts {
    engine::Engine& engine;
    Sessions& sessions;
    History& history;
    const Clock& clock;
    const Worker& worker;
    const std::vector<std::string>& allowed_entitlements;  // of --allow-insecure-entitlement
};
[[nodiscard]] std::unique_ptr<SolveService> make_solve_service(const SolveParts& parts);

}  // namespace cooper::daemon
