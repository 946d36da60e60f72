#include "layer/alike.hpp"

#include "layer/copy.hpp"

#include <array>

namespace cooper::layer {

namespace {

std::uint32_t usual_mode(const std::string& text, std::uint32_t mode, bool is_directory) {
    const auto given = apply_mode_text(text, mode, is_directory);
    if (!given) return mode;
    const auto would_do = [&](std::uint32_t other) {
        const auto same = apply_mode_text(text, other, is_directory);
        return same && *same == *given;
    };
    static constexpr std::array<std::uint32_t, 2> kOfFiles{0644, 0755};
    static constexpr std::array<std::uint32_t, 2> kOfDirectories{0755, 0644};
    for (const std::uint32_t usual : is_directory ? kOfDirectories : kOfFiles) {
        if (would_do(usual)) return usual;
    }
    // Text that means something else the second time ("g=u,u=o") has no such mode.
    return would_do(*given) ? *given : mode;
}

}  // namespace

snapshot::Node usual_node(const Replacement& replacement, snapshot::Node node) {
    if (!replacement.mode.empty() && node.kind != snapshot::Kind::symlink)
        node.mode = usual_mode(replacement.mode, node.mode, node.kind == snapshot::Kind::directory);
    if (replacement.owner) node.uid = node.gid = 0;
    return node;
}

}  // namespace cooper::layer
