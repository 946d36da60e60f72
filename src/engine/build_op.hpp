// BuildOp as a solver::Op: reads a definition from a file of its input and has it built, in the same job. Other jobs do
// not share it: it works with its job, which waits for it.
#pragma once

#include "base/guarded.hpp"
#include "llb/cache_digest.hpp"
#include "llb/definition.hpp"
#include "llb/load.hpp"
#include "llb/op.hpp"
#include "solver/op.hpp"

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>

namespace cooper::engine {

// The file of an input, at most so many bytes; nullopt when there is none.
using ReadDefinition = std::function<Result<std::optional<std::string>>(
    const solver::SharedResult& input, const std::string& path, VertexProgress& progress, const Stop& stop)>;
using BuildDefinition =
    std::function<Result<solver::SharedResult>(const llb::Definition& definition, const Stop& stop)>;

class BuildOp final : public solver::Op {
public:
    BuildOp(llb::BuildOp op, llb::OpCacheInfo cache, ReadDefinition read, BuildDefinition build)
        : op_(std::move(op)), cache_(std::move(cache)), read_(std::move(read)), build_(std::move(build)) {}
    Result<solver::CacheMapPart> cache_map(std::size_t index, solver::OpContext& context) override;
    bool cache_map_is_cheap() const override { return true; }
    Result<std::vector<solver::SharedResult>> execute(std::span<const solver::SharedResult> inputs,
                                                      solver::OpContext& context) override;
    solver::PoolKind pool() const override { return solver::PoolKind::nested; }

private:
    llb::BuildOp op_;
    llb::OpCacheInfo cache_;
    ReadDefinition read_;
    BuildDefinition build_;
};

// Which build operations of a job wait for which, to find those that would wait for themselves.
class BuildOrder {
public:
    // The operations of a graph, of which `parent` (nullopt: nobody) waits for the result. Bad input for a loop.
    Result<> add(const llb::Graph& graph, const std::optional<Digest>& parent);

private:
    Guarded<std::map<Digest, std::set<Digest>>> waits_;
};

}  // namespace cooper::engine
