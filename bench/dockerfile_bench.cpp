// What the language costs: a Dockerfile of 5,000 lines and 500 stages.

#include "dockerfile/directives.hpp"
#include "dockerfile/fake_bridge.hpp"
#include "dockerfile/to_llb.hpp"

#include <algorithm>
#include <benchmark/benchmark.h>
#include <fmt/core.h>
#include <string>

namespace cooper::dockerfile {
namespace {

enum class Shape { chain, fan_in };

// 500 stages of ten lines. chain: each on the one before. fan_in: on one image, and the last copies from all.
std::string large_file(Shape shape) {
    constexpr int kStages = 500;
    std::string text = "ARG VERSION=3\n";
    for (int i = 0; i < kStages; ++i) {
        const bool on_image = shape == Shape::fan_in || i == 0;
        text += on_image ? fmt::format("FROM alpine:$VERSION AS s{}\n", i) : fmt::format("FROM s{} AS s{}\n", i - 1, i);
        text += fmt::format(
            "ARG NUMBER={0}\n"
            "ENV NAME_{1}=\"stage ${{NUMBER}}\" OTHER=${{NAME_{1}:-none}}\n"
            "WORKDIR /stage/$NUMBER\n"
            "COPY --chown=1000:1000 src/{0}/*.c include ./\n"
            "RUN --mount=type=cache,target=/root/.cache,id=c$NUMBER \\\n"
            "    make -j4 && \\\n"
            "    make install\n",
            i, i % 20);
        text += i == 0 ? "LABEL first=yes\n" : fmt::format("COPY --from=s{} /stage/{} /from/\n", i - 1, i - 1);
        text += "CMD [\"/bin/sh\", \"-c\", \"echo done\"]\n";
    }
    return text;
}

void convert(benchmark::State& state, Shape shape) {
    const std::string text = large_file(shape);
    ConvertOptions options;
    options.build_platforms = {oci::Platform{.os = "linux", .architecture = "amd64"}};
    std::size_t vertices = 0;
    for (auto _ : state) {
        FakeBridge bridge;
        const auto plan = to_llb(text, options, bridge, Stop{});
        if (!plan) {
            state.SkipWithError(plan.error().to_string().c_str());
            break;
        }
        vertices = plan->definition.ops.size();
    }
    state.counters["lines"] = static_cast<double>(std::count(text.begin(), text.end(), '\n'));
    state.counters["vertices"] = static_cast<double>(vertices);
}

void dockerfile_parse_5000_lines(benchmark::State& state) {
    const std::string text = large_file(Shape::fan_in);
    for (auto _ : state) {
        const auto file = parse(text, "Dockerfile");
        if (!file || !parse_stages(*file)) state.SkipWithError("it is not read");
    }
}

void dockerfile_500_stages_chain(benchmark::State& state) { convert(state, Shape::chain); }
void dockerfile_500_stages_fan_in(benchmark::State& state) { convert(state, Shape::fan_in); }
BENCHMARK(dockerfile_parse_5000_lines)->Unit(benchmark::kMillisecond);
BENCHMARK(dockerfile_500_stages_chain)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(dockerfile_500_stages_fan_in)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace cooper::dockerfile

BENCHMARK_MAIN();
