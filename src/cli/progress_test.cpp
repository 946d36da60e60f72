#include "cli/progress_plain.hpp"
#include "cli/progress_tty.hpp"
#include "sys/fd.hpp"

#include <gtest/gtest.h>

namespace cooper::cli {
namespace {

Digest digest_of(int n) {
    std::array<std::uint8_t, 32> raw{};
    raw[0] = static_cast<std::uint8_t>(n);
    return Digest::sha256_from_raw(raw);
}

Timestamp at(double seconds) {
    return Timestamp{std::chrono::nanoseconds(1'700'000'000'000'000'000 + static_cast<std::int64_t>(seconds * 1e9))};
}

VertexEvent vertex(int n, std::string name, double started) {
    VertexEvent event;
    event.digest = digest_of(n);
    event.name = std::move(name);
    event.started = at(started);
    return event;
}

std::string printed(const std::vector<ProgressEvent>& events) {
    sys::Pipe pipe = std::move(*sys::make_pipe());
    {
        PlainProgress progress(pipe.write_end.get());
        for (const auto& event : events) progress.emit(event);
        progress.finish();
    }
    pipe.write_end = sys::Fd();
    return *sys::read_to_end(pipe.read_end.get(), 1 << 20);
}

TEST(PlainProgress, PrintsAsBuildKitDoes) {
    VertexEvent run = vertex(1, "[stage-1 3/8] RUN pip install", 0);
    VertexEvent done = run;
    done.completed = at(3.2);
    VertexEvent cached = vertex(2, "[builder 1/2] COPY a b", 3.2);
    cached.completed = at(3.2);
    cached.cached = true;
    EXPECT_EQ(printed({run, LogEvent{digest_of(1), 1, "Collecting fas", at(0.542)},
                       LogEvent{digest_of(1), 1, "tapi\nDownloading", at(1.234)}, done, cached}),
              "#1 [stage-1 3/8] RUN pip install\n"
              "#1 1.234 Collecting fastapi\n"
              "#1 1.234 Downloading\n"
              "#1 DONE 3.2s\n"
              "\n"
              "#2 [builder 1/2] COPY a b\n"
              "#2 CACHED\n");
}

TEST(PlainProgress, ErrorsAndCancels) {
    VertexEvent failed = vertex(1, "[1/2] RUN false", 0);
    failed.completed = at(1);
    failed.error = "exit code: 1";
    VertexEvent cancelled = vertex(2, "[2/2] RUN sleep", 0);
    cancelled.completed = at(1);
    cancelled.error = "cancelled";
    cancelled.cancelled = true;
    const std::string text = printed({failed, cancelled});
    EXPECT_NE(text.find("#1 ERROR: exit code: 1\n"), std::string::npos);
    EXPECT_NE(text.find("#2 CANCELED\n"), std::string::npos);
}

TEST(PlainProgress, WeakGroupMembersStayHidden) {
    VertexEvent weak = vertex(1, "copy", 0);
    weak.group = ProgressGroup{"g", "[2/2] COPY --link a b", true};
    weak.completed = at(1);
    VertexEvent merge = vertex(2, "merge", 1);
    merge.group = ProgressGroup{"g", "[2/2] COPY --link a b", false};
    merge.completed = at(1.5);
    EXPECT_EQ(printed({weak, merge}), "#1 [2/2] COPY --link a b\n#1 DONE 0.5s\n");
}

TEST(TtyProgress, FitCutsAndCleans) {
    EXPECT_EQ(fit("hello", 10), "hello");
    EXPECT_EQ(fit("hello world", 5), "hell…");
    EXPECT_EQ(fit("\x1b[31mred\x1b[0m\x1b[2J", 10), "red");
    EXPECT_EQ(fit("ä\tö", 5), "ä ö");
}

}  // namespace
}  // namespace cooper::cli
