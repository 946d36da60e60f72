#include "ops/merge_op.hpp"

#include "ops/file_op.hpp"

#include <algorithm>

namespace cooper::ops {

namespace {

Result<store::Chain> committed(const solver::SharedResult& result) {
    const Ref* ref = ref_of(result);
    if (ref != nullptr && ref->local() != nullptr) {
        return fail(Code::failed_precondition, Blame::user, "a build context cannot be compared before it is copied");
    }
    return chain_of(result);
}

}  // namespace

Result<solver::CacheMapPart> MergeOp::cache_map(std::size_t /*index*/, solver::OpContext& /*context*/) {
    return to_cache_map(cache_);
}

Result<std::vector<solver::SharedResult>> MergeOp::execute(std::span<const solver::SharedResult> inputs,
                                                           solver::OpContext& context) {
    store::Chain merged;
    for (const std::int64_t index : op_.inputs) {
        if (index < 0) continue;
        const solver::SharedResult& input = inputs[static_cast<std::size_t>(index)];
        const store::Chain chain = TRY(environment_.trees.layers_of(input, description_, context.stop));
        merged.layers.insert(merged.layers.end(), chain.layers.begin(), chain.layers.end());
    }
    return std::vector{make_result(std::move(merged))};
}

Result<solver::CacheMapPart> DiffOp::cache_map(std::size_t /*index*/, solver::OpContext& /*context*/) {
    return to_cache_map(cache_);
}

Result<std::vector<solver::SharedResult>> DiffOp::execute(std::span<const solver::SharedResult> inputs,
                                                          solver::OpContext& /*context*/) {
    const auto chain_at = [&](std::int64_t index) -> Result<store::Chain> {
        if (index < 0) return store::Chain{};
        return committed(inputs[static_cast<std::size_t>(index)]);
    };
    const store::Chain lower = TRY(chain_at(op_.lower));
    const store::Chain upper = TRY(chain_at(op_.upper));
    if (lower.layers.size() > upper.layers.size() ||
        !std::equal(lower.layers.begin(), lower.layers.end(), upper.layers.begin())) {
        return fail(Code::failed_precondition, Blame::user, "diff: the upper result is not built on the lower one");
    }
    store::Chain rest;
    rest.layers.assign(upper.layers.begin() + static_cast<std::ptrdiff_t>(lower.layers.size()), upper.layers.end());
    return std::vector{make_result(std::move(rest))};
}

Result<solver::CacheMapPart> PassthroughOp::cache_map(std::size_t /*index*/, solver::OpContext& /*context*/) {
    return to_cache_map(cache_);
}

Result<std::vector<solver::SharedResult>> PassthroughOp::execute(std::span<const solver::SharedResult> inputs,
                                                                 solver::OpContext& /*context*/) {
    std::vector<solver::SharedResult> out;
    for (const std::int64_t index : op_.outputs) out.push_back(inputs[static_cast<std::size_t>(index)]);
    return out;
}

}  // namespace cooper::ops
