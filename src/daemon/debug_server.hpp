// DebugServer: what --debugaddr serves over HTTP/1.1, one request for each connection:
//
//     /metrics          Prometheus' text form
//     /debug/builds     builds that run, as JSON
//     /debug/threads    the daemon's threads: their names and what they wait in
//     /debug/memory     the daemon's memory, as the kernel has it
//
// For people and monitors of this machine. Connections are served one after the other, each for five seconds at most.
#pragma once

#include "daemon/call_watcher.hpp"
#include "daemon/listener.hpp"
#include "daemon/progress_hub.hpp"

#include <atomic>
#include <string>
#include <string_view>

namespace cooper::daemon {

// What has happened since the daemon began.
struct Counters {
    std::atomic<std::uint64_t> builds_done{0};
    std::atomic<std::uint64_t> builds_failed{0};
    std::atomic<std::uint64_t> builds_cancelled{0};
};

class DebugServer {
public:
    DebugServer(ListeningSocket socket, ProgressHub& hub, CallWatcher& calls, const Counters& counters);

private:
    void serve(sys::Fd client) const;
    [[nodiscard]] std::string answer(std::string_view path) const;

    ProgressHub& hub_;
    CallWatcher& calls_;
    const Counters& counters_;
    Listener listener_;  // last: its thread is gone before the rest
};

}  // namespace cooper::daemon
