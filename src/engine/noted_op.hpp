// NotedOp: an operation of a build that has StepNotes. It is asked and done as ever; when it runs, it is noted why.
#pragma once

#include "engine/step_notes.hpp"
#include "solver/op.hpp"

#include <memory>
#include <vector>

namespace cooper::engine {

class NotedOp final : public solver::Op {
public:
    struct Parts {
        std::shared_ptr<solver::Op> op;
        std::shared_ptr<StepNotes> notes;
        std::shared_ptr<const Plan> plan;
        std::size_t index = 0;          // of its vertex
        ops::Environment& environment;  // outlives it
        llb::Platform platform;
        std::map<std::string, std::string> secret_keys;  // of its secrets that are in its key, by id
    };
    explicit NotedOp(Parts parts) : parts_(std::move(parts)) {}

    Result<solver::CacheMapPart> cache_map(std::size_t index, solver::OpContext& context) override;
    [[nodiscard]] bool cache_map_is_cheap() const override { return parts_.op->cache_map_is_cheap(); }
    Result<Digest> content_digest(std::size_t input, const solver::SharedResult& result,
                                  solver::OpContext& context) override;
    Result<Digest> alike_digest(std::size_t input, const solver::SharedResult& result,
                                solver::OpContext& context) override;
    Result<std::vector<solver::SharedResult>> execute(std::span<const solver::SharedResult> inputs,
                                                      solver::OpContext& context) override;
    [[nodiscard]] solver::PoolKind pool() const override { return parts_.op->pool(); }

private:
    Parts parts_;
    Guarded<std::map<std::size_t, Digest>> contents_;
};

}  // namespace cooper::engine
