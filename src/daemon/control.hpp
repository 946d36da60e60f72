// The daemon's services but the gateway: Control, the content of the history, traces.
//
// They are synchronous: every method waits for a build, a client or a file by design, and the tunnel needs a thread of
// its own in any case (docs/decisions/0012). What they share outlives them.
#pragma once

#include "base/clock.hpp"
#include "daemon/call_watcher.hpp"
#include "daemon/collector.hpp"
#include "daemon/debug_server.hpp"
#include "daemon/history.hpp"
#include "daemon/progress_hub.hpp"
#include "daemon/solve.hpp"
#include "daemon/worker.hpp"

#include <memory>
#include <string>

namespace cooper::daemon {

struct ControlParts {
    engine::Engine& engine;
    Sessions& sessions;
    ProgressHub& hub;
    History& history;
    SolveService& solve;
    CallWatcher& calls;
    Collector& collector;
    Counters& counters;
    const Worker& worker;
    const Clock& clock;
};
[[nodiscard]] std::unique_ptr<grpc::Service> make_control_service(const ControlParts& parts);

// containerd's content service, to be read only: blobs of the history, then those of the state directory.
[[nodiscard]] std::unique_ptr<grpc::Service> make_content_service(History& history, engine::Engine& engine);

// Passes spans on to the collector at $OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or $OTEL_EXPORTER_OTLP_ENDPOINT (gRPC);
// Unavailable without one.
[[nodiscard]] std::unique_ptr<grpc::Service> make_trace_service(const std::string& endpoint);
[[nodiscard]] std::string trace_endpoint_of_environment();

}  // namespace cooper::daemon
