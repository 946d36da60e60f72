// Test doubles: results that are numbers, ops that count what they were asked, and a sink that records.
#pragma once

#include "base/guarded.hpp"
#include "base/progress.hpp"
#include "solver/op.hpp"
#include "solver/vertex.hpp"

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace cooper::solver {

class NumberOutcome final : public Outcome {
public:
    explicit NumberOutcome(std::uint64_t value) : number(value) {}
    const std::uint64_t number;
};

[[nodiscard]] inline SharedResult number_result(std::uint64_t number) {
    return std::make_shared<const NumberOutcome>(number);
}
// Scratch is 0.
[[nodiscard]] inline std::uint64_t number_of(const SharedResult& result) {
    const auto* outcome = dynamic_cast<const NumberOutcome*>(result.get());
    return outcome == nullptr ? 0 : outcome->number;
}

// Not cryptographic, but different for different numbers, which is all that tests need.
[[nodiscard]] inline Digest number_digest(std::uint64_t number) {
    std::array<std::uint8_t, 32> raw{};
    for (std::size_t i = 0; i < 8; ++i) raw[i] = static_cast<std::uint8_t>(number >> (8 * i));
    return Digest::sha256_from_raw(raw);
}

struct CountingOpOptions {
    std::uint64_t key = 0;  // digest of the cache map
    bool ephemeral = false;
    std::vector<bool> content;             // which inputs are content based; shorter: the rest is not
    std::vector<bool> alike;               // which of them are so as they are, and projected only for alike_digest
    std::vector<std::uint64_t> more_keys;  // further cache maps
    bool cheap = true;
    std::uint32_t outputs = 1;
    PoolKind pool = PoolKind::exec;
    // nullopt: succeed. Called in execute, any thread.
    std::function<std::optional<Error>(const Stop&)> on_execute;
    // What the result is worth; by default a mix of key and inputs.
    std::optional<std::uint64_t> value;
    // The content of an input as this op sees it; by default the input itself.
    std::function<std::uint64_t(std::uint64_t)> project;
};

[[nodiscard]] inline std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
    std::uint64_t x = a * 0x9e3779b97f4a7c15ULL ^ (b + 0x632be59bd9b4e019ULL);
    x ^= x >> 29;
    x *= 0xbf58476d1ce4e5b9ULL;
    return x ^ (x >> 32);
}

class CountingOp final : public Op {
public:
    explicit CountingOp(CountingOpOptions options) : options_(std::move(options)) {}

    Result<CacheMapPart> cache_map(std::size_t index, OpContext& /*context*/) override {
        ++maps;
        CacheMapPart part;
        part.map.digest = number_digest(index == 0 ? options_.key : options_.more_keys.at(index - 1));
        part.map.ephemeral = options_.ephemeral;
        part.map.inputs.resize(inputs);
        for (std::size_t i = 0; i < inputs && i < options_.content.size(); ++i) {
            part.map.inputs[i].content_based = options_.content[i];
            part.map.inputs[i].has_alike = is_alike(i);
        }
        part.more = index < options_.more_keys.size();
        return part;
    }
    bool cache_map_is_cheap() const override { return options_.cheap; }
    Result<Digest> content_digest(std::size_t input, const SharedResult& result, OpContext& /*context*/) override {
        ++contents;
        const std::uint64_t seen = number_of(result);
        return number_digest(options_.project && !is_alike(input) ? options_.project(seen) : seen);
    }
    Result<Digest> alike_digest(std::size_t /*input*/, const SharedResult& result, OpContext& /*context*/) override {
        ++alikes;
        return number_digest(options_.project(number_of(result)));
    }
    Result<std::vector<SharedResult>> execute(std::span<const SharedResult> results, OpContext& context) override {
        ++executions;
        if (options_.on_execute) {
            if (std::optional<Error> error = options_.on_execute(context.stop)) return *error;
        }
        std::uint64_t value = options_.key;
        for (std::size_t i = 0; i < results.size(); ++i) {
            std::uint64_t seen = number_of(results[i]);
            if (i < options_.content.size() && options_.content[i] && options_.project) seen = options_.project(seen);
            value = mix(value, seen);
        }
        if (options_.value) value = *options_.value;
        std::vector<SharedResult> outputs;
        for (std::uint32_t k = 0; k < options_.outputs; ++k) outputs.push_back(number_result(value + k));
        return outputs;
    }
    PoolKind pool() const override { return options_.pool; }

    std::size_t inputs = 0;
    std::atomic<int> maps = 0;
    std::atomic<int> contents = 0;
    std::atomic<int> alikes = 0;
    std::atomic<int> executions = 0;

private:
    [[nodiscard]] bool is_alike(std::size_t input) const {
        return input < options_.alike.size() && options_.alike[input];
    }
    CountingOpOptions options_;
};

// A vertex together with its op, for counting.
struct FakeVertex {
    std::shared_ptr<const Vertex> vertex;
    std::shared_ptr<CountingOp> op;

    [[nodiscard]] Output output(std::uint32_t index) const { return {vertex, index}; }
    [[nodiscard]] int executions() const { return op->executions; }
};

[[nodiscard]] inline FakeVertex fake_vertex(std::uint64_t digest, CountingOpOptions options, std::vector<Output> inputs,
                                            VertexOptions vertex_options) {
    const std::uint32_t outputs = options.outputs;
    auto op = std::make_shared<CountingOp>(std::move(options));
    op->inputs = inputs.size();
    auto vertex = Vertex::create({.digest = number_digest(digest),
                                  .name = "v" + std::to_string(digest),
                                  .inputs = std::move(inputs),
                                  .options = std::move(vertex_options),
                                  .op = op,
                                  .outputs = outputs});
    return {std::move(vertex), std::move(op)};
}
[[nodiscard]] inline FakeVertex fake_vertex(std::uint64_t digest, CountingOpOptions options,
                                            std::vector<Output> inputs) {
    return fake_vertex(digest, std::move(options), std::move(inputs), {});
}

class RecordingSink final : public ProgressSink {
public:
    void emit(ProgressEvent event) override { events_.lock()->push_back(std::move(event)); }
    // The last thing said about a vertex.
    [[nodiscard]] std::optional<VertexEvent> last(const Digest& vertex) {
        std::optional<VertexEvent> found;
        auto events = events_.lock();
        for (const ProgressEvent& event : *events) {
            const auto* one = std::get_if<VertexEvent>(&event);
            if (one != nullptr && one->digest == vertex) found = *one;
        }
        return found;
    }
    [[nodiscard]] std::size_t count() { return events_.lock()->size(); }

private:
    Guarded<std::vector<ProgressEvent>> events_;
};

}  // namespace cooper::solver
