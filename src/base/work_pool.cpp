#include "base/work_pool.hpp"

#include <algorithm>
#include <atomic>
#include <optional>

namespace cooper {

WorkPool::WorkPool(std::size_t threads) : limit_(std::max<std::size_t>(threads, 1)) {}

WorkPool::~WorkPool() {
    state_.lock()->closing = true;
    state_.notify_all();
    std::vector<std::jthread> threads;
    threads.swap(*threads_.lock());
}

void WorkPool::post(std::move_only_function<void()> work) {
    bool grow = false;
    {
        auto state = state_.lock();
        state->queue.push_back(std::move(work));
        grow = state->idle < state->queue.size();
    }
    state_.notify_one();
    if (!grow) return;
    auto threads = threads_.lock();
    if (threads->size() < limit_) threads->emplace_back([this] { run(); });
}

void WorkPool::run() noexcept {
    while (true) {
        std::move_only_function<void()> work;
        {
            auto state = state_.lock();
            ++state->idle;
            state.wait([&] { return state->closing || !state->queue.empty(); });
            --state->idle;
            if (state->queue.empty()) return;
            work = std::move(state->queue.front());
            state->queue.pop_front();
        }
        work();
    }
}

Result<> parallel_for(std::size_t n, std::size_t threads, const std::function<Result<>(std::size_t)>& fn) {
    std::atomic<std::size_t> next{0};
    Guarded<std::optional<Error>> first_error;
    const auto work = [&] {
        for (std::size_t i = next.fetch_add(1); i < n; i = next.fetch_add(1)) {
            if (Result<> result = fn(i); !result) {
                auto error = first_error.lock();
                if (!*error) *error = result.error();
                next.store(n);
            }
        }
    };
    {
        std::vector<std::jthread> helpers;
        const std::size_t wanted = std::min(threads, n);
        for (std::size_t i = 1; i < wanted; ++i) helpers.emplace_back(work);
        work();
    }
    auto error = first_error.lock();
    if (*error) return **error;
    return {};
}

}  // namespace cooper
