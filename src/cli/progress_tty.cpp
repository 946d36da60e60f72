#include "cli/progress_tty.hpp"

#include "base/text.hpp"

#include <algorithm>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace cooper::cli {

namespace {

constexpr std::chrono::milliseconds kFrame{100};
constexpr std::size_t kTailLines = 6;
constexpr std::string_view kBold = "1";
constexpr std::string_view kDim = "2";
constexpr std::string_view kRed = "31";
constexpr std::string_view kGreen = "32";
constexpr std::string_view kYellow = "33";
constexpr std::string_view kBlue = "34";
constexpr std::string_view kCyan = "36";

double seconds_between(Timestamp from, Timestamp to) {
    return std::max(0.0, std::chrono::duration<double>(to - from).count());
}

std::size_t columns_of(std::string_view text) {
    return static_cast<std::size_t>(std::count_if(
        text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

}  // namespace

std::string fit(std::string_view text, std::size_t columns) {
    std::string out;
    std::size_t used = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto byte = static_cast<unsigned char>(text[i]);
        if (byte == 0x1b) {  // skip an escape sequence: CSI … final byte, or one character
            if (i + 1 < text.size() && text[i + 1] == '[') {
                i += 2;
                while (i < text.size() && (text[i] < '@' || text[i] > '~')) ++i;
            } else {
                ++i;
            }
            continue;
        }
        const bool starts = (byte & 0xC0U) != 0x80U;
        if (starts && used == columns) {
            // Room for the mark: drop the last code point.
            while (!out.empty() && (static_cast<unsigned char>(out.back()) & 0xC0U) == 0x80U) out.pop_back();
            if (!out.empty()) out.pop_back();
            return out + "…";
        }
        if (byte == '\t') {
            out += ' ';
        } else if (byte < 0x20 || byte == 0x7f) {
            continue;
        } else {
            out += text[i];
        }
        if (starts) ++used;
    }
    return out;
}

TtyProgress::TtyProgress(int fd, TerminalStyle style)
    : fd_(fd), style_(style), began_(SystemClock().now()), thread_([this] { run(); }) {}

TtyProgress::~TtyProgress() { finish(); }

void TtyProgress::finish() {
    inbox_.lock()->closing = true;
    inbox_.notify_all();
    if (thread_.joinable()) thread_.join();
}

void TtyProgress::emit(ProgressEvent event) { inbox_.lock()->events.push_back(std::move(event)); }

void TtyProgress::run() noexcept {
    while (true) {
        std::deque<ProgressEvent> events;
        bool closing = false;
        {
            auto inbox = inbox_.lock();
            inbox.wait_for({}, kFrame, [&] { return inbox->closing; });
            events.swap(inbox->events);
            closing = inbox->closing;
        }
        for (auto& event : events) take(std::move(event));
        draw(closing);
        if (closing) return;
    }
}

void TtyProgress::take(ProgressEvent event) {
    const auto find = [this](const Digest& digest) -> Row& {
        auto [at, added] = rows_.try_emplace(digest);
        if (added) order_.push_back(digest);
        return at->second;
    };
    if (auto* vertex = std::get_if<VertexEvent>(&event)) {
        Row& row = find(vertex->digest);
        if (!vertex->error.empty() && !vertex->cancelled) failed_ = true;
        row.vertex = std::move(*vertex);
    } else if (auto* status = std::get_if<StatusEvent>(&event)) {
        auto& statuses = find(status->vertex).statuses;
        const auto same =
            std::find_if(statuses.begin(), statuses.end(), [&](const auto& s) { return s.id == status->id; });
        if (same == statuses.end()) {
            statuses.push_back(std::move(*status));
        } else {
            *same = std::move(*status);
        }
    } else if (auto* log = std::get_if<LogEvent>(&event)) {
        Row& row = find(log->vertex);
        row.partial += log->data;
        for (auto end = row.partial.find('\n'); end != std::string::npos; end = row.partial.find('\n')) {
            std::string line = row.partial.substr(0, end);
            row.partial.erase(0, end + 1);
            if (line.ends_with('\r')) line.pop_back();
            if (const auto back = line.rfind('\r'); back != std::string::npos) line.erase(0, back + 1);
            row.tail.push_back(std::move(line));
            if (row.tail.size() > kTailLines) row.tail.pop_front();
        }
        if (row.partial.size() > 4096) row.partial.erase(0, row.partial.size() - 4096);
    } else if (auto* warning = std::get_if<WarningEvent>(&event)) {
        if (warning->vertex.empty()) {
            loose_warnings_.push_back(std::move(*warning));
        } else {
            find(warning->vertex).warnings.push_back(std::move(warning->short_text));
        }
    }
}

std::string TtyProgress::paint(std::string_view text, std::string_view sgr) const {
    if (!style_.color) return std::string(text);
    return fmt::format("\x1b[{}m{}\x1b[0m", sgr, text);
}

std::string TtyProgress::step_line(const Row& row, std::size_t width) const {
    const VertexEvent& vertex = row.vertex;
    const Timestamp end = vertex.completed.value_or(SystemClock().now());
    std::string mark = paint(style_.unicode ? "▸" : ">", kBlue);
    std::string right = fmt::format("{:.1f}s", seconds_between(*vertex.started, end));
    std::string_view right_color = kDim;
    if (vertex.cancelled) {
        mark = paint(style_.unicode ? "◌" : "-", kYellow);
        right = "CANCELED";
        right_color = kYellow;
    } else if (!vertex.error.empty()) {
        mark = paint(style_.unicode ? "✘" : "x", kRed);
        right = "ERROR " + right;
        right_color = kRed;
    } else if (vertex.completed && vertex.cached) {
        mark = paint(style_.unicode ? "✔" : "=", kGreen);
        right = "CACHED";
        right_color = kGreen;
    } else if (vertex.completed) {
        mark = paint(style_.unicode ? "✔" : "=", kGreen);
    }
    const std::string& name = vertex.group && !vertex.group->name.empty() ? vertex.group->name : vertex.name;
    const std::size_t used = 4 + right.size() + 1;
    const std::string shown = fit(name, width > used + 8 ? width - used : 8);
    const std::size_t gap = width > used + columns_of(shown) ? width - used - columns_of(shown) : 0;
    return fmt::format(" {} {}{} {}", mark, shown, std::string(gap, ' '), paint(right, right_color));
}

std::string TtyProgress::summary(bool last) const {
    std::size_t done = 0;
    std::size_t cached = 0;
    std::size_t total = 0;
    for (const auto& [digest, row] : rows_) {
        if (row.vertex.name.empty()) continue;
        ++total;
        if (row.vertex.completed) ++done;
        if (row.vertex.completed && row.vertex.cached) ++cached;
    }
    std::string text =
        fmt::format("[+] Building {:.1f}s ({}/{})", seconds_between(began_, SystemClock().now()), done, total);
    if (cached > 0) text += fmt::format(", {} cached", cached);
    if (last) text += failed_ ? " FAILED" : " FINISHED";
    return paint(text, failed_ ? kRed : (last ? kGreen : kBold));
}

void TtyProgress::draw_finished(std::string& frame) {
    winsize size{};
    const std::size_t width = ::ioctl(fd_, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
    for (const Digest& digest : order_) {
        Row& row = rows_[digest];
        if (row.printed || !row.vertex.started || !row.vertex.completed) continue;
        row.printed = true;
        if (row.vertex.group && row.vertex.group->weak && row.vertex.error.empty()) continue;
        frame += step_line(row, width) + "\x1b[K\n";
        for (const auto& status : row.statuses) {
            // Why it ran; of what is built for the first time there is nothing to say.
            if (!status.id.starts_with("ran: ") || status.id == "ran: not built before") continue;
            frame += "   " + paint(fit(status.id, width - 4), kDim) + "\x1b[K\n";
        }
        for (const auto& warning : row.warnings) {
            frame += "   " + paint(fit("! " + warning, width - 4), kYellow) + "\x1b[K\n";
        }
    }
}

std::vector<std::string> TtyProgress::live_lines(std::size_t width, std::size_t height) const {
    std::vector<const Row*> running;
    for (const Digest& digest : order_) {
        const Row& row = rows_.at(digest);
        if (row.vertex.started && !row.vertex.completed) running.push_back(&row);
    }
    std::vector<std::string> lines;
    if (height < 3) return lines;
    // Room is shared fairly: each running step has its line, what is left goes to logs and transfers.
    const std::size_t shown = std::min(running.size(), height - 1);
    const std::size_t spare = height - 1 - shown;
    const std::size_t each = shown == 0 ? 0 : std::min(kTailLines, spare / shown);
    for (std::size_t i = 0; i < shown; ++i) {
        const Row& row = *running[i];
        lines.push_back(step_line(row, width));
        std::size_t room = each;
        for (const auto& status : row.statuses) {
            if (room == 0) break;
            if (status.completed) continue;
            std::string text = status.name.empty() ? status.id : status.name;
            if (status.total > 0) {
                const auto filled =
                    static_cast<std::size_t>(std::clamp<std::int64_t>(status.current * 20 / status.total, 0, 20));
                text = fmt::format("{} {}{} {} / {}", fit(text, 24), std::string(filled, '#'),
                                   std::string(20 - filled, '.'), transfer_size(status.current),
                                   transfer_size(status.total));
            } else if (status.current > 0) {
                text += " " + transfer_size(status.current);
            }
            lines.push_back("   " + paint(fit(text, width - 4), kCyan));
            --room;
        }
        const std::size_t skip = row.tail.size() > room ? row.tail.size() - room : 0;
        for (std::size_t k = skip; k < row.tail.size(); ++k) {
            const std::string bar = style_.unicode ? "│ " : "| ";
            lines.push_back("   " + paint(bar + fit(row.tail[k], width - 6), kDim));
        }
    }
    return lines;
}

void TtyProgress::draw(bool last) {
    winsize size{};
    std::size_t width = 80;
    std::size_t height = 24;
    if (::ioctl(fd_, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
        width = size.ws_col;
        height = size.ws_row;
    }
    width = std::max<std::size_t>(width, 20);
    std::string frame = "\x1b[?25l";
    if (live_height_ > 0) frame += fmt::format("\x1b[{}A", live_height_);
    frame += "\r";
    draw_finished(frame);
    std::vector<std::string> live =
        last ? std::vector<std::string>{} : live_lines(width, std::min<std::size_t>(height, 40) - 1);
    if (!last || !rows_.empty()) live.push_back(summary(last));
    for (const auto& line : live) frame += line + "\x1b[K\n";
    frame += "\x1b[J";
    live_height_ = live.size();
    if (last && !loose_warnings_.empty()) {
        frame +=
            "\n " + paint(warnings_heading(loose_warnings_.size()), kYellow) + "\n" + warnings_list(loose_warnings_);
    }
    frame += "\x1b[?25h";
    std::string_view rest = frame;
    while (!rest.empty()) {
        const ssize_t n = ::write(fd_, rest.data(), rest.size());
        if (n <= 0) break;
        rest.remove_prefix(static_cast<std::size_t>(n));
    }
}

}  // namespace cooper::cli
