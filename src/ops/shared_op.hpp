// SharedOp: an operation that several builds want. It is done with the environment of the build that came
// first; when that build's client goes away in the middle (SessionLost), with that of another one.
#pragma once

#include "base/guarded.hpp"
#include "solver/op.hpp"

#include <memory>
#include <optional>
#include <vector>

namespace cooper::ops {

class SharedOp final : public solver::Op {
public:
    // keeps: what `op` works with, alive as long as somebody may ask it.
    SharedOp(std::shared_ptr<solver::Op> op, std::shared_ptr<const void> keeps);

    Result<solver::CacheMapPart> cache_map(std::size_t index, solver::OpContext& context) override;
    [[nodiscard]] bool cache_map_is_cheap() const override { return cheap_; }
    Result<Digest> content_digest(std::size_t input, const solver::SharedResult& result,
                                  solver::OpContext& context) override;
    Result<Digest> alike_digest(std::size_t input, const solver::SharedResult& result,
                                solver::OpContext& context) override;
    Result<std::vector<solver::SharedResult>> execute(std::span<const solver::SharedResult> inputs,
                                                      solver::OpContext& context) override;
    [[nodiscard]] solver::PoolKind pool() const override { return pool_; }
    void share(const std::shared_ptr<solver::Op>& other) override;

private:
    struct Way {
        std::shared_ptr<solver::Op> op;
        std::shared_ptr<const void> keeps;
    };
    struct State {
        std::vector<Way> ways;
        std::size_t current = 0;
        // What the first way said it is cached by: another way must be the same work.
        std::optional<Digest> key;
    };
    // The next way after the one that failed; nullopt when there is none left.
    std::optional<Way> next_way(const std::shared_ptr<solver::Op>& failed);
    Way current_way();
    template <class Ask>
    auto ask(solver::OpContext& context, Ask question) -> decltype(question(std::declval<solver::Op&>()));

    Guarded<State> state_;
    bool cheap_;
    solver::PoolKind pool_;
};

}  // namespace cooper::ops
