// What the solver itself costs: a graph whose every vertex is in the cache.

#include "solver/fake_op.hpp"
#include "solver/memory_cache.hpp"
#include "solver/solver.hpp"

#include <benchmark/benchmark.h>

namespace cooper::solver {
namespace {

enum class Shape { chain, stages };

// chain: each vertex on the one before. stages: chains of ten with one vertex on top of them all.
Output make_graph(std::uint64_t count, Shape shape) {
    std::vector<Output> tops;
    FakeVertex last = fake_vertex(1, {.key = 1}, {});
    for (std::uint64_t i = 2; i < count; ++i) {
        if (shape == Shape::stages && i % 10 == 0) {
            tops.push_back(last.output(0));
            last = fake_vertex(i, {.key = i}, {});
        } else {
            last = fake_vertex(i, {.key = i}, {last.output(0)});
        }
    }
    tops.push_back(last.output(0));
    return fake_vertex(count, {.key = count}, std::move(tops)).output(0);
}

void solve_cached(benchmark::State& state, Shape shape) {
    const auto count = static_cast<std::uint64_t>(state.range(0));
    const SystemClock clock;
    MemoryCacheStore cache;
    MemoryResultStore results;
    NullProgress sink;
    const auto solve = [&](const Output& target) {
        Solver solver({.cpu_jobs = 2, .io_jobs = 16, .exec_jobs = 2}, cache, results, clock);
        auto job = solver.start_job({.progress = sink});
        return job->build(target, Stop()).has_value();
    };
    if (!solve(make_graph(count, shape))) state.SkipWithError("the first build failed");
    for (auto _ : state) {
        state.PauseTiming();
        Output target = make_graph(count, shape);
        state.ResumeTiming();
        if (!solve(target)) state.SkipWithError("the build failed");
        state.PauseTiming();
        target = Output();
        state.ResumeTiming();
    }
    state.SetItemsProcessed(state.iterations() * state.range(0));
}

void solve_10k_vertices(benchmark::State& state) { solve_cached(state, Shape::stages); }
void solve_chain(benchmark::State& state) { solve_cached(state, Shape::chain); }
BENCHMARK(solve_10k_vertices)->Arg(300)->Arg(10'000)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(solve_chain)->Arg(300)->Arg(10'000)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace cooper::solver

BENCHMARK_MAIN();
