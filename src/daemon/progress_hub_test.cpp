#include "daemon/progress_hub.hpp"

#include "codec/sha256.hpp"
#include "proto/control.pb.h"
#include "sys/temp_dir.hpp"

#include <gtest/gtest.h>

namespace cooper::daemon {
namespace {

using moby::buildkit::v1::StatusResponse;

struct Fixture : testing::Test {
    sys::TempDir dir = *sys::TempDir::create("/tmp", "hub-");
    FakeClock clock;
    LogLimits limits;
    std::unique_ptr<ProgressHub> hub = std::make_unique<ProgressHub>(dir.path(), clock, limits);

    static Digest digest(const std::string& name) { return codec::sha256_of(name); }
    VertexEvent step(const std::string& name, std::vector<Digest> inputs = {}) const {
        VertexEvent event;
        event.digest = digest(name);
        event.name = name;
        event.inputs = std::move(inputs);
        return event;
    }
    VertexEvent started(const std::string& name, std::vector<Digest> inputs = {}) const {
        VertexEvent event = step(name, std::move(inputs));
        event.started = clock.now();
        return event;
    }
    static StatusResponse read_all(BuildProgress& progress) {
        StatusResponse all;
        std::uint64_t offset = 0;
        for (;;) {
            auto batch = progress.read(offset, {});
            EXPECT_TRUE(batch) << batch.error().to_string();
            if (!batch || !*batch) return all;
            StatusResponse message;
            EXPECT_TRUE(message.ParseFromString(**batch));
            all.MergeFrom(message);
        }
    }
    static std::string log_of(const StatusResponse& all) {
        std::string text;
        for (const auto& log : all.logs()) text += log.msg();
        return text;
    }
};

TEST_F(Fixture, AStretchThatWasBegunIsTheOneThatEnds) {
    auto progress = *hub->open("a");
    const VertexEvent begun = started("one");
    progress->emit(begun);
    clock.advance(std::chrono::seconds(5));
    VertexEvent ended = started("one");  // says to have begun later
    ended.completed = clock.now();
    progress->emit(ended);
    hub->close("a");
    const auto all = read_all(*progress);
    ASSERT_EQ(all.vertexes_size(), 2);
    EXPECT_EQ(all.vertexes(1).started().seconds(), all.vertexes(0).started().seconds());
    EXPECT_TRUE(all.vertexes(1).has_completed());
}

TEST_F(Fixture, WhoeverComesLateIsToldEverything) {
    auto progress = *hub->open("a");
    progress->emit(started("one"));
    progress->emit(LogEvent{digest("one"), 1, "hello\n", clock.now()});
    hub->close("a");
    const auto late = hub->find("a", std::chrono::milliseconds(0), {});
    ASSERT_TRUE(late);
    const auto all = read_all(**late);
    EXPECT_EQ(all.vertexes(0).name(), "one");
    EXPECT_EQ(log_of(all), "hello\n");
}

TEST_F(Fixture, WhatHasNotEndedAtTheEndIsCancelled) {
    auto progress = *hub->open("a");
    progress->emit(started("one"));
    hub->close("a");
    const auto all = read_all(*progress);
    ASSERT_EQ(all.vertexes_size(), 2);
    EXPECT_TRUE(all.vertexes(1).has_completed());
    EXPECT_EQ(all.vertexes(1).error(), "context canceled");
}

TEST_F(Fixture, InputsNobodyLookedAtAreCachedWhenTheirConsumerBegins) {
    auto progress = *hub->open("a");
    progress->emit(step("input"));
    progress->emit(started("consumer", {digest("input")}));
    hub->close("a");
    const auto all = read_all(*progress);
    EXPECT_TRUE(all.vertexes(1).cached());
    EXPECT_EQ(all.vertexes(1).name(), "input");
    EXPECT_EQ(all.vertexes(1).started().seconds(), all.vertexes(2).started().seconds());
}

TEST_F(Fixture, OneRefIsOneBuildUntilItEnds) {
    ASSERT_TRUE(hub->open("a"));
    const auto again = hub->open("a");
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().code(), Code::already_exists);
    hub->close("a");
    EXPECT_TRUE(hub->open("a"));
}

TEST_F(Fixture, AnEndedBuildIsForgottenAfterTenSeconds) {
    ASSERT_TRUE(hub->open("a"));
    hub->close("a");
    clock.advance(std::chrono::seconds(11));
    const auto late = hub->find("a", std::chrono::milliseconds(0), {});
    ASSERT_FALSE(late);
    EXPECT_EQ(late.error().code(), Code::not_found);
}

TEST_F(Fixture, LogsAreSplitAndLimited) {
    auto progress = *hub->open("a");
    progress->emit(started("one"));
    clock.advance(std::chrono::seconds(100));
    progress->emit(LogEvent{digest("one"), 1, std::string(3 << 20, 'x'), clock.now()});
    progress->emit(LogEvent{digest("one"), 1, "more", clock.now()});
    hub->close("a");
    const auto all = read_all(*progress);
    for (const auto& log : all.logs()) EXPECT_LE(log.msg().size(), 1U << 20U);
    const std::string text = log_of(all);
    EXPECT_EQ(text.size(), (2U << 20U) + std::string("\n[output clipped, log limit 2MiB reached]\n").size());
    EXPECT_TRUE(text.ends_with("\n[output clipped, log limit 2MiB reached]\n"));
}

TEST_F(Fixture, LogsAreLimitedInSpeed) {
    auto progress = *hub->open("a");
    progress->emit(started("one"));
    progress->emit(LogEvent{digest("one"), 1, std::string(300 << 10, 'x'), clock.now()});
    clock.advance(std::chrono::milliseconds(1500));
    progress->emit(LogEvent{digest("one"), 1, "later", clock.now()});
    hub->close("a");
    const std::string text = log_of(read_all(*progress));
    EXPECT_NE(text.find("x\n[output clipped, log limit 200KiB/s reached]\nlater"), std::string::npos);
}

TEST_F(Fixture, StatusesAreThinnedOutButTheLastIsTold) {
    auto progress = *hub->open("a");
    progress->emit(started("one"));
    for (int i = 0; i < 1000; ++i) {
        StatusEvent status{.id = "layer",
                           .vertex = digest("one"),
                           .name = "layer",
                           .current = i,
                           .total = 1000,
                           .timestamp = clock.now(),
                           .started = clock.now(),
                           .completed = {}};
        if (i == 999) status.completed = clock.now();
        progress->emit(status);
        clock.advance(std::chrono::milliseconds(1));
    }
    hub->close("a");
    const auto all = read_all(*progress);
    EXPECT_LT(all.statuses_size(), 15);
    EXPECT_EQ(all.statuses(all.statuses_size() - 1).current(), 999);
}

TEST_F(Fixture, AReaderThatWaitsEndsAtItsStop) {
    auto progress = *hub->open("a");
    StopSource source;
    source.request_stop();
    std::uint64_t offset = 0;
    const auto batch = progress->read(offset, source.get_token());
    ASSERT_FALSE(batch);
    EXPECT_TRUE(batch.error().is_cancelled());
}

}  // namespace
}  // namespace cooper::daemon
