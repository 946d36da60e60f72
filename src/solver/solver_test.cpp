// The solver as its users see it, on real threads.

#include "solver/solver.hpp"

#include "solver/fake_op.hpp"
#include "solver/memory_cache.hpp"

#include <gtest/gtest.h>
#include <latch>
#include <thread>

namespace cooper::solver {
namespace {

class SolverTest : public ::testing::Test {
protected:
    std::unique_ptr<Job> job(CachePolicy policy) { return solver_.start_job({.progress = sink_, .cache = policy}); }
    std::unique_ptr<Job> job() { return job(CachePolicy::use); }

    std::uint64_t build(const Output& output) {
        auto one = job();
        const auto result = one->build(output, Stop());
        EXPECT_TRUE(result) << result.error().to_string();
        return result ? number_of(*result) : 0;
    }

    SystemClock clock_;
    MemoryCacheStore cache_;
    MemoryResultStore results_;
    RecordingSink sink_;
    Solver solver_{{.cpu_jobs = 2, .io_jobs = 4, .exec_jobs = 4}, cache_, results_, clock_};
};

TEST_F(SolverTest, BuildsOnceThenAnswersFromTheCacheWithoutLoadingIntermediates) {
    const auto graph = [] {
        const FakeVertex base = fake_vertex(1, {.key = 1, .cheap = false}, {});
        const FakeVertex middle = fake_vertex(2, {.key = 2}, {base.output(0)});
        const FakeVertex top = fake_vertex(3, {.key = 3}, {middle.output(0)});
        return std::vector{base, middle, top};
    };
    const auto first = graph();
    const std::uint64_t value = build(first[2].output(0));
    for (const FakeVertex& one : first) EXPECT_EQ(one.executions(), 1);
    EXPECT_FALSE(sink_.last(first[2].vertex->digest())->cached);
    const auto second = graph();
    EXPECT_EQ(build(second[2].output(0)), value);
    for (const FakeVertex& one : second) {
        EXPECT_EQ(one.executions(), 0);
        const auto event = sink_.last(one.vertex->digest());
        EXPECT_TRUE(event->cached);
        EXPECT_TRUE(event->completed);
    }
}

TEST_F(SolverTest, UnchangedContentIsReusedWhateverTheInputIsCalled) {
    const auto graph = [](std::uint64_t session, std::uint64_t content) {
        const FakeVertex local =
            fake_vertex(100 + session, {.key = 100 + session, .ephemeral = true, .value = content}, {});
        const FakeVertex copy = fake_vertex(200 + session, {.key = 7, .content = {true}}, {local.output(0)});
        const FakeVertex run = fake_vertex(300 + session, {.key = 8}, {copy.output(0)});
        return std::vector{local, copy, run};
    };
    const auto first = graph(1, 5);
    const std::uint64_t value = build(first[2].output(0));
    const auto same = graph(2, 5);
    EXPECT_EQ(build(same[2].output(0)), value);
    EXPECT_EQ(same[0].executions(), 1);  // has to be looked at
    EXPECT_EQ(same[1].executions(), 0);
    EXPECT_EQ(same[2].executions(), 0);
    EXPECT_EQ(same[1].op->contents, 1);
    const auto changed = graph(3, 6);
    EXPECT_NE(build(changed[2].output(0)), value);
    EXPECT_EQ(changed[1].executions(), 1);
    EXPECT_EQ(changed[2].executions(), 1);
}

TEST_F(SolverTest, ContentIsNotAskedWhenDefinitionsSuffice) {
    const auto graph = [] {
        const FakeVertex base = fake_vertex(1, {.key = 1}, {});
        const FakeVertex copy = fake_vertex(2, {.key = 2, .content = {true}}, {base.output(0)});
        return std::vector{base, copy};
    };
    build(graph()[1].output(0));
    const auto second = graph();
    build(second[1].output(0));
    EXPECT_EQ(second[0].executions(), 0);
    EXPECT_EQ(second[1].op->contents, 0);
}

TEST_F(SolverTest, ChangedInputWithSameContentStopsTheRebuild) {
    const auto graph = [](std::uint64_t base_key) {
        const FakeVertex base = fake_vertex(base_key, {.key = base_key, .value = 42}, {});
        const FakeVertex copy = fake_vertex(10 + base_key, {.key = 2, .content = {true}}, {base.output(0)});
        const FakeVertex run = fake_vertex(20 + base_key, {.key = 3}, {copy.output(0)});
        return std::vector{base, copy, run};
    };
    build(graph(1)[2].output(0));
    const auto second = graph(5);
    {
        Solver other({.cpu_jobs = 1, .io_jobs = 1, .exec_jobs = 1}, cache_, results_, clock_);
        EXPECT_TRUE(other.start_job({.progress = sink_})->build(second[2].output(0), Stop()));
    }
    EXPECT_EQ(second[0].executions(), 1);
    EXPECT_EQ(second[1].executions(), 0);
    EXPECT_EQ(second[2].executions(), 0);
    // The way by definition has been learnt: contents are not looked at again.
    const auto third = graph(5);
    build(third[2].output(0));
    EXPECT_EQ(third[0].executions(), 0);
    EXPECT_EQ(third[1].op->contents, 0);
}

TEST_F(SolverTest, AlikeContentsShareAResult) {
    const auto graph = [](std::uint64_t session, std::uint64_t content) {
        const FakeVertex local =
            fake_vertex(100 + session, {.key = 100 + session, .ephemeral = true, .value = content}, {});
        const FakeVertex copy = fake_vertex(200 + session,
                                            {.key = 7,
                                             .content = {true},
                                             .alike = {true},
                                             .project = [](std::uint64_t value) { return value / 10 * 10; }},
                                            {local.output(0)});
        return std::vector{local, copy};
    };
    const auto first = graph(1, 54);
    const std::uint64_t value = build(first[1].output(0));
    EXPECT_EQ(first[1].executions(), 1);
    const auto alike = graph(2, 57);
    EXPECT_EQ(build(alike[1].output(0)), value);
    EXPECT_EQ(alike[1].executions(), 0);
    EXPECT_EQ(alike[1].op->alikes, 1);
    const auto usual = graph(3, 50);
    EXPECT_EQ(build(usual[1].output(0)), value);
    EXPECT_EQ(usual[1].executions(), 0);
    // Known under its own content from now on.
    const auto again = graph(4, 57);
    EXPECT_EQ(build(again[1].output(0)), value);
    EXPECT_EQ(again[1].op->alikes, 0);
    const auto other = graph(5, 64);
    EXPECT_NE(build(other[1].output(0)), value);
    EXPECT_EQ(other[1].executions(), 1);
}

TEST_F(SolverTest, LostResultIsMadeAgain) {
    const auto graph = [] { return fake_vertex(1, {.key = 1}, {}); };
    build(graph().output(0));
    results_.remove("1");
    const FakeVertex second = graph();
    build(second.output(0));
    EXPECT_EQ(second.executions(), 1);
}

class ForgetfulResults final : public ResultStore {
public:
    Result<ResultId> save(const SharedResult& /*result*/) override { return ResultId("x"); }
    Result<std::optional<SharedResult>> load(const ResultId& /*id*/) override {
        return fail(Code::data_loss, Blame::world, "unreadable");
    }
    bool exists(const ResultId& /*id*/) override { return true; }
};

TEST_F(SolverTest, RecordThatFailsToLoadIsExecutedInstead) {
    ForgetfulResults forgetful;
    Solver solver({.cpu_jobs = 1, .io_jobs = 1, .exec_jobs = 1}, cache_, forgetful, clock_);
    for (int i = 0; i < 2; ++i) {
        const FakeVertex base = fake_vertex(1, {.key = 1}, {});
        const FakeVertex top = fake_vertex(2, {.key = 2}, {base.output(0)});
        auto one = solver.start_job({.progress = sink_});
        EXPECT_TRUE(one->build(top.output(0), Stop()));
        EXPECT_EQ(top.executions(), 1);
        EXPECT_EQ(base.executions(), 1);
    }
}

TEST_F(SolverTest, NoCacheExecutesAllAndSavesIt) {
    const auto graph = [] {
        const FakeVertex base = fake_vertex(1, {.key = 1}, {});
        const FakeVertex top = fake_vertex(2, {.key = 2}, {base.output(0)});
        return std::vector{base, top};
    };
    for (int i = 0; i < 2; ++i) {
        const auto one = graph();
        auto ignoring = job(CachePolicy::ignore);
        EXPECT_TRUE(ignoring->build(one[1].output(0), Stop()));
        EXPECT_EQ(one[0].executions() + one[1].executions(), 2);
    }
    const auto plain = graph();
    build(plain[1].output(0));
    EXPECT_EQ(plain[0].executions() + plain[1].executions(), 0);
}

TEST_F(SolverTest, IgnoringVertexRerunsItsDependents) {
    const auto graph = [](bool ignore) {
        const FakeVertex base = fake_vertex(1, {.key = 1}, {});
        const FakeVertex middle = fake_vertex(2, {.key = 2}, {base.output(0)}, {.ignore_cache = ignore});
        const FakeVertex top = fake_vertex(3, {.key = 3}, {middle.output(0)});
        return std::vector{base, middle, top};
    };
    build(graph(false)[2].output(0));
    const auto second = graph(true);
    build(second[2].output(0));
    EXPECT_EQ(second[0].executions(), 0);
    EXPECT_EQ(second[1].executions(), 1);
    EXPECT_EQ(second[2].executions(), 1);
}

TEST_F(SolverTest, EqualWorkOfDifferentVerticesIsDoneOnce) {
    // Two local sources with the same content, copied and then worked on by the same steps.
    std::vector<FakeVertex> runs;
    std::vector<FakeVertex> copies;
    std::vector<Output> targets;
    for (std::uint64_t i = 0; i < 8; ++i) {
        const FakeVertex local = fake_vertex(100 + i, {.key = 100 + i, .ephemeral = true, .value = 5}, {});
        copies.push_back(fake_vertex(200 + i, {.key = 7, .content = {true}}, {local.output(0)}));
        runs.push_back(fake_vertex(300 + i, {.key = 8}, {copies.back().output(0)}));
        targets.push_back(runs.back().output(0));
    }
    auto one = job();
    const auto results = one->build(targets, Stop());
    ASSERT_TRUE(results);
    int executions = 0;
    for (const FakeVertex& vertex : copies) executions += vertex.executions();
    EXPECT_EQ(executions, 1);
    executions = 0;
    for (const FakeVertex& vertex : runs) executions += vertex.executions();
    EXPECT_EQ(executions, 1);
    for (const SharedResult& result : *results) EXPECT_EQ(result, results->front());
}

TEST_F(SolverTest, FurtherCacheMapsAreTriedInTurn) {
    build(fake_vertex(1, {.key = 1, .more_keys = {50}}, {}).output(0));
    const FakeVertex moved = fake_vertex(2, {.key = 2, .more_keys = {50}}, {});
    build(moved.output(0));
    EXPECT_EQ(moved.executions(), 0);
    EXPECT_EQ(moved.op->maps, 2);
    const FakeVertex same = fake_vertex(3, {.key = 1, .more_keys = {50}}, {});
    build(same.output(0));
    EXPECT_EQ(same.executions(), 0);
    EXPECT_EQ(same.op->maps, 1);
}

TEST_F(SolverTest, OutputsHaveKeysOfTheirOwn) {
    const auto graph = [] { return fake_vertex(1, {.key = 1, .outputs = 3}, {}); };
    const FakeVertex first = graph();
    auto one = job();
    const std::vector<Output> all{first.output(0), first.output(1), first.output(2)};
    const auto results = one->build(all, Stop());
    ASSERT_TRUE(results);
    EXPECT_EQ(first.executions(), 1);
    EXPECT_EQ(number_of((*results)[2]), number_of((*results)[0]) + 2);
    const FakeVertex second = graph();
    EXPECT_EQ(build(second.output(2)), number_of((*results)[2]));
    EXPECT_EQ(second.executions(), 0);
}

TEST_F(SolverTest, FirstErrorWinsAndStopsTheRest) {
    std::latch running(1);
    const FakeVertex slow = fake_vertex(1,
                                        {.key = 1,
                                         .on_execute = [&](const Stop& stop) -> std::optional<Error> {
                                             running.count_down();
                                             Guarded<bool> never;
                                             never.lock().wait(stop, [] { return false; });
                                             return cancelled();
                                         }},
                                        {});
    const FakeVertex bad = fake_vertex(2,
                                       {.key = 2,
                                        .on_execute = [&](const Stop&) -> std::optional<Error> {
                                            running.wait();
                                            return fail(Code::unknown, Blame::user, "exit code 1");
                                        }},
                                       {});
    const FakeVertex finished = fake_vertex(3, {.key = 3}, {});
    const FakeVertex top = fake_vertex(4, {.key = 4}, {slow.output(0), bad.output(0), finished.output(0)});
    auto one = job();
    ASSERT_TRUE(one->build(finished.output(0), Stop()));
    const auto result = one->build(top.output(0), Stop());
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().message(), "exit code 1");
    EXPECT_EQ(one->failed_vertex(), bad.vertex->digest());
    EXPECT_EQ(top.executions(), 0);
    EXPECT_TRUE(sink_.last(slow.vertex->digest())->cancelled);
    EXPECT_EQ(sink_.last(bad.vertex->digest())->error, "exit code 1");
    // Errors are not cached, not even within the job.
    EXPECT_FALSE(one->build(bad.output(0), Stop()));
    EXPECT_EQ(bad.executions(), 2);
    const FakeVertex again = fake_vertex(3, {.key = 3}, {});
    build(again.output(0));
    EXPECT_EQ(again.executions(), 0);
}

TEST_F(SolverTest, StopEndsTheBuildAndWaitsForItsWork) {
    std::latch running(1);
    std::atomic<bool> ended = false;
    const FakeVertex slow = fake_vertex(1,
                                        {.key = 1,
                                         .on_execute = [&](const Stop& stop) -> std::optional<Error> {
                                             running.count_down();
                                             Guarded<bool> never;
                                             never.lock().wait(stop, [] { return false; });
                                             ended = true;
                                             return cancelled();
                                         }},
                                        {});
    StopSource stop;
    const std::jthread canceller([&] {
        running.wait();
        stop.request_stop();
    });
    auto one = job();
    const auto result = one->build(slow.output(0), stop.get_token());
    ASSERT_FALSE(result);
    EXPECT_TRUE(result.error().is_cancelled());
    EXPECT_TRUE(ended);
}

TEST_F(SolverTest, TwoJobsShareOneExecutionAndOneMayLeave) {
    std::latch running(1);
    Guarded<bool> release;
    const FakeVertex shared = fake_vertex(1,
                                          {.key = 1,
                                           .on_execute = [&](const Stop& stop) -> std::optional<Error> {
                                               running.count_down();
                                               auto open = release.lock();
                                               if (!open.wait(stop, [&] { return *open; })) return cancelled();
                                               return std::nullopt;
                                           }},
                                          {});
    StopSource stop_first;
    Result<SharedResult> second_result = cancelled();
    auto second = job();
    {
        auto first = job();
        std::jthread first_thread([&] { EXPECT_FALSE(first->build(shared.output(0), stop_first.get_token())); });
        running.wait();
        std::jthread second_thread([&] { second_result = second->build(shared.output(0), Stop()); });
        // The second job has joined once it knows the vertex.
        while (second->report().empty()) std::this_thread::yield();
        stop_first.request_stop();
        first_thread.join();
        *release.lock() = true;
        release.notify_all();
    }
    ASSERT_TRUE(second_result);
    EXPECT_EQ(shared.executions(), 1);
}

TEST_F(SolverTest, NestedBuildsDoNotStarveThePools) {
    auto one = job();
    const FakeVertex inner = fake_vertex(1, {.key = 1}, {});
    const auto nest = [&](std::uint64_t digest) {
        return fake_vertex(digest,
                           {.key = digest,
                            .pool = PoolKind::nested,
                            .on_execute = [&](const Stop& stop) -> std::optional<Error> {
                                const auto result = one->build(inner.output(0), stop);
                                return result ? std::nullopt : std::optional(result.error());
                            }},
                           {});
    };
    std::vector<Output> targets;
    std::vector<FakeVertex> outer;
    for (std::uint64_t i = 0; i < 20; ++i) {
        outer.push_back(nest(100 + i));
        targets.push_back(outer.back().output(0));
    }
    EXPECT_TRUE(one->build(targets, Stop()));
    EXPECT_EQ(inner.executions(), 1);
}

TEST_F(SolverTest, ReportsFatesAndExplainsKeys) {
    const FakeVertex local = fake_vertex(1, {.key = 1, .ephemeral = true, .value = 5}, {});
    const FakeVertex copy = fake_vertex(2, {.key = 2, .content = {true}}, {local.output(0)});
    auto one = job();
    ASSERT_TRUE(one->build(copy.output(0), Stop()));
    const auto report = one->report();
    ASSERT_EQ(report.size(), 2U);
    EXPECT_EQ(report[0].digest, local.vertex->digest());
    EXPECT_EQ(report[1].fate, VertexFate::executed);
    const auto why = one->explain(copy.output(0));
    ASSERT_TRUE(why);
    EXPECT_FALSE(why->cached);
    EXPECT_TRUE(why->result);
    ASSERT_EQ(why->key->inputs.size(), 1U);
    ASSERT_EQ(why->key->inputs[0].size(), 2U);
    EXPECT_TRUE(why->key->inputs[0][0].key->ephemeral);
    EXPECT_EQ(why->key->inputs[0][1].key->digest, number_digest(5));
    EXPECT_EQ(why->key->inputs[0][1].key->id, root_key_id(number_digest(5), kContentOutput));
    EXPECT_FALSE(one->explain(Output{fake_vertex(9, {}, {}).vertex, 0}));
}

TEST_F(SolverTest, DeepAndWideGraphsNeedNoDeepStack) {
    FakeVertex last = fake_vertex(1, {.key = 1}, {});
    for (std::uint64_t i = 2; i <= 10'000; ++i) last = fake_vertex(i, {.key = i}, {last.output(0)});
    build(last.output(0));
    EXPECT_EQ(last.executions(), 1);
}

}  // namespace
}  // namespace cooper::solver
