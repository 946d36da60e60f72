// Progress as plain lines, the form BuildKit prints with --progress=plain:
//
//     #12 [stage-1 3/8] RUN pip install -r requirements.txt
//     #12 0.542 Collecting fastapi==0.104.1
//     #12 DONE 3.2s
//
// One step is printed at a time; a step that is silent for a while gives way to one that speaks
// ("#12 ..."). Any thread may emit; a thread of its own writes, so a slow terminal never blocks work.
#pragma once

#include "base/guarded.hpp"
#include "base/progress.hpp"

#include <deque>
#include <map>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

namespace cooper::cli {

// What a display knows of one step.
struct StepView {
    VertexEvent vertex;
    int index = 0;               // 0 = not printed yet
    std::vector<LogEvent> logs;  // not printed yet
    std::string partial_line;    // text after the last newline
    std::map<std::string, StatusEvent> statuses;
    std::vector<std::string> changed_statuses;
    std::vector<WarningEvent> warnings;  // not printed yet
    bool ended = false;                  // its last line is printed
    bool changed = false;
};

class PlainProgress final : public ProgressSink {
public:
    // Lines go to fd, which stays the caller's.
    explicit PlainProgress(int fd);
    PlainProgress(const PlainProgress&) = delete;
    PlainProgress& operator=(const PlainProgress&) = delete;
    ~PlainProgress() override;

    void emit(ProgressEvent event) override;
    // Prints what is left, then joins. Called by the destructor as well.
    void finish();

private:
    struct Inbox {
        std::deque<ProgressEvent> events;
        bool closing = false;
    };
    void run() noexcept;
    void take(ProgressEvent event);
    void print_ready(bool closing);
    void print_step(const Digest& digest);
    void print_statuses(StepView& step);
    void print_logs(StepView& step, bool with_partial);
    void print_end(StepView& step);
    void line(const StepView& step, std::string_view text);
    void flush();

    std::vector<WarningEvent> loose_warnings_;  // of the Dockerfile, printed at the end
    int fd_;
    Guarded<Inbox> inbox_;
    std::unordered_map<Digest, StepView> steps_;
    std::vector<Digest> order_;  // of first appearance
    std::unordered_map<std::string, StatusEvent> last_status_;
    Digest current_;
    Timestamp current_since_{};
    int next_index_ = 0;
    bool anything_printed_ = false;
    std::string out_;
    std::jthread thread_;
};

// What stands at the end of a build that had warnings about its Dockerfile: "2 warnings found …:", and a
// line for each, with --debug also why it matters and its page.
[[nodiscard]] std::string warnings_heading(std::size_t count);
[[nodiscard]] std::string warnings_list(const std::vector<WarningEvent>& warnings);

// "1.53MB", two decimals as BuildKit prints transfers.
[[nodiscard]] std::string transfer_size(std::int64_t size_bytes);

}  // namespace cooper::cli
