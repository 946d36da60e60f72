// Audience: the jobs that watch one vertex, as one ProgressSink.
//
// Pool threads emit while the scheduler adds and removes jobs, so the list has a lock of its own; it is
// held while emitting, which by contract never blocks. After remove() returns, a sink is not used again.
#pragma once

#include "base/guarded.hpp"
#include "base/progress.hpp"

#include <algorithm>
#include <vector>

namespace cooper::solver {

class Audience final : public ProgressSink {
public:
    void emit(ProgressEvent event) override {
        auto sinks = sinks_.lock();
        for (std::size_t i = 0; i + 1 < sinks->size(); ++i) (*sinks)[i]->emit(event);
        if (!sinks->empty()) sinks->back()->emit(std::move(event));
    }
    void add(ProgressSink& sink) {
        auto sinks = sinks_.lock();
        if (std::ranges::find(*sinks, &sink) == sinks->end()) sinks->push_back(&sink);
    }
    void remove(ProgressSink& sink) { std::erase(*sinks_.lock(), &sink); }

private:
    Guarded<std::vector<ProgressSink*>> sinks_;
};

}  // namespace cooper::solver
