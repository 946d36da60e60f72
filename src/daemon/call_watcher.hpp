// CallWatcher: a Stop for each running call that comes when its client has gone. gRPC's synchronous calls can only be
// asked whether they are cancelled, so one thread asks all of them, twenty times a second, while there are any.
#pragma once

#include "base/guarded.hpp"
#include "base/stop.hpp"
#include "rpc/grpc_types.hpp"

#include <memory>
#include <thread>
#include <vector>

namespace cooper::daemon {

class CallWatcher {
public:
    CallWatcher();
    CallWatcher(const CallWatcher&) = delete;
    CallWatcher& operator=(const CallWatcher&) = delete;

    // As long as it lives; not longer than the call's handler, nor than the watcher.
    class Watch {
    public:
        Watch(CallWatcher& watcher, grpc::ServerContext& context);
        Watch(const Watch&) = delete;
        Watch& operator=(const Watch&) = delete;
        ~Watch();
        [[nodiscard]] Stop stop() const { return source_.get_token(); }

    private:
        friend class CallWatcher;
        CallWatcher& watcher_;
        grpc::ServerContext& context_;
        StopSource source_;
    };

    [[nodiscard]] std::size_t calls();
    // All running calls get their stop, those that come later at once.
    void stop_all();

private:
    void run(const Stop& stop) noexcept;

    struct State {
        std::vector<Watch*> watches;
        bool stopped = false;
    };
    Guarded<State> watches_;
    std::jthread thread_;  // last: joined before the rest goes
};

}  // namespace cooper::daemon
