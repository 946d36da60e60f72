// Keeps idle network namespaces for the next step and makes the first one ahead of time. Making one
// takes a few milliseconds, mostly waiting for the kernel; a step should not wait with it.
#pragma once

#include "base/guarded.hpp"
#include "base/result.hpp"
#include "base/stop.hpp"

#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

namespace cooper::run {

// T: a movable resource whose destructor releases it.
template <class T>
class NamespacePool {
public:
    explicit NamespacePool(std::function<Result<T>(const Stop&)> make) : make_(std::move(make)) {}
    NamespacePool(const NamespacePool&) = delete;
    NamespacePool& operator=(const NamespacePool&) = delete;

    [[nodiscard]] Result<T> take(const Stop& stop) {
        {
            auto state = state_.lock();
            // One that is being made ahead is nearly ready.
            if (!state.wait(stop, [&] { return !state->idle.empty() || !state->warming; })) return cancelled();
            if (!state->idle.empty()) {
                T item = std::move(state->idle.back());
                state->idle.pop_back();
                return item;
            }
        }
        return make_(stop);
    }

    void give_back(T item) {
        auto state = state_.lock();
        if (state->idle.size() < kMaxIdle) state->idle.push_back(std::move(item));
    }

    void warm_up() {
        auto state = state_.lock();
        if (state->warming || state->warmed || !state->idle.empty()) return;
        state->warming = true;
        state->warmed = true;
        warmer_ = std::jthread([this](const Stop& stop) noexcept {
            Result<T> made = make_(stop);
            {
                auto inner = state_.lock();
                inner->warming = false;
                // A failure is told to who asks next, by trying again.
                if (made) inner->idle.push_back(std::move(*made));
            }
            state_.notify_all();
        });
    }

private:
    static constexpr std::size_t kMaxIdle = 16;
    struct State {
        std::vector<T> idle;
        bool warming = false;
        bool warmed = false;
    };
    std::function<Result<T>(const Stop&)> make_;
    Guarded<State> state_;
    std::jthread warmer_;
};

}  // namespace cooper::run
