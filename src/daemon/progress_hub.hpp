// ProgressHub: what builds tell their clients, kept so that whoever asks late is told everything from the beginning.
//
// Each build has a journal: a nameless file with its StatusResponse messages, each behind its length (32 bits, little
// endian), as the history keeps them too. Readers have an offset in it, so a client that does not read costs nothing,
// and memory holds one entry for each step and no log. Any thread.
#pragma once

#include "base/clock.hpp"
#include "base/guarded.hpp"
#include "base/progress.hpp"
#include "base/stop.hpp"
#include "sys/fd.hpp"

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

namespace cooper::daemon {

// How much a step may log. Negative: as much as it likes.
struct LogLimits {
    std::int64_t size_bytes = 2 << 20;
    std::int64_t bytes_per_second = 200 << 10;
};
// $BUILDKIT_STEP_LOG_MAX_SIZE and $BUILDKIT_STEP_LOG_MAX_SPEED change them, -1 switches them off.
[[nodiscard]] LogLimits log_limits_of_environment();

struct StepCounts {
    int total = 0;
    int completed = 0;
    int cached = 0;
    int warnings = 0;
};

class BuildProgress final : public ProgressSink {
public:
    BuildProgress(sys::Fd journal, const Clock& clock, LogLimits limits);

    // Writes to the page cache; never waits for a client. Statuses of one transfer are thinned out to ten a second.
    void emit(ProgressEvent event) override;
    // What has begun and has not ended is said to be cancelled; readers come to an end. Once.
    void close();

    // The next messages behind offset, joined (which is a StatusResponse, too) and at most about 1 MiB, unless one
    // message is larger. Waits for some; nullopt when the build is over and all has been read.
    Result<std::optional<std::string>> read(std::uint64_t& offset, const Stop& stop);
    [[nodiscard]] StepCounts counts();
    // Of the journal, for the history. After close().
    [[nodiscard]] Result<sys::Fd> duplicate_journal() const { return journal_.duplicate(); }

private:
    struct Step {
        VertexEvent last;
        bool announced_start = false;
        std::int64_t logged_bytes = 0;
        bool clipped_size = false;
        bool clipped_speed = false;
        std::unordered_map<std::string, Timestamp> statuses;  // when each was told last
    };
    struct State {
        std::unordered_map<Digest, Step> steps;
        std::uint64_t size_bytes = 0;
        int warnings = 0;
        bool closed = false;
        bool broken = false;  // the journal cannot be written: nothing more is told
    };
    void append(State& state, const std::string& message);
    void tell(State& state, VertexEvent event);
    void tell(State& state, StatusEvent event);
    void tell(State& state, LogEvent event);
    void tell(State& state, const WarningEvent& event);
    void append_vertex(State& state, const VertexEvent& event);
    void append_log(State& state, const LogEvent& event, std::string_view data);

    sys::Fd journal_;
    const Clock& clock_;
    LogLimits limits_;
    Guarded<State> state_;
};

// One message of a journal behind its length, as the journals and the history have it.
[[nodiscard]] std::string frame_of(std::string_view message);
// The messages from offset on, joined as BuildProgress::read() does; empty at the end.
[[nodiscard]] Result<std::string> read_journal(int fd, std::uint64_t& offset, std::uint64_t size_bytes);

class ProgressHub {
public:
    // Journals are nameless files in this folder, which exists.
    ProgressHub(std::string folder, const Clock& clock, LogLimits limits)
        : folder_(std::move(folder)), clock_(clock), limits_(limits) {}

    // already_exists while a build of this ref is open.
    Result<std::shared_ptr<BuildProgress>> open(const std::string& ref);
    // Readers that come within ten seconds still find it. Does nothing when it is closed.
    void close(const std::string& ref);
    // not_found when there is none after the wait.
    Result<std::shared_ptr<BuildProgress>> find(const std::string& ref, std::chrono::milliseconds wait,
                                                const Stop& stop);
    [[nodiscard]] std::size_t open_builds();
    [[nodiscard]] std::vector<std::string> open_refs();

private:
    struct Entry {
        std::shared_ptr<BuildProgress> progress;
        std::optional<Timestamp> closed;
    };
    using Entries = std::map<std::string, Entry>;
    void forget_old(Entries& entries) const;

    std::string folder_;
    const Clock& clock_;
    LogLimits limits_;
    Guarded<Entries> entries_;
};

}  // namespace cooper::daemon
