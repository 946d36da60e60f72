// WorkPool: a fixed number of threads over one bounded-by-caller queue. Sized by what its work waits
// for: "cpu" (cores), "io", "exec". Nobody waits for a pool from inside that pool.
#pragma once

#include "base/guarded.hpp"

#include <cstddef>
#include <deque>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace cooper {

class WorkPool {
public:
    // Threads start on first use, so an idle pool costs nothing.
    explicit WorkPool(std::size_t threads);
    WorkPool(const WorkPool&) = delete;
    WorkPool& operator=(const WorkPool&) = delete;
    // Runs what is queued, then joins.
    ~WorkPool();

    // Work must not throw. Any thread.
    void post(std::move_only_function<void()> work);
    [[nodiscard]] std::size_t size() const { return limit_; }

private:
    struct State {
        std::deque<std::move_only_function<void()>> queue;
        std::size_t idle = 0;
        bool closing = false;
    };
    void run() noexcept;

    std::size_t limit_;
    Guarded<State> state_;
    Guarded<std::vector<std::jthread>> threads_;  // last: joined before the queue goes
};

// Runs fn(0) … fn(n-1) on up to `threads` threads (the caller's included); returns when all are done.
// The first error wins and keeps further items from starting.
[[nodiscard]] Result<> parallel_for(std::size_t n, std::size_t threads, const std::function<Result<>(std::size_t)>& fn);

}  // namespace cooper
