#include "solver/vertex.hpp"

#include "solver/op.hpp"

namespace cooper::solver {

std::shared_ptr<const Vertex> Vertex::create(Parts parts) {
    CHECK(parts.op != nullptr);
    for (const Output& input : parts.inputs) {
        CHECK(input.vertex != nullptr);
        CHECK(input.index < input.vertex->outputs());
    }
    return std::make_shared<const Vertex>(std::move(parts));
}

Vertex::~Vertex() {
    // A chain of 100,000 vertices would otherwise be 100,000 nested destructors. A vertex of which we
    // hold the last handle can be emptied from here: nobody else can see it any more.
    std::vector<std::shared_ptr<const Vertex>> pending;
    const auto take_inputs = [&pending](std::vector<Output>& inputs) {
        for (Output& input : inputs) pending.push_back(std::move(input.vertex));
        inputs.clear();
    };
    take_inputs(parts_.inputs);
    while (!pending.empty()) {
        const std::shared_ptr<const Vertex> last = std::move(pending.back());
        pending.pop_back();
        if (last && last.use_count() == 1) take_inputs(const_cast<Vertex&>(*last).parts_.inputs);
    }
}

Result<Digest> Op::content_digest(std::size_t input, const SharedResult& /*result*/, OpContext& /*context*/) {
    return fail(Code::internal, Blame::cooper, "op has no content digest for input {}", input);
}

Result<Digest> Op::alike_digest(std::size_t input, const SharedResult& /*result*/, OpContext& /*context*/) {
    return fail(Code::internal, Blame::cooper, "op has no digest of what is alike to input {}", input);
}

}  // namespace cooper::solver
