// CacheWriting: the caches of a build on their way out, on a thread of their own, so that they go beside the push of
// the image. One thread uses the object; the work stops when it goes without finish(), or when the build is stopped.
#pragma once

#include "engine/local_job.hpp"

#include <functional>
#include <stop_token>
#include <thread>

namespace cooper::engine {

class LocalJob::CacheWriting {
public:
    // job and result outlive it.
    CacheWriting(LocalJob& job, const FrontendResult& result, const Stop& stop)
        : job_(job), result_(result), forward_(stop, [this] { own_.request_stop(); }) {}
    CacheWriting(const CacheWriting&) = delete;
    CacheWriting& operator=(const CacheWriting&) = delete;
    // A cache that is wanted even of a failure is written to its end.
    ~CacheWriting() {
        if (!job_.wants_cache_of_failure()) own_.request_stop();
    }

    // Nothing but the first time.
    void begin();
    // Begins if nobody did; waits, and adds what the caches answer.
    Result<> finish(ExportAnswer& answer);

private:
    LocalJob& job_;
    const FrontendResult& result_;
    StopSource own_;
    std::stop_callback<std::function<void()>> forward_;
    ExportAnswer answer_;
    Result<> written_;
    std::jthread thread_;  // the last member: it ends before the others go
};

}  // namespace cooper::engine
