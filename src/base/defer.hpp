// Runs one lambda at the end of a scope unless dismissed.
#pragma once

#include <utility>

namespace cooper {

template <class F>
class [[nodiscard]] Defer {
public:
    explicit Defer(F action) : action_(std::move(action)) {}
    Defer(const Defer&) = delete;
    Defer& operator=(const Defer&) = delete;
    ~Defer() {
        if (active_) action_();
    }
    void dismiss() { active_ = false; }

private:
    F action_;
    bool active_ = true;
};

}  // namespace cooper
