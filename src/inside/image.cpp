#include "inside/image.hpp"

#include "base/text.hpp"

#include <algorithm>

namespace cooper::inside {

namespace {

constexpr std::string_view kShell = "/bin/sh -c ";
constexpr std::string_view kNoOperation = "#(nop) ";
constexpr std::string_view kBuildkit = "# buildkit";

}  // namespace

std::string instruction_text(std::string_view created_by) {
    std::string_view text = trim(created_by);
    if (text.ends_with(kBuildkit)) text = trim(text.substr(0, text.size() - kBuildkit.size()));
    if (text.starts_with(kShell)) {
        text = trim(text.substr(kShell.size()));
        if (text.starts_with(kNoOperation)) return std::string(trim(text.substr(kNoOperation.size())));
        return "RUN " + std::string(text);
    }
    // Build arguments stand before the shell: "RUN |1 A=b /bin/sh -c …".
    for (const std::string_view start : {std::string_view("RUN "), std::string_view("|")}) {
        if (!text.starts_with(start)) continue;
        const std::string_view rest = start == "|" ? text : text.substr(start.size());
        if (!rest.starts_with('|') && !rest.starts_with(kShell)) break;
        const std::size_t shell = rest.find(kShell);
        if (shell != std::string_view::npos) return "RUN " + std::string(trim(rest.substr(shell + kShell.size())));
    }
    return std::string(text);
}

std::vector<Instruction> instructions_of(const oci::ImageConfig& config, std::size_t layers) {
    std::vector<Instruction> found;
    for (const auto& entry : config.history) {
        if (entry.empty_layer) continue;
        std::string text = instruction_text(entry.created_by);
        if (text.empty()) text = entry.comment;
        found.push_back({.text = std::move(text), .created = entry.created.value_or("")});
    }
    if (found.size() != layers) found.assign(layers, Instruction{});
    return found;
}

}  // namespace cooper::inside
