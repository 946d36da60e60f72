#include "engine/build_op.hpp"

#include "base/text.hpp"
#include "llb/marshal.hpp"
#include "ops/file_op.hpp"

namespace cooper::engine {

namespace {

constexpr std::size_t kMaxBuildOps = 10'000;  // of a job

}  // namespace

Result<solver::CacheMapPart> BuildOp::cache_map(std::size_t /*index*/, solver::OpContext& /*context*/) {
    return ops::to_cache_map(cache_);
}

Result<std::vector<solver::SharedResult>> BuildOp::execute(std::span<const solver::SharedResult> inputs,
                                                           solver::OpContext& context) {
    const auto input = op_.inputs.find(std::string(llb::kDefinitionFile));
    if (input == op_.inputs.end() || input->second < 0)
        return bad_input("no {} input found for a build operation", llb::kDefinitionFile);
    const auto named = op_.attrs.find(std::string(llb::kDefinitionFileAttr));
    const std::string path(named == op_.attrs.end() ? std::string(llb::kDefinitionFile) : named->second);
    const auto bytes =
        TRY(read_(inputs[static_cast<std::size_t>(input->second)], path, context.progress, context.stop));
    if (!bytes) return bad_input("a build operation wants {}, which its input does not have", quoted(path));
    const auto definition = TRY_CONTEXT(llb::parse_definition(*bytes), "{}", path);
    solver::SharedResult result = TRY_CONTEXT(build_(definition, context.stop), "{}", path);
    if (result == nullptr) result = ops::make_result({});
    return std::vector{std::move(result)};
}

Result<> BuildOrder::add(const llb::Graph& graph, const std::optional<Digest>& parent) {
    // Per operation the build operations below it. Graphs without any are done at once.
    std::vector<std::set<Digest>> below(graph.vertices.size());
    auto waits = waits_.lock();
    bool any = false;
    for (std::size_t i = 0; i < graph.vertices.size(); ++i) {
        const auto& vertex = graph.vertices[i];
        for (const auto& input : vertex.inputs) below[i].insert(below[input.vertex].begin(), below[input.vertex].end());
        if (!std::holds_alternative<llb::BuildOp>(vertex.op.body)) continue;
        any = true;
        (*waits)[vertex.digest].insert(below[i].begin(), below[i].end());
        below[i].insert(vertex.digest);
    }
    if (!any) return {};
    if (waits->size() > kMaxBuildOps) return bad_input("more than {} build operations in one build", kMaxBuildOps);
    if (!parent) return {};
    const std::set<Digest>& wanted = below[graph.target->vertex];
    (*waits)[*parent].insert(wanted.begin(), wanted.end());
    // Does what the parent waits for wait for the parent?
    std::set<Digest> seen;
    std::vector<Digest> next(wanted.begin(), wanted.end());
    while (!next.empty()) {
        const Digest at = next.back();
        next.pop_back();
        if (at == *parent) return bad_input("a build operation waits for itself: its definition has it again");
        if (!seen.insert(at).second) continue;
        if (const auto found = waits->find(at); found != waits->end())
            next.insert(next.end(), found->second.begin(), found->second.end());
    }
    return {};
}

}  // namespace cooper::engine
