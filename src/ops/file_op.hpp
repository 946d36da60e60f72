// FileOp as a solver::Op: copies, directories, files, removals and links, done on layer directories
// without mounting anything.
#pragma once

#include "llb/cache_digest.hpp"
#include "llb/op.hpp"
#include "ops/environment.hpp"
#include "solver/op.hpp"

namespace cooper::ops {

class FileOp final : public solver::Op {
public:
    // description: the vertex's name, kept with the layers it makes.
    FileOp(Environment& environment, llb::FileOp op, llb::OpCacheInfo cache, std::string description)
        : environment_(environment),
          op_(std::move(op)),
          cache_(std::move(cache)),
          description_(std::move(description)) {}

    Result<solver::CacheMapPart> cache_map(std::size_t index, solver::OpContext& context) override;
    bool cache_map_is_cheap() const override { return true; }
    Result<Digest> content_digest(std::size_t input, const solver::SharedResult& result,
                                  solver::OpContext& context) override;
    Result<Digest> alike_digest(std::size_t input, const solver::SharedResult& result,
                                solver::OpContext& context) override;
    Result<std::vector<solver::SharedResult>> execute(std::span<const solver::SharedResult> inputs,
                                                      solver::OpContext& context) override;
    solver::PoolKind pool() const override { return solver::PoolKind::cpu; }

private:
    class Run;
    Environment& environment_;
    llb::FileOp op_;
    llb::OpCacheInfo cache_;
    std::string description_;
};

// What all copies of this op that read an input replace of the metadata there; nothing, when something else reads it.
[[nodiscard]] layer::Replacement replacement_of(const llb::FileOp& op, std::int64_t input);

// Shared by the ops that llb::cache_info describes.
[[nodiscard]] solver::CacheMapPart to_cache_map(const llb::OpCacheInfo& info);
[[nodiscard]] std::vector<layer::ContentSelector> to_selectors(const std::vector<llb::ContentSelector>& selectors);

}  // namespace cooper::ops
