#include "daemon/call_watcher.hpp"

#include <chrono>
#include <grpcpp/server_context.h>

namespace cooper::daemon {

CallWatcher::CallWatcher() : thread_([this](const Stop& stop) { run(stop); }) {}

void CallWatcher::run(const Stop& stop) noexcept {
    auto watches = watches_.lock();
    while (watches.wait(stop, [&] { return !watches->empty(); })) {
        for (Watch* watch : *watches) {
            // What a stop calls must not wait for this lock; stop callbacks only write to descriptors.
            if (!watch->source_.stop_requested() && watch->context_.IsCancelled()) watch->source_.request_stop();
        }
        watches.wait_for(stop, std::chrono::milliseconds(50), [] { return false; });
        if (stop.stop_requested()) return;
    }
}

std::size_t CallWatcher::calls() { return watches_.lock()->size(); }

CallWatcher::Watch::Watch(CallWatcher& watcher, grpc::ServerContext& context) : watcher_(watcher), context_(context) {
    watcher_.watches_.lock()->push_back(this);
    watcher_.watches_.notify_all();
}

CallWatcher::Watch::~Watch() { std::erase(*watcher_.watches_.lock(), this); }

}  // namespace cooper::daemon
