// Progress: what a build tells its client, as typed events in BuildKit's vocabulary (vertex, status,
// log, warning). Emitting never blocks and never fails.
#pragma once

#include "base/clock.hpp"
#include "base/digest.hpp"
#include "base/result.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace cooper {

// The client shows all vertices of one group as a single line with this name. A group of which only
// weak members have started stays hidden.
struct ProgressGroup {
    std::string id;
    std::string name;
    bool weak = false;
};

// State of a step. Sent again, whole, on every change; the last one wins.
struct VertexEvent {
    Digest digest;
    std::vector<Digest> inputs;
    std::string name;
    std::optional<Timestamp> started;
    std::optional<Timestamp> completed;
    bool cached = false;
    std::string error;  // empty = none
    bool cancelled = false;
    std::optional<ProgressGroup> group;
};

// A transfer or sub-task of a vertex: "sha256:ab12… 3.1MB / 28MB".
struct StatusEvent {
    std::string id;  // unique within its vertex
    Digest vertex;
    std::string name;
    std::int64_t current = 0;
    std::int64_t total = 0;  // 0 = unknown
    Timestamp timestamp;
    std::optional<Timestamp> started;
    std::optional<Timestamp> completed;
};

struct LogEvent {
    Digest vertex;
    int stream = 1;  // 1 stdout, 2 stderr
    std::string data;
    Timestamp timestamp;
};

struct WarningEvent {
    Digest vertex;
    int level = 1;
    std::string short_text;           // "JSONArgsRecommended: …"
    std::vector<std::string> detail;  // further lines
    std::string url;
    std::string rule;  // id of the check, may be empty
    std::optional<SourceRange> range;
    std::optional<SourceText> source;  // the file the range is about, for clients that show it
};

using ProgressEvent = std::variant<VertexEvent, StatusEvent, LogEvent, WarningEvent>;

class ProgressSink {
public:
    virtual ~ProgressSink() = default;
    // Any thread. Never blocks on the client.
    virtual void emit(ProgressEvent event) = 0;
};

class NullProgress final : public ProgressSink {
public:
    void emit(ProgressEvent /*event*/) override {}
};

// What an op sees: a sink bound to its own vertex.
class VertexProgress {
public:
    VertexProgress(ProgressSink& sink, Digest vertex, const Clock& clock)
        : sink_(sink), vertex_(vertex), clock_(clock) {}
    void log(int stream, std::string data);
    void status(std::string id, std::string name, std::int64_t current, std::int64_t total, bool done);
    void warn(WarningEvent warning);
    [[nodiscard]] const Digest& vertex() const { return vertex_; }
    [[nodiscard]] ProgressSink& sink() { return sink_; }

private:
    ProgressSink& sink_;
    Digest vertex_;
    const Clock& clock_;
};

}  // namespace cooper
