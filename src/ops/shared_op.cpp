#include "ops/shared_op.hpp"

#include <algorithm>
#include <utility>

namespace cooper::ops {

namespace {
// A crowd of builds may want one step; a few ways to do it are enough.
constexpr std::size_t kMaxWays = 8;
}  // namespace

SharedOp::SharedOp(std::shared_ptr<solver::Op> op, std::shared_ptr<const void> keeps)
    : cheap_(op->cache_map_is_cheap()), pool_(op->pool()) {
    state_.lock()->ways.push_back({std::move(op), std::move(keeps)});
}

void SharedOp::share(const std::shared_ptr<solver::Op>& other) {
    auto* theirs = dynamic_cast<SharedOp*>(other.get());
    if (theirs == nullptr || theirs == this) return;
    Way way = theirs->current_way();
    auto state = state_.lock();
    const bool known = std::ranges::any_of(state->ways, [&](const Way& have) { return have.keeps == way.keeps; });
    if (!known && state->ways.size() < kMaxWays) state->ways.push_back(std::move(way));
}

SharedOp::Way SharedOp::current_way() {
    auto state = state_.lock();
    return state->ways[state->current];
}

std::optional<SharedOp::Way> SharedOp::next_way(const std::shared_ptr<solver::Op>& failed) {
    auto state = state_.lock();
    // Somebody else may have moved on already.
    if (state->ways[state->current].op != failed) return state->ways[state->current];
    if (state->current + 1 >= state->ways.size()) return std::nullopt;
    return state->ways[++state->current];
}

template <class Ask>
auto SharedOp::ask(solver::OpContext& context, Ask question) -> decltype(question(std::declval<solver::Op&>())) {
    Way way = current_way();
    while (true) {
        auto answer = question(*way.op);
        if (answer || answer.error().template find_detail<SessionLost>() == nullptr) return answer;
        auto next = next_way(way.op);
        if (!next) return answer;
        const std::optional<Digest> key = state_.lock()->key;
        if (key) {
            const auto map = next->op->cache_map(0, context);
            if (!map) return map.error();
            if (map->map.digest != *key) return answer;
        }
        way = std::move(*next);
    }
}

Result<solver::CacheMapPart> SharedOp::cache_map(std::size_t index, solver::OpContext& context) {
    auto part = ask(context, [&](solver::Op& op) { return op.cache_map(index, context); });
    if (part && index == 0) state_.lock()->key = part->map.digest;
    return part;
}

Result<Digest> SharedOp::content_digest(std::size_t input, const solver::SharedResult& result,
                                        solver::OpContext& context) {
    return ask(context, [&](solver::Op& op) { return op.content_digest(input, result, context); });
}

Result<Digest> SharedOp::alike_digest(std::size_t input, const solver::SharedResult& result,
                                      solver::OpContext& context) {
    return ask(context, [&](solver::Op& op) { return op.alike_digest(input, result, context); });
}

Result<std::vector<solver::SharedResult>> SharedOp::execute(std::span<const solver::SharedResult> inputs,
                                                            solver::OpContext& context) {
    return ask(context, [&](solver::Op& op) { return op.execute(inputs, context); });
}

}  // namespace cooper::ops
