#include "ops/merge_op.hpp"

#include "layer/difference.hpp"
#include "ops/file_op.hpp"

#include <algorithm>

namespace cooper::ops {

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
    return std::vector{TRY(held_result(std::move(merged), environment_.holder))};
}

Result<solver::CacheMapPart> DiffOp::cache_map(std::size_t /*index*/, solver::OpContext& /*context*/) {
    return to_cache_map(cache_);
}

Result<std::vector<solver::SharedResult>> DiffOp::execute(std::span<const solver::SharedResult> inputs,
                                                          solver::OpContext& context) {
    const auto chain_at = [&](std::int64_t index) -> Result<store::Chain> {
        if (index < 0) return store::Chain{};
        return environment_.trees.layers_of(inputs[static_cast<std::size_t>(index)], description_, context.stop);
    };
    const store::Chain lower = TRY(chain_at(op_.lower));
    const store::Chain upper = TRY(chain_at(op_.upper));
    if (lower.layers.size() > upper.layers.size() ||
        !std::equal(lower.layers.begin(), lower.layers.end(), upper.layers.begin())) {
        return std::vector{TRY(held_result(TRY(compare(lower, upper, context)), environment_.holder))};
    }
    store::Chain rest;
    rest.layers.assign(upper.layers.begin() + static_cast<std::ptrdiff_t>(lower.layers.size()), upper.layers.end());
    return std::vector{TRY(held_result(std::move(rest), environment_.holder))};
}

Result<store::Chain> DiffOp::compare(const store::Chain& lower, const store::Chain& upper, solver::OpContext& context) {
    const auto before = TRY(environment_.trees.tree(make_result(lower), context.progress, context.stop));
    const auto after = TRY(environment_.trees.tree(make_result(upper), context.progress, context.stop));
    store::LayerDraft draft = TRY(environment_.store.begin_layer());
    const auto builder =
        TRY(snapshot::LayerBuilder::create(TRY(environment_.trees.layer_dirs(lower)), TRY(draft.open())));
    builder->set_before_write(
        [this](std::uint64_t bytes) { return environment_.store.space().charge(bytes, description_); });
    TRY(layer::put_difference(before, after, *builder, context.stop));
    TRY(builder->finish());
    store::LayerInfo info;
    info.description = description_;
    info.size_bytes = builder->written().bytes;
    return store::Chain{{TRY(std::move(draft).commit(info))}};
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
