// The solver's stores over the state directory: cache keys and results in the database, results named by
// their chain of layers ("1,2,3"; scratch is "scratch").
#pragma once

#include "solver/cache.hpp"
#include "store/store.hpp"

namespace cooper::engine {

// A link as the store names it.
[[nodiscard]] std::string link_text(const solver::CacheLink& link);

class SolverCache final : public solver::CacheStore {
public:
    explicit SolverCache(store::Store& store) : store_(store) {}
    Result<std::vector<std::vector<solver::KeyId>>> follow(std::span<const solver::LinkFrom> questions) override;
    Result<std::vector<solver::CacheRecord>> records(std::span<const solver::KeyId> keys) override;
    Result<> add(const solver::CacheAddition& addition) override;
    Result<> drop(const solver::ResultId& result) override;

private:
    store::Store& store_;
};

class SolverResults final : public solver::ResultStore {
public:
    explicit SolverResults(store::Store& store) : store_(store) {}
    Result<solver::ResultId> save(const solver::SharedResult& result) override;
    Result<std::optional<solver::SharedResult>> load(const solver::ResultId& id) override;
    bool exists(const solver::ResultId& id) override;

private:
    store::Store& store_;
};

}  // namespace cooper::engine
