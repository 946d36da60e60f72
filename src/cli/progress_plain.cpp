#include "cli/progress_plain.hpp"

#include "base/log.hpp"
#include "base/text.hpp"

#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <unistd.h>

namespace cooper::cli {

namespace {

// A step that has been silent this long gives way to another one that speaks.
constexpr std::chrono::seconds kPatience{5};
constexpr std::chrono::milliseconds kBatch{20};

double seconds_between(Timestamp from, Timestamp to) { return std::chrono::duration<double>(to - from).count(); }

}  // namespace

std::string transfer_size(std::int64_t size_bytes) {
    static constexpr std::array<std::string_view, 5> kUnits = {"B", "kB", "MB", "GB", "TB"};
    auto value = static_cast<double>(size_bytes);
    std::size_t unit = 0;
    while (value >= 1000 && unit + 1 < kUnits.size()) {
        value /= 1000;
        ++unit;
    }
    if (unit == 0) return fmt::format("{}B", size_bytes);
    return fmt::format("{:.2f}{}", value, kUnits.at(unit));
}

std::string warnings_heading(std::size_t count) {
    const std::string_view hint = log::enabled(log::Level::debug) ? "" : " (use --debug to expand)";
    return fmt::format("{} warning{} found{}:", count, count == 1 ? "" : "s", hint);
}

std::string warnings_list(const std::vector<WarningEvent>& warnings) {
    std::string text;
    for (const auto& warning : warnings) {
        text += " - " + warning.short_text + "\n";
        if (!log::enabled(log::Level::debug)) continue;
        for (const auto& line : warning.detail) text += line + "\n";
        if (!warning.url.empty()) text += "More info: " + warning.url + "\n";
        text += "\n";
    }
    return text;
}

PlainProgress::PlainProgress(int fd) : fd_(fd), thread_([this] { run(); }) {}

PlainProgress::~PlainProgress() { finish(); }

void PlainProgress::finish() {
    inbox_.lock()->closing = true;
    inbox_.notify_all();
    if (thread_.joinable()) thread_.join();
}

void PlainProgress::emit(ProgressEvent event) {
    {
        auto inbox = inbox_.lock();
        inbox->events.push_back(std::move(event));
        if (inbox->events.size() > 1) return;  // the printer is awake already
    }
    inbox_.notify_one();
}

void PlainProgress::run() noexcept {
    while (true) {
        std::deque<ProgressEvent> events;
        bool closing = false;
        {
            auto inbox = inbox_.lock();
            if (inbox->events.empty() && !inbox->closing) {
                inbox.wait_for({}, kPatience, [&] { return inbox->closing || !inbox->events.empty(); });
            }
            // Gather a little, so that a burst of short steps is printed in few writes.
            if (!inbox->closing) inbox.wait_for({}, kBatch, [&] { return inbox->closing; });
            events.swap(inbox->events);
            closing = inbox->closing;
        }
        for (auto& event : events) take(std::move(event));
        print_ready(closing);
        if (closing && events.empty() && !loose_warnings_.empty()) {
            out_ += "\n " + warnings_heading(loose_warnings_.size()) + "\n" + warnings_list(loose_warnings_);
        }
        flush();
        if (closing && events.empty()) return;
    }
}

void PlainProgress::take(ProgressEvent event) {
    const auto find = [this](const Digest& digest) -> StepView& {
        auto [at, added] = steps_.try_emplace(digest);
        if (added) order_.push_back(digest);
        at->second.changed = true;
        return at->second;
    };
    if (auto* vertex = std::get_if<VertexEvent>(&event)) {
        StepView& step = find(vertex->digest);
        if (vertex->started && step.ended && !vertex->completed) step.ended = false;
        step.vertex = std::move(*vertex);
    } else if (auto* status = std::get_if<StatusEvent>(&event)) {
        StepView& step = find(status->vertex);
        step.changed_statuses.push_back(status->id);
        step.statuses[status->id] = std::move(*status);
    } else if (auto* log = std::get_if<LogEvent>(&event)) {
        find(log->vertex).logs.push_back(std::move(*log));
    } else if (auto* warning = std::get_if<WarningEvent>(&event)) {
        if (warning->vertex.empty()) {
            loose_warnings_.push_back(std::move(*warning));
        } else {
            find(warning->vertex).warnings.push_back(std::move(*warning));
        }
    }
}

void PlainProgress::print_ready(bool closing) {
    // Steps that ended come first, the one on the screen before the others.
    const auto printable = [](const StepView& step) { return step.vertex.started && !step.ended; };
    if (auto at = steps_.find(current_); at != steps_.end() && printable(at->second)) print_step(current_);
    for (const Digest& digest : order_) {
        StepView& step = steps_[digest];
        if (printable(step) && (step.vertex.completed || closing)) print_step(digest);
    }
    const Timestamp now = SystemClock().now();
    const auto at = steps_.find(current_);
    const bool busy = at != steps_.end() && !at->second.ended && now - current_since_ < kPatience;
    if (busy) return;
    for (const Digest& digest : order_) {
        StepView& step = steps_[digest];
        if (!printable(step) || digest == current_) continue;
        if (step.index != 0 && !step.changed) continue;
        print_step(digest);
        return;
    }
}

void PlainProgress::print_step(const Digest& digest) {
    StepView& step = steps_[digest];
    if (step.vertex.group && step.vertex.group->weak && step.vertex.completed && step.vertex.error.empty() &&
        step.index == 0) {
        // A weak member of a progress group stays behind the group's other members.
        step.ended = true;
        return;
    }
    if (step.index == 0) step.index = ++next_index_;
    if (current_ != digest) {
        if (auto old = steps_.find(current_); old != steps_.end() && !old->second.ended) line(old->second, "...");
        if (anything_printed_) out_ += "\n";
        anything_printed_ = true;
        line(step, step.vertex.group && !step.vertex.group->name.empty() ? step.vertex.group->name : step.vertex.name);
        current_ = digest;
        current_since_ = SystemClock().now();
    }
    if (step.changed) current_since_ = SystemClock().now();
    step.changed = false;
    print_statuses(step);
    for (const WarningEvent& warning : step.warnings) line(step, "WARN: " + warning.short_text);
    step.warnings.clear();
    print_logs(step, step.vertex.completed.has_value());
    if (step.vertex.completed) print_end(step);
}

void PlainProgress::print_statuses(StepView& step) {
    std::vector<std::string> changed;
    changed.swap(step.changed_statuses);
    for (std::size_t i = 0; i < changed.size(); ++i) {
        if (std::find(changed.begin() + static_cast<std::ptrdiff_t>(i) + 1, changed.end(), changed[i]) !=
            changed.end()) {
            continue;  // only its last state
        }
        const StatusEvent& status = step.statuses[changed[i]];
        const std::string key = step.vertex.digest.hex() + status.id;
        if (auto last = last_status_.find(key); last != last_status_.end() && !status.completed) {
            const bool grew = status.total > 0 && (status.current - last->second.current) * 20 >= status.total;
            if (!grew && status.timestamp - last->second.timestamp < kPatience) continue;
        }
        last_status_[key] = status;
        std::string text = status.name.empty() ? status.id : status.name;
        if (status.total > 0) {
            text += fmt::format(" {} / {}", transfer_size(status.current), transfer_size(status.total));
        } else if (status.current > 0) {
            text += " " + transfer_size(status.current);
        }
        if (status.started) {
            const double took = seconds_between(*status.started, status.completed.value_or(status.timestamp));
            if (took > 0.01) text += fmt::format(" {:.1f}s", took);
        }
        if (status.completed) text += " done";
        line(step, text);
    }
}

void PlainProgress::print_logs(StepView& step, bool with_partial) {
    for (const LogEvent& log : step.logs) {
        const double at = step.vertex.started ? seconds_between(*step.vertex.started, log.timestamp) : 0;
        std::string_view text = log.data;
        while (!text.empty()) {
            const std::size_t end = text.find('\n');
            step.partial_line += text.substr(0, end);
            if (end == std::string_view::npos) break;
            // A carriage return rewrites the line: what was last written stands.
            std::string_view shown = step.partial_line;
            if (shown.ends_with('\r')) shown.remove_suffix(1);
            if (const auto back = shown.rfind('\r'); back != std::string_view::npos) shown.remove_prefix(back + 1);
            line(step, fmt::format("{:.3f} {}", std::max(at, 0.0), shown));
            step.partial_line.clear();
            text.remove_prefix(end + 1);
        }
    }
    const Timestamp last = step.logs.empty() ? Timestamp{} : step.logs.back().timestamp;
    step.logs.clear();
    if (with_partial && !step.partial_line.empty()) {
        const double at = step.vertex.started && last != Timestamp{} ? seconds_between(*step.vertex.started, last) : 0;
        line(step, fmt::format("{:.3f} {}", std::max(at, 0.0), step.partial_line));
        step.partial_line.clear();
    }
}

void PlainProgress::print_end(StepView& step) {
    step.ended = true;
    if (step.vertex.cancelled) {
        line(step, "CANCELED");
    } else if (!step.vertex.error.empty()) {
        line(step, "ERROR: " + step.vertex.error);
    } else if (step.vertex.cached) {
        line(step, "CACHED");
    } else {
        const double took = step.vertex.started ? seconds_between(*step.vertex.started, *step.vertex.completed) : 0;
        line(step, fmt::format("DONE {:.1f}s", std::max(took, 0.0)));
    }
}

void PlainProgress::line(const StepView& step, std::string_view text) {
    out_ += fmt::format("#{} ", step.index);
    out_ += text;
    out_ += "\n";
}

void PlainProgress::flush() {
    std::string_view rest = out_;
    while (!rest.empty()) {
        const ssize_t n = ::write(fd_, rest.data(), rest.size());
        if (n <= 0) break;  // nobody reads any more; the build goes on
        rest.remove_prefix(static_cast<std::size_t>(n));
    }
    out_.clear();
}

}  // namespace cooper::cli
