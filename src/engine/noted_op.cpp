#include "engine/noted_op.hpp"

#include "ops/ref.hpp"

#include <chrono>

namespace cooper::engine {

Result<solver::CacheMapPart> NotedOp::cache_map(std::size_t index, solver::OpContext& context) {
    const auto use = parts_.environment.holder->use();
    auto part = parts_.op->cache_map(index, context);
    const llb::LoadedVertex& vertex = parts_.plan->graph.vertices[parts_.index];
    if (part && index == 0 && vertex.inputs.empty()) parts_.notes->note_pin(vertex.digest, part->map.digest);
    return part;
}

Result<Digest> NotedOp::content_digest(std::size_t input, const solver::SharedResult& result,
                                       solver::OpContext& context) {
    const auto use = parts_.environment.holder->use();
    const Digest digest = TRY(parts_.op->content_digest(input, result, context));
    contents_.lock()->insert_or_assign(input, digest);
    return digest;
}

Result<Digest> NotedOp::alike_digest(std::size_t input, const solver::SharedResult& result,
                                     solver::OpContext& context) {
    const auto use = parts_.environment.holder->use();
    const Digest digest = TRY(parts_.op->alike_digest(input, result, context));
    // What makes no difference to the step is not why it runs.
    contents_.lock()->insert_or_assign(input, digest);
    return digest;
}

Result<std::vector<solver::SharedResult>> NotedOp::execute(std::span<const solver::SharedResult> inputs,
                                                           solver::OpContext& context) {
    const auto use = parts_.environment.holder->use();
    const StepNotes::Step step{.plan = *parts_.plan,
                               .index = parts_.index,
                               .inputs = inputs,
                               .contents = *contents_.lock(),
                               .environment = parts_.environment,
                               .platform = parts_.platform,
                               .secret_keys = parts_.secret_keys};
    StepNotes::Begun begun = TRY(parts_.notes->begin(step, context));
    const auto began = std::chrono::steady_clock::now();
    auto executed = parts_.op->execute(inputs, context);
    if (!executed) {
        parts_.notes->end_without_result(std::move(begun), executed.error(), context.stop);
        return executed.error();
    }
    auto& results = *executed;
    const auto took = std::chrono::steady_clock::now() - began;
    for (const auto& result : results) {
        const ops::Ref* ref = ops::ref_of(result);
        if (ref != nullptr && ref->local() == nullptr && !ref->chain().empty())
            parts_.notes->note_time(ref->chain().layers.back(), took);
    }
    parts_.notes->end(step, std::move(begun), results.empty() ? nullptr : results.front(), context);
    return executed;
}

}  // namespace cooper::engine
