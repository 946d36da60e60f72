// Recorder: passes progress on, counts steps, and writes the build's log in the plain form to a file.
// Also the tool with which the engine shows work of its own as a step. Any thread.
#pragma once

#include "base/guarded.hpp"
#include "base/progress.hpp"
#include "sys/fd.hpp"

#include <memory>
#include <string>
#include <unordered_map>

namespace cooper::engine {

class Recorder final : public ProgressSink {
public:
    // log may be invalid: then nothing is written.
    Recorder(ProgressSink& next, sys::Fd log) : next_(next), log_(std::move(log)) {}
    void emit(ProgressEvent event) override;

    struct Counts {
        int steps = 0;
        int cached = 0;
    };
    [[nodiscard]] Counts counts();

private:
    struct State {
        std::unordered_map<Digest, int> index;
        std::unordered_map<Digest, Timestamp> started;
        std::unordered_map<Digest, bool> ended;
        int next_index = 0;
        Counts counts;
    };
    void write(State& state, const VertexEvent& event);
    void line(int index, std::string_view text);

    ProgressSink& next_;
    sys::Fd log_;
    Guarded<State> state_;
};

// Passes progress on and notes when each step ran, the last time that it did. Any thread.
class StepClock final : public ProgressSink {
public:
    explicit StepClock(ProgressSink& next) : next_(next) {}
    void emit(ProgressEvent event) override;
    struct Times {
        std::optional<Timestamp> started;
        std::optional<Timestamp> completed;
        bool cached = false;
    };
    [[nodiscard]] std::optional<Times> of(const Digest& step);

private:
    ProgressSink& next_;
    Guarded<std::unordered_map<Digest, Times>> times_;
};

// A step of the engine's own ("[internal] load metadata for …"): started when made; ends with done(),
// fail() or, without either, as cancelled.
class Activity {
public:
    Activity(ProgressSink& sink, const Clock& clock, const std::string& name);
    Activity(const Activity&) = delete;
    Activity& operator=(const Activity&) = delete;
    ~Activity();
    void done();
    void fail(const Error& error);
    [[nodiscard]] VertexProgress& progress() { return progress_; }

private:
    void end(std::string error, bool cancelled);
    ProgressSink& sink_;
    const Clock& clock_;
    VertexEvent vertex_;
    VertexProgress progress_;
    bool ended_ = false;
};

}  // namespace cooper::engine
