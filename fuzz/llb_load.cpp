// Definitions as clients send them: whatever loads must be consistent, and what parses must print the
// same way twice.
#include "llb/cache_digest.hpp"
#include "llb/load.hpp"
#include "llb/marshal.hpp"
#include "llb/state.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

using namespace cooper;

namespace {

void check(bool condition) {
    if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    if (const auto op = llb::parse_op(bytes)) {
        const std::string printed = llb::marshal(*op);
        const auto again = llb::parse_op(printed);
        check(again && llb::marshal(*again) == printed);
    }
    const auto definition = llb::parse_definition(bytes);
    if (!definition) return 0;
    const llb::Platform platform{.architecture = "amd64", .os = "linux"};
    if (const auto graph = llb::load(*definition)) {
        for (std::size_t i = 0; i < graph->vertices.size(); ++i) {
            const llb::LoadedVertex& vertex = graph->vertices[i];
            for (const llb::Edge& edge : vertex.inputs) check(edge.vertex < i);
            if (std::holds_alternative<llb::SourceOp>(vertex.op.body)) continue;
            const auto info = llb::cache_info(vertex.op, platform);
            check(!info || info->inputs.size() == vertex.op.inputs.size());
        }
        check(!graph->target || graph->target->vertex < graph->vertices.size());
    }
    if (const auto state = llb::from_definition(*definition))
        static_cast<void>(llb::marshal_definition(*state, platform));
    return 0;
}
