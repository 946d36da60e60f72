// Audience: the jobs that watch one vertex, as one ProgressSink.
//
// Pool threads emit while the scheduler adds and removes jobs, so the list has a lock of its own; it is
// held while emitting, which by contract never blocks. After remove() returns, a sink is not used again.
// Who joins late is told what the vertex has printed and transferred so far, the newest of it.
#pragma once

#include "base/guarded.hpp"
#include "base/progress.hpp"

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace cooper::solver {

class Audience final : public ProgressSink {
public:
    void emit(ProgressEvent event) override {
        auto state = state_.lock();
        remember(*state, event);
        for (std::size_t i = 0; i + 1 < state->sinks.size(); ++i) state->sinks[i]->emit(event);
        if (!state->sinks.empty()) state->sinks.back()->emit(std::move(event));
    }
    // `now`: where the vertex stands, when there is something to tell of it.
    void add(ProgressSink& sink, std::optional<VertexEvent> now) {
        auto state = state_.lock();
        if (std::ranges::find(state->sinks, &sink) != state->sinks.end()) return;
        state->sinks.push_back(&sink);
        if (!now) return;
        // An end is the last word.
        const bool ended = now->completed.has_value();
        VertexEvent running = *now;
        running.completed.reset();
        if (!ended || !is_silent(*state)) sink.emit(std::move(running));
        for (const auto& [id, status] : state->statuses) sink.emit(status);
        for (const auto& warning : state->warnings) sink.emit(warning);
        for (const auto& log : state->logs) sink.emit(log);
        if (ended) sink.emit(std::move(*now));
    }
    void remove(ProgressSink& sink) { std::erase(state_.lock()->sinks, &sink); }

private:
    static constexpr std::size_t kLogBytes = 1 << 20;
    static constexpr std::size_t kPieces = 10'000;

    struct State {
        std::vector<ProgressSink*> sinks;
        std::deque<LogEvent> logs;
        std::size_t log_bytes = 0;
        std::map<std::string, StatusEvent> statuses;  // the last of each
        std::vector<WarningEvent> warnings;
    };
    static bool is_silent(const State& state) {
        return state.logs.empty() && state.statuses.empty() && state.warnings.empty();
    }
    static void remember(State& state, const ProgressEvent& event) {
        if (const auto* log = std::get_if<LogEvent>(&event)) {
            state.logs.push_back(*log);
            state.log_bytes += log->data.size();
            while (state.log_bytes > kLogBytes || state.logs.size() > kPieces) {
                state.log_bytes -= state.logs.front().data.size();
                state.logs.pop_front();
            }
        } else if (const auto* status = std::get_if<StatusEvent>(&event)) {
            if (state.statuses.size() < kPieces || state.statuses.contains(status->id))
                state.statuses.insert_or_assign(status->id, *status);
        } else if (const auto* warning = std::get_if<WarningEvent>(&event)) {
            if (state.warnings.size() < kPieces) state.warnings.push_back(*warning);
        }
    }

    Guarded<State> state_;
};

}  // namespace cooper::solver
