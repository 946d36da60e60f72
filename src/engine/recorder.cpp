#include "engine/recorder.hpp"

#include "base/text.hpp"
#include "codec/sha256.hpp"

#include <atomic>

namespace cooper::engine {

namespace {

double seconds_between(Timestamp from, Timestamp to) { return std::chrono::duration<double>(to - from).count(); }

Digest next_activity_digest(const std::string& name) {
    static std::atomic<std::uint64_t> counter{0};
    return codec::sha256_of(fmt::format("activity {} {}", ++counter, name));
}

}  // namespace

void Recorder::line(int index, std::string_view text) {
    if (log_.valid()) static_cast<void>(sys::write_all(log_.get(), fmt::format("#{} {}\n", index, text)));
}

void Recorder::write(State& state, const VertexEvent& event) {
    if (!event.started) return;
    auto [at, added] = state.index.try_emplace(event.digest, 0);
    if (added) {
        at->second = ++state.next_index;
        line(at->second, event.name);
    }
    state.started[event.digest] = *event.started;
    if (!event.completed || state.ended[event.digest]) return;
    state.ended[event.digest] = true;
    ++state.counts.steps;
    if (event.cached) ++state.counts.cached;
    if (event.cancelled) {
        line(at->second, "CANCELED");
    } else if (!event.error.empty()) {
        line(at->second, "ERROR: " + event.error);
    } else if (event.cached) {
        line(at->second, "CACHED");
    } else {
        line(at->second, fmt::format("DONE {:.1f}s", std::max(0.0, seconds_between(*event.started, *event.completed))));
    }
}

void Recorder::emit(ProgressEvent event) {
    {
        auto state = state_.lock();
        if (const auto* vertex = std::get_if<VertexEvent>(&event)) {
            write(*state, *vertex);
        } else if (const auto* log = std::get_if<LogEvent>(&event)) {
            const auto index = state->index.find(log->vertex);
            const double at = seconds_between(state->started[log->vertex], log->timestamp);
            if (index != state->index.end()) {
                for (const auto& text : split(trim(log->data), '\n'))
                    line(index->second, fmt::format("{:.3f} {}", at, text));
            }
        } else if (const auto* warning = std::get_if<WarningEvent>(&event)) {
            const auto index = state->index.find(warning->vertex);
            line(index == state->index.end() ? 0 : index->second, "WARN: " + warning->short_text);
        }
    }
    next_.emit(std::move(event));
}

Recorder::Counts Recorder::counts() { return state_.lock()->counts; }

void StepClock::emit(ProgressEvent event) {
    if (const auto* vertex = std::get_if<VertexEvent>(&event))
        times_.lock()->insert_or_assign(vertex->digest, Times{vertex->started, vertex->completed, vertex->cached});
    next_.emit(std::move(event));
}

std::optional<StepClock::Times> StepClock::of(const Digest& step) {
    auto times = times_.lock();
    const auto found = times->find(step);
    return found == times->end() ? std::nullopt : std::optional(found->second);
}

Activity::Activity(ProgressSink& sink, const Clock& clock, const std::string& name)
    : sink_(sink), clock_(clock), vertex_(), progress_(sink, next_activity_digest(name), clock) {
    vertex_.digest = progress_.vertex();
    vertex_.name = name;
    vertex_.started = clock.now();
    sink_.emit(vertex_);
}

Activity::~Activity() {
    if (!ended_) end("canceled", true);
}

void Activity::done() { end("", false); }
void Activity::fail(const Error& error) { end(error.to_string(), error.is_cancelled()); }

void Activity::end(std::string error, bool cancelled) {
    ended_ = true;
    vertex_.completed = clock_.now();
    vertex_.error = std::move(error);
    vertex_.cancelled = cancelled;
    sink_.emit(vertex_);
}

}  // namespace cooper::engine
