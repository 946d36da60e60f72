#include "daemon/progress_hub.hpp"

#include "base/text.hpp"
#include "daemon/detail/timestamps.hpp"
#include "proto/control.pb.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <fcntl.h>
#include <unistd.h>

namespace cooper::daemon {

namespace {

using moby::buildkit::v1::StatusResponse;

constexpr std::size_t kBatchBytes = 1 << 20;
constexpr std::uint64_t kLargestFrame = 16 << 20;
constexpr auto kStatusPause = std::chrono::milliseconds(100);
constexpr auto kKeptAfterEnd = std::chrono::seconds(10);
constexpr std::size_t kStatusesOfOneStep = 10'000;

// "2MiB", as clients are used to read it.
std::string size_text(std::int64_t bytes) {
    if (bytes >= 1 << 20 && bytes % (1 << 20) == 0) return fmt::format("{}MiB", bytes >> 20);
    if (bytes >= 1 << 10) return fmt::format("{}KiB", bytes >> 10);
    return fmt::format("{}B", bytes);
}

std::int64_t limit_of_environment(const char* name, std::int64_t otherwise) {
    const char* text = std::getenv(name);
    if (text == nullptr) return otherwise;
    return parse_int(text).value_or(otherwise);
}

bool read_exactly(int fd, char* to, std::size_t size, std::uint64_t offset) {
    while (size > 0) {
        const ssize_t got = ::pread(fd, to, size, static_cast<off_t>(offset));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        to += got;
        size -= static_cast<std::size_t>(got);
        offset += static_cast<std::uint64_t>(got);
    }
    return true;
}

std::uint64_t frame_size(const std::array<char, 4>& header) {
    std::uint64_t size = 0;
    for (std::size_t i = 0; i < 4; ++i) size |= std::uint64_t{static_cast<unsigned char>(header[i])} << (8 * i);
    return size;
}

}  // namespace

LogLimits log_limits_of_environment() {
    LogLimits limits;
    limits.size_bytes = limit_of_environment("BUILDKIT_STEP_LOG_MAX_SIZE", limits.size_bytes);
    limits.bytes_per_second = limit_of_environment("BUILDKIT_STEP_LOG_MAX_SPEED", limits.bytes_per_second);
    return limits;
}

std::string frame_of(std::string_view message) {
    std::string frame;
    frame.reserve(message.size() + 4);
    for (std::size_t i = 0; i < 4; ++i) frame.push_back(static_cast<char>((message.size() >> (8 * i)) & 0xff));
    frame.append(message);
    return frame;
}

Result<std::string> read_journal(int fd, std::uint64_t& offset, std::uint64_t size_bytes) {
    std::string joined;
    while (offset < size_bytes) {
        std::array<char, 4> header{};
        if (!read_exactly(fd, header.data(), header.size(), offset)) {
            return fail(Code::data_loss, Blame::cooper, "the log of the build ends early, at byte {}", offset);
        }
        const std::uint64_t size = frame_size(header);
        if (size > kLargestFrame) {
            return fail(Code::data_loss, Blame::cooper, "the log of the build is damaged at byte {}", offset);
        }
        if (!joined.empty() && joined.size() + size > kBatchBytes) break;
        const std::size_t before = joined.size();
        joined.resize(before + size);
        if (!read_exactly(fd, joined.data() + before, size, offset + 4)) {
            return fail(Code::data_loss, Blame::cooper, "the log of the build ends early, at byte {}", offset);
        }
        offset += 4 + size;
    }
    return joined;
}

BuildProgress::BuildProgress(sys::Fd journal, const Clock& clock, LogLimits limits)
    : journal_(std::move(journal)), clock_(clock), limits_(limits) {}

void BuildProgress::append(State& state, const std::string& message) {
    if (state.broken || message.empty()) return;
    const std::string frame = frame_of(message);
    std::string_view left = frame;
    std::uint64_t at = state.size_bytes;
    while (!left.empty()) {
        const ssize_t put = ::pwrite(journal_.get(), left.data(), left.size(), static_cast<off_t>(at));
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) {
            state.broken = true;  // readers see whole messages up to here
            return;
        }
        left.remove_prefix(static_cast<std::size_t>(put));
        at += static_cast<std::uint64_t>(put);
    }
    state.size_bytes = at;
}

void BuildProgress::append_vertex(State& state, const VertexEvent& event) {
    StatusResponse message;
    auto* vertex = message.add_vertexes();
    vertex->set_digest(event.digest.to_string());
    for (const auto& input : event.inputs) vertex->add_inputs(input.to_string());
    vertex->set_name(event.name);
    vertex->set_cached(event.cached);
    vertex->set_error(event.error);
    if (event.started) detail::put(*event.started, *vertex->mutable_started());
    if (event.completed) detail::put(*event.completed, *vertex->mutable_completed());
    if (event.group) {
        auto* group = vertex->mutable_progressgroup();
        group->set_id(event.group->id);
        group->set_name(event.group->name);
        group->set_weak(event.group->weak);
    }
    append(state, message.SerializeAsString());
}

void BuildProgress::tell(State& state, VertexEvent event) {
    // Clients know it by these words.
    if (event.cancelled) event.error = "context canceled";
    Step& step = state.steps[event.digest];
    // Clients know a stretch of work by when it began, and wait for the end of each they were told of.
    if (event.started && step.last.started && !step.last.completed) event.started = step.last.started;
    if (event.started) {
        // Inputs that nobody had to look at are cached as of now.
        for (const auto& input : event.inputs) {
            const auto at = state.steps.find(input);
            if (at == state.steps.end() || at->second.last.started) continue;
            VertexEvent& untouched = at->second.last;
            if (untouched.name.empty()) continue;
            untouched.cached = true;
            untouched.started = event.started;
            untouched.completed = event.started;
            append_vertex(state, untouched);
        }
    }
    if (event.completed) step.statuses.clear();
    append_vertex(state, event);
    step.last = std::move(event);
}

void BuildProgress::tell(State& state, StatusEvent event) {
    const auto at = state.steps.find(event.vertex);
    if (at != state.steps.end() && !event.completed) {
        auto& told = at->second.statuses;
        if (const auto last = told.find(event.id); last != told.end()) {
            if (event.timestamp - last->second < kStatusPause) return;
            last->second = event.timestamp;
        } else if (told.size() < kStatusesOfOneStep) {
            told.emplace(event.id, event.timestamp);
        } else {
            return;
        }
    }
    StatusResponse message;
    auto* status = message.add_statuses();
    status->set_id(std::move(event.id));
    status->set_vertex(event.vertex.to_string());
    status->set_name(std::move(event.name));
    status->set_current(event.current);
    status->set_total(event.total);
    detail::put(event.timestamp, *status->mutable_timestamp());
    // Something that is told, and does not take time: Docker's clients show nothing that did not begin.
    if (!event.started && !event.completed) event.started = event.completed = event.timestamp;
    if (event.started) detail::put(*event.started, *status->mutable_started());
    if (event.completed) detail::put(*event.completed, *status->mutable_completed());
    append(state, message.SerializeAsString());
}

void BuildProgress::append_log(State& state, const LogEvent& event, std::string_view data) {
    while (!data.empty()) {
        const std::string_view part = data.substr(0, kBatchBytes);
        StatusResponse message;
        auto* log = message.add_logs();
        log->set_vertex(event.vertex.to_string());
        log->set_stream(event.stream);
        log->set_msg(std::string(part));
        detail::put(event.timestamp, *log->mutable_timestamp());
        append(state, message.SerializeAsString());
        data.remove_prefix(part.size());
    }
}

void BuildProgress::tell(State& state, LogEvent event) {
    Step& step = state.steps[event.vertex];
    std::int64_t allowed = limits_.size_bytes;
    bool by_speed = false;
    if (limits_.bytes_per_second >= 0) {
        const double seconds =
            step.last.started ? std::chrono::duration<double>(event.timestamp - *step.last.started).count() : 0.0;
        const double whole = std::clamp(std::ceil(seconds), 1.0, 1e9);
        const std::int64_t by_now = static_cast<std::int64_t>(whole) * limits_.bytes_per_second;
        if (allowed < 0 || by_now < allowed) {
            allowed = by_now;
            by_speed = true;
        }
    }
    const auto size = static_cast<std::int64_t>(event.data.size());
    const std::int64_t room = allowed < 0 ? size : std::max<std::int64_t>(0, allowed - step.logged_bytes);
    const std::int64_t shown = std::min(size, room);
    append_log(state, event, std::string_view(event.data).substr(0, static_cast<std::size_t>(shown)));
    step.logged_bytes += shown;
    if (shown == size) return;
    bool& clipped = by_speed ? step.clipped_speed : step.clipped_size;
    if (clipped) return;
    clipped = true;
    append_log(state, event,
               by_speed
                   ? fmt::format("\n[output clipped, log limit {}/s reached]\n", size_text(limits_.bytes_per_second))
                   : fmt::format("\n[output clipped, log limit {} reached]\n", size_text(limits_.size_bytes)));
}

void BuildProgress::tell(State& state, const WarningEvent& event) {
    ++state.warnings;
    StatusResponse message;
    auto* warning = message.add_warnings();
    warning->set_vertex(event.vertex.to_string());
    warning->set_level(event.level);
    warning->set_short_(event.short_text);
    for (const auto& line : event.detail) warning->add_detail(line);
    warning->set_url(event.url);
    if (event.range) {
        warning->mutable_info()->set_filename(event.range->file);
        auto* range = warning->add_ranges();
        range->mutable_start()->set_line(event.range->first_line);
        range->mutable_start()->set_character(event.range->first_column);
        range->mutable_end()->set_line(event.range->last_line);
        range->mutable_end()->set_character(event.range->last_column);
    }
    append(state, message.SerializeAsString());
}

void BuildProgress::emit(ProgressEvent event) {
    {
        auto state = state_.lock();
        if (state->closed) return;
        std::visit([&](auto&& one) { tell(*state, std::forward<decltype(one)>(one)); }, std::move(event));
    }
    state_.notify_all();
}

void BuildProgress::close() {
    {
        auto state = state_.lock();
        if (state->closed) return;
        std::vector<VertexEvent> open;
        for (const auto& [digest, step] : state->steps) {
            if (step.last.started && !step.last.completed) open.push_back(step.last);
        }
        for (auto& event : open) {
            event.completed = clock_.now();
            if (!event.cached) event.cancelled = true;
            tell(*state, std::move(event));
        }
        state->closed = true;
    }
    state_.notify_all();
}

Result<std::optional<std::string>> BuildProgress::read(std::uint64_t& offset, const Stop& stop) {
    std::uint64_t size = 0;
    {
        auto state = state_.lock();
        const bool there =
            state.wait(stop, [&] { return offset < state->size_bytes || state->closed || state->broken; });
        if (!there) return cancelled();
        size = state->size_bytes;
    }
    if (offset >= size) return std::optional<std::string>();
    std::string joined = TRY(read_journal(journal_.get(), offset, size));
    return std::optional<std::string>(std::move(joined));
}

StepCounts BuildProgress::counts() {
    auto state = state_.lock();
    StepCounts counts;
    counts.warnings = state->warnings;
    for (const auto& [digest, step] : state->steps) {
        if (step.last.name.empty()) continue;
        ++counts.total;
        if (step.last.completed && step.last.error.empty()) ++counts.completed;
        if (step.last.cached) ++counts.cached;
    }
    return counts;
}

void ProgressHub::forget_old(Entries& entries) const {
    const Timestamp now = clock_.now();
    std::erase_if(entries,
                  [&](const auto& entry) { return entry.second.closed && now - *entry.second.closed > kKeptAfterEnd; });
}

Result<std::shared_ptr<BuildProgress>> ProgressHub::open(const std::string& ref) {
    sys::Fd journal(::open(folder_.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    if (!journal.valid()) return fail_errno(errno, "create the log of the build in " + folder_);
    std::shared_ptr<BuildProgress> progress;
    {
        auto entries = entries_.lock();
        forget_old(*entries);
        Entry& entry = (*entries)[ref];
        if (entry.progress != nullptr && !entry.closed)
            return fail(Code::already_exists, Blame::user, "job ID {} exists", ref);
        entry.progress = std::make_shared<BuildProgress>(std::move(journal), clock_, limits_);
        entry.closed.reset();
        progress = entry.progress;
    }
    entries_.notify_all();
    return progress;
}

void ProgressHub::close(const std::string& ref) {
    std::shared_ptr<BuildProgress> progress;
    {
        auto entries = entries_.lock();
        const auto at = entries->find(ref);
        if (at == entries->end() || at->second.closed) return;
        at->second.closed = clock_.now();
        progress = at->second.progress;
        forget_old(*entries);
    }
    progress->close();
}

Result<std::shared_ptr<BuildProgress>> ProgressHub::find(const std::string& ref, std::chrono::milliseconds wait,
                                                         const Stop& stop) {
    auto entries = entries_.lock();
    forget_old(*entries);
    entries.wait_for(stop, wait, [&] { return entries->contains(ref); });
    if (stop.stop_requested()) return cancelled();
    const auto at = entries->find(ref);
    if (at == entries->end()) return fail(Code::not_found, Blame::user, "no such job {}", ref);
    return at->second.progress;
}

std::vector<std::string> ProgressHub::open_refs() {
    auto entries = entries_.lock();
    std::vector<std::string> refs;
    for (const auto& [ref, entry] : *entries) {
        if (!entry.closed) refs.push_back(ref);
    }
    return refs;
}

std::size_t ProgressHub::open_builds() {
    auto entries = entries_.lock();
    return static_cast<std::size_t>(
        std::count_if(entries->begin(), entries->end(), [](const auto& entry) { return !entry.second.closed; }));
}

}  // namespace cooper::daemon
