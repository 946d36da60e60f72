// ExecOp as a solver::Op: runs one command in a container on its input chain and keeps what it wrote as
// a layer.
#pragma once

#include "llb/cache_digest.hpp"
#include "llb/op.hpp"
#include "ops/environment.hpp"
#include "run/cdi.hpp"
#include "solver/op.hpp"

namespace cooper::ops {

struct ExecParts {
    llb::ExecOp op;
    llb::OpCacheInfo cache;
    std::string description;          // the vertex's name
    bool clear_cache_mounts = false;  // --no-cache: cache mounts begin empty
    std::string architecture;         // of its programs, as in platforms
    run::Resources resources;         // limits, of the step's metadata: no part of the key
    run::DeviceEdits devices;         // what its CDI devices come to
};

class ExecOp final : public solver::Op {
public:
    ExecOp(Environment& environment, ExecParts parts) : environment_(environment), parts_(std::move(parts)) {}

    Result<solver::CacheMapPart> cache_map(std::size_t index, solver::OpContext& context) override;
    bool cache_map_is_cheap() const override { return true; }
    Result<Digest> content_digest(std::size_t input, const solver::SharedResult& result,
                                  solver::OpContext& context) override;
    Result<std::vector<solver::SharedResult>> execute(std::span<const solver::SharedResult> inputs,
                                                      solver::OpContext& context) override;
    solver::PoolKind pool() const override { return solver::PoolKind::exec; }

private:
    Environment& environment_;
    ExecParts parts_;
};

}  // namespace cooper::ops
