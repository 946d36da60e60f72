#include "daemon/call_watcher.hpp"

#include <chrono>
#include <grpcpp/server_context.h>

namespace cooper::daemon {

CallWatcher::CallWatcher() : thread_([this](const Stop& stop) { run(stop); }) {}

void CallWatcher::run(const Stop& stop) noexcept {
    auto watches = watches_.lock();
    while (watches.wait(stop, [&] { return !watches->watches.empty(); })) {
        for (Watch* watch : watches->watches) {
            // What a stop calls must not wait for this lock; stop callbacks only write to descriptors.
            if (!watch->source_.stop_requested() && watch->context_.IsCancelled()) watch->source_.request_stop();
        }
        watches.wait_for(stop, std::chrono::milliseconds(50), [] { return false; });
        if (stop.stop_requested()) return;
    }
}

std::size_t CallWatcher::calls() { return watches_.lock()->watches.size(); }

void CallWatcher::stop_all() {
    auto watches = watches_.lock();
    watches->stopped = true;
    for (Watch* watch : watches->watches) watch->source_.request_stop();
}

CallWatcher::Watch::Watch(CallWatcher& watcher, grpc::ServerContext& context) : watcher_(watcher), context_(context) {
    {
        auto watches = watcher_.watches_.lock();
        watches->watches.push_back(this);
        if (watches->stopped) source_.request_stop();
    }
    watcher_.watches_.notify_all();
}

CallWatcher::Watch::~Watch() { std::erase(watcher_.watches_.lock()->watches, this); }

}  // namespace cooper::daemon
