// Any text as a Dockerfile: nodes, instructions, stages, the checks, the canonical form, LLB. Whatever is accepted must
// keep its promises about lines, and the same text must be read the same way with other line ends.
#include "base/result.hpp"
#include "dockerfile/convert_args.hpp"
#include "dockerfile/directives.hpp"
#include "dockerfile/fake_bridge.hpp"
#include "dockerfile/format.hpp"
#include "dockerfile/lint_text.hpp"
#include "dockerfile/to_llb.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

using namespace cooper;
using namespace cooper::dockerfile;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    (void)detect_syntax(text);
    const auto file = parse(text, "Dockerfile");
    if (!file) {
        CHECK(!file.error().message().empty());
        return 0;
    }
    int last = 0;
    for (const Node& node : file->nodes) {
        CHECK(node.lines.first > last && node.lines.last >= node.lines.first);
        last = node.lines.last;
        const SourceRange range = range_in_file(node, 0, node.original.size());
        CHECK(range.first_line >= node.lines.first && range.last_line <= node.lines.last);
    }
    const StageReading reading = read_stages(*file);
    CHECK(reading.errors.size() <= kMaxErrors);
    CHECK(reading.errors.empty() == parse_stages(*file).has_value());

    Linter linter(LintConfig::parse_directive(file->check).value_or(LintConfig{}));
    lint_text(linter, *file, reading.list);
    lint_stages(linter, reading.list);
    const oci::Platform platform{"linux", "amd64", "", "", {}};
    const llb::EnvList automatic = automatic_args(platform, platform, {}, "");
    lint_bases(linter, reading.list, ShellLex(file->escape), automatic, automatic);
    for (const Stage& stage : reading.list.stages) {
        for (const Instruction& instruction : stage.commands) {
            lint_keys(linter, instruction);
            if (const auto* run = std::get_if<RunCommand>(&instruction.command)) {
                for (const std::string& mount : run->mount_flags) {
                    (void)parse_mount(mount,
                                      [](std::string_view value) -> Result<std::string> { return std::string(value); });
                }
            }
        }
    }
    if (const auto canonical = format(text, "Dockerfile")) {
        const auto again = format(*canonical, "Dockerfile");
        CHECK(again && *again == *canonical);
    }
    (void)syntax_tree_json(text, "Dockerfile");

    FakeBridge bridge;
    bridge.any_image = true;
    ConvertOptions options;
    options.build_platforms = {platform};
    options.check_options = "experimental=all";
    (void)lint(std::string(text), options, bridge, Stop{});
    const auto plan = to_llb(std::string(text), options, bridge, Stop{});
    CHECK(!plan || reading.errors.empty());
    if (!plan) CHECK(!plan.error().message().empty());
    return 0;
}
