// What the state directory costs when it has been used for long: 100,000 layers, results, keys and steps, each looked
// up, all listed, and a prune planned. COOPER_BENCH_RECORDS says another number.

#include "base/clock.hpp"
#include "store/store.hpp"

#include <benchmark/benchmark.h>
#include <cstdlib>
#include <filesystem>
#include <fmt/core.h>

namespace cooper::store {
namespace {

// One directory for all benchmarks: making it takes longest.
class BigStore {
public:
    static BigStore& get() {
        static BigStore instance;
        return instance;
    }
    Store& store() { return *store_; }
    [[nodiscard]] std::int64_t count() const { return count_; }
    std::int64_t next() { return next_ = (next_ * 48271 + 11) % count_; }  // somewhere else each time

private:
    BigStore() {
        if (const char* records = std::getenv("COOPER_BENCH_RECORDS")) count_ = std::atoll(records);
        std::string path = std::filesystem::temp_directory_path().string() + "/store-bench-XXXXXX";
        if (::mkdtemp(path.data()) == nullptr) std::abort();
        root_ = path;
        store_ = Store::open(root_, clock_).value();
        Database& database = store_->database();
        // Chains of ten layers, as images have them; a result and a key for each.
        const auto filled = database.transaction([&]() -> Result<> {
            std::string chain;
            for (std::int64_t i = 0; i < count_; ++i) {
                chain = i % 10 == 0 ? std::to_string(i + 1) : chain + "," + std::to_string(i + 1);
                TRY(
                    database.run("INSERT INTO layers(id, on_disk, description, record_type, size, created, used, "
                                 "diff_id, cost) VALUES(?, 1, ?, 'regular', ?, ?, ?, ?, ?)",
                                 {i + 1, fmt::format("[{}/10] RUN step {}", i % 10 + 1, i), 4096 + i, i + 1, i + 1,
                                  diff_id(i).to_string(), 1'000'000 * (i % 977)}));
                TRY(database.run("INSERT INTO results VALUES(?, ?, ?)", {key(i), chain, i + 1}));
                TRY(database.run("INSERT INTO links VALUES(?, ?, ?)",
                                 {i % 10 == 0 ? "" : key(i - 1), link(i), key(i)}));
                TRY(database.run("INSERT INTO facts VALUES(?, ?, ?)", {"fact " + std::to_string(i), "value", i}));
            }
            return {};
        });
        if (!filled) std::abort();
    }
    ~BigStore() {
        store_.reset();
        std::filesystem::remove_all(root_);
    }

public:
    static std::string key(std::int64_t i) { return fmt::format("sha256:{:064x}", i + 7); }
    static std::string link(std::int64_t i) { return fmt::format("0,sha256:{:064x},", i + 9); }
    static Digest diff_id(std::int64_t i) { return Digest::parse(fmt::format("sha256:{:064x}", i + 11)).value(); }

private:
    std::int64_t count_ = 100'000;
    std::int64_t next_ = 1;
    SystemClock clock_;
    std::string root_;
    std::unique_ptr<Store> store_;
};

template <class Ask>
void look_up(benchmark::State& state, Ask ask) {
    BigStore& big = BigStore::get();
    for (auto _ : state) {
        if (!ask(big, big.next())) state.SkipWithError("not found");
    }
}

BENCHMARK_CAPTURE(look_up, key, [](BigStore& big, std::int64_t i) {
    const auto found = big.store().cache_links(i % 10 == 0 ? "" : BigStore::key(i - 1), BigStore::link(i));
    return found && !found->empty();
});
BENCHMARK_CAPTURE(look_up, result, [](BigStore& big, std::int64_t i) {
    const auto found = big.store().cache_results(BigStore::key(i));
    return found && !found->empty();
});
BENCHMARK_CAPTURE(look_up, layer_by_diff_id, [](BigStore& big, std::int64_t i) {
    const auto found = big.store().find_layer(BigStore::diff_id(i));
    return found && found->has_value();
});
BENCHMARK_CAPTURE(look_up, layer, [](BigStore& big, std::int64_t i) { return big.store().layer(i + 1).has_value(); });
BENCHMARK_CAPTURE(look_up, fact, [](BigStore& big, std::int64_t i) {
    const auto found = big.store().fact("fact " + std::to_string(i));
    return found && found->has_value();
});
// With the write that notes it.
BENCHMARK_CAPTURE(look_up, pin, [](BigStore& big, std::int64_t i) {
    const auto pin = big.store().pin(Chain{{i + 1}});
    return pin && *pin != nullptr;
});
// Of a blob that a cache has lost.
BENCHMARK_CAPTURE(look_up, layers_of_a_blob, [](BigStore& big, std::int64_t i) {
    return big.store().lazy_layers_of(BigStore::diff_id(i)).has_value();
});

void usage(benchmark::State& state) {
    BigStore& big = BigStore::get();
    for (auto _ : state) {
        const auto records = big.store().usage();
        if (!records || static_cast<std::int64_t>(records->size()) != big.count()) state.SkipWithError("wrong number");
    }
}
BENCHMARK(usage)->Unit(benchmark::kMillisecond);

void why_kept(benchmark::State& state) {
    for (auto _ : state) benchmark::DoNotOptimize(BigStore::get().store().why_kept());
}
BENCHMARK(why_kept)->Unit(benchmark::kMillisecond);

void prune_dry_run(benchmark::State& state) {
    BigStore& big = BigStore::get();
    for (auto _ : state) {
        const auto gone = big.store().prune({.all = true, .dry_run = true});
        if (!gone || static_cast<std::int64_t>(gone->size()) != big.count()) state.SkipWithError("wrong number");
    }
}
BENCHMARK(prune_dry_run)->Unit(benchmark::kMillisecond);

// Makes room: a thousand layers at a time.
void prune_a_part(benchmark::State& state) {
    BigStore& big = BigStore::get();
    for (auto _ : state) {
        const auto gone = big.store().prune({.all = true, .free_bytes = 50'000'000});
        if (!gone || gone->empty()) state.SkipWithError("nothing was removed");
    }
}
BENCHMARK(prune_a_part)->Unit(benchmark::kMillisecond)->Iterations(3);

}  // namespace
}  // namespace cooper::store

BENCHMARK_MAIN();
