// A cache that lives and dies with the process: for tests, and where nothing is to be kept.
// Thread rules: any thread.
#pragma once

#include "base/guarded.hpp"
#include "solver/cache.hpp"

#include <map>
#include <set>
#include <unordered_map>
#include <utility>

namespace cooper::solver {

class MemoryCacheStore final : public CacheStore {
public:
    Result<std::vector<std::vector<KeyId>>> follow(std::span<const LinkFrom> questions) override;
    Result<std::vector<CacheRecord>> records(std::span<const KeyId> keys) override;
    Result<> add(const CacheAddition& addition) override;
    Result<> drop(const ResultId& result) override;

private:
    struct State {
        std::unordered_map<KeyId, std::map<CacheLink, std::set<KeyId>>> links;
        std::unordered_map<KeyId, std::vector<CacheRecord>> records;
    };
    Guarded<State> state_;
};

// Keeps the handles themselves.
class MemoryResultStore final : public ResultStore {
public:
    Result<ResultId> save(const SharedResult& result) override;
    Result<std::optional<SharedResult>> load(const ResultId& id) override;
    bool exists(const ResultId& id) override;
    void remove(const ResultId& id);

private:
    struct State {
        std::unordered_map<ResultId, SharedResult> results;
        std::uint64_t next = 1;
    };
    Guarded<State> state_;
};

}  // namespace cooper::solver
