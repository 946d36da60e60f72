// MergeOp, DiffOp and PassthroughOp as solver::Ops: lists of layers put together and taken apart. Files are only looked
// at for the difference of two results of which neither is built on the other.
#pragma once

#include "llb/cache_digest.hpp"
#include "llb/op.hpp"
#include "ops/environment.hpp"
#include "solver/op.hpp"

#include <string>

namespace cooper::ops {

class MergeOp final : public solver::Op {
public:
    MergeOp(Environment& environment, llb::MergeOp op, llb::OpCacheInfo cache, std::string description)
        : environment_(environment),
          op_(std::move(op)),
          cache_(std::move(cache)),
          description_(std::move(description)) {}
    Result<solver::CacheMapPart> cache_map(std::size_t index, solver::OpContext& context) override;
    bool cache_map_is_cheap() const override { return true; }
    Result<std::vector<solver::SharedResult>> execute(std::span<const solver::SharedResult> inputs,
                                                      solver::OpContext& context) override;
    solver::PoolKind pool() const override { return solver::PoolKind::cpu; }

private:
    Environment& environment_;
    llb::MergeOp op_;
    llb::OpCacheInfo cache_;
    std::string description_;
};

// What is in the upper result and not in the lower one. Where the upper one is built on the lower one these are layers
// that exist already; otherwise the trees are compared and the difference is a layer of its own.
class DiffOp final : public solver::Op {
public:
    DiffOp(Environment& environment, llb::DiffOp op, llb::OpCacheInfo cache, std::string description)
        : environment_(environment), op_(op), cache_(std::move(cache)), description_(std::move(description)) {}
    Result<solver::CacheMapPart> cache_map(std::size_t index, solver::OpContext& context) override;
    bool cache_map_is_cheap() const override { return true; }
    Result<std::vector<solver::SharedResult>> execute(std::span<const solver::SharedResult> inputs,
                                                      solver::OpContext& context) override;
    solver::PoolKind pool() const override { return solver::PoolKind::cpu; }

private:
    Result<store::Chain> compare(const store::Chain& lower, const store::Chain& upper, solver::OpContext& context);

    Environment& environment_;
    llb::DiffOp op_;
    llb::OpCacheInfo cache_;
    std::string description_;
};

class PassthroughOp final : public solver::Op {
public:
    PassthroughOp(llb::PassthroughOp op, llb::OpCacheInfo cache) : op_(std::move(op)), cache_(std::move(cache)) {}
    Result<solver::CacheMapPart> cache_map(std::size_t index, solver::OpContext& context) override;
    bool cache_map_is_cheap() const override { return true; }
    Result<std::vector<solver::SharedResult>> execute(std::span<const solver::SharedResult> inputs,
                                                      solver::OpContext& context) override;
    solver::PoolKind pool() const override { return solver::PoolKind::cpu; }

private:
    llb::PassthroughOp op_;
    llb::OpCacheInfo cache_;
};

}  // namespace cooper::ops
