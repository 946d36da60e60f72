// Progress on a terminal. Finished steps become lines that stay in the scrollback; below them a live
// area shows the steps that run, with timers, their last log lines and transfers, redrawn in place.
// Any thread may emit; one thread draws.
#pragma once

#include "base/guarded.hpp"
#include "base/progress.hpp"
#include "cli/progress_plain.hpp"

#include <deque>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

namespace cooper::cli {

struct TerminalStyle {
    bool color = true;    // NO_COLOR unset
    bool unicode = true;  // a UTF-8 locale
};

class TtyProgress final : public ProgressSink {
public:
    // fd must be a terminal; it stays the caller's.
    TtyProgress(int fd, TerminalStyle style);
    TtyProgress(const TtyProgress&) = delete;
    TtyProgress& operator=(const TtyProgress&) = delete;
    ~TtyProgress() override;

    void emit(ProgressEvent event) override;
    // Draws the last state and the summary line, then joins.
    void finish();

private:
    struct Inbox {
        std::deque<ProgressEvent> events;
        bool closing = false;
    };
    struct Row {
        VertexEvent vertex;
        std::deque<std::string> tail;  // last log lines
        std::string partial;
        std::vector<StatusEvent> statuses;
        std::vector<std::string> warnings;
        bool printed = false;  // its permanent line is out
    };
    void run() noexcept;
    void take(ProgressEvent event);
    void draw(bool last);
    void draw_finished(std::string& frame);
    [[nodiscard]] std::vector<std::string> live_lines(std::size_t width, std::size_t height) const;
    [[nodiscard]] std::string step_line(const Row& row, std::size_t width) const;
    [[nodiscard]] std::string summary(bool last) const;
    [[nodiscard]] std::string paint(std::string_view text, std::string_view sgr) const;

    int fd_;
    TerminalStyle style_;
    Guarded<Inbox> inbox_;
    std::unordered_map<Digest, Row> rows_;
    std::vector<Digest> order_;
    Timestamp began_;
    std::size_t live_height_ = 0;  // lines of the live area on the screen
    bool failed_ = false;
    std::vector<WarningEvent> loose_warnings_;  // of the Dockerfile, printed at the end
    std::jthread thread_;
};

// Text cut to a number of columns (code points; "…" at the end when cut). Control bytes and escape
// sequences of programs are dropped, so that a log cannot move the cursor.
[[nodiscard]] std::string fit(std::string_view text, std::size_t columns);

}  // namespace cooper::cli
