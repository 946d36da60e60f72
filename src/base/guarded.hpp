// Guarded<T>: data that can only be reached through its lock.
//
//     auto state = state_.lock();
//     state->count++;
//     state.wait(stop, [&] { return state->ready; });   // condition wait on the same lock
//     state_.notify_all();
#pragma once

#include "base/stop.hpp"

#include <condition_variable>
#include <mutex>
#include <utility>

namespace cooper {

template <class T>
class Guarded {
public:
    Guarded() = default;
    explicit Guarded(T value) : value_(std::move(value)) {}
    Guarded(const Guarded&) = delete;
    Guarded& operator=(const Guarded&) = delete;

    class Lock {
    public:
        explicit Lock(Guarded& owner) : owner_(owner), lock_(owner.mutex_) {}
        T* operator->() { return &owner_.value_; }
        T& operator*() { return owner_.value_; }
        template <class Predicate>
        void wait(Predicate predicate) {
            owner_.changed_.wait(lock_, predicate);
        }
        // False when stopped before the predicate held.
        template <class Predicate>
        bool wait(const Stop& stop, Predicate predicate) {
            return owner_.changed_.wait(lock_, stop, predicate);
        }
        template <class Duration, class Predicate>
        bool wait_for(const Stop& stop, Duration duration, Predicate predicate) {
            return owner_.changed_.wait_for(lock_, stop, duration, predicate);
        }

    private:
        Guarded& owner_;
        std::unique_lock<std::mutex> lock_;
    };

    [[nodiscard]] Lock lock() { return Lock(*this); }
    void notify_one() { changed_.notify_one(); }
    void notify_all() { changed_.notify_all(); }

private:
    friend class Lock;
    std::mutex mutex_;
    std::condition_variable_any changed_;
    T value_{};
};

}  // namespace cooper
