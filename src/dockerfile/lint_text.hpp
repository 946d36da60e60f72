// The checks themselves. lint_text and lint_stages decide what text alone decides;
// lint_bases needs the global arguments; the others are called where conversion reaches an instruction, with what it
// knows by then. BuildKit checks only stages it converts with the latter. One thread per Linter.
#pragma once

#include "codec/pattern_matcher.hpp"
#include "dockerfile/instructions.hpp"
#include "dockerfile/lint.hpp"
#include "dockerfile/shell_lex.hpp"
#include "llb/state.hpp"
#include "oci/platform.hpp"

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::dockerfile {

// Casing of AS and of stage names, empty continuations, MAINTAINER, comments that do not describe: told
// of a file with mistakes too, as far as it could be read.
void lint_text(Linter& linter, const ParsedFile& file, const StageList& list);
// Casing of instructions, reserved and doubled stage names.
void lint_stages(Linter& linter, const StageList& list);

// Names and --platform of all FROMs: undeclared arguments, defaults that give no image, a redundant or
// constant platform. `automatic`: automatic_args(); `global`: with the ARGs before the first FROM and the
// build arguments given.
void lint_bases(Linter& linter, const StageList& list, const ShellLex& lex, const llb::EnvList& automatic,
                const llb::EnvList& global);

// ENV and LABEL with a blank between key and value; names of secrets in ENV and ARG. `instruction` as it
// is after expansion.
void lint_keys(Linter& linter, const Instruction& instruction);
// CMD, ENTRYPOINT in shell form. `has_shell`: a SHELL is in effect, of this file or of the base image.
enum class ShellInEffect : std::uint8_t { standard, chosen };
void lint_shell_form(Linter& linter, const Instruction& instruction, ShellInEffect shell);
// CMD, ENTRYPOINT, HEALTHCHECK more than once in a stage: keep one of these per stage and show it all of
// its instructions.
class UsedOnce {
public:
    void see(Linter& linter, const Instruction& instruction);

private:
    struct Place {
        Lines lines;
        std::vector<std::string> comments;
    };
    std::map<std::string, Place> seen_;
};
// The first WORKDIR of a stage and those it is built from. `path` expanded.
void lint_workdir(Linter& linter, const Instruction& instruction, std::string_view path);
// `unmatched`: of the instruction's expansions. `declared`: keys of the stage's ARGs so far.
void lint_variables(Linter& linter, const Instruction& instruction, const std::set<std::string>& unmatched,
                    const std::set<std::string>& declared, const llb::EnvList& env);
// `port` as it is after expansion.
void lint_port_protocol(Linter& linter, const Instruction& instruction, std::string_view port);
void lint_port_host(Linter& linter, const Instruction& instruction, std::string_view port);
void lint_base_platform(Linter& linter, const Stage& stage, std::string_view image, const oci::Platform& expected,
                        const oci::Platform& actual);
// A source of COPY or ADD from the main context; `patterns` are those `ignored` was made of.
void lint_copy_source(Linter& linter, const Instruction& instruction, std::string_view source,
                      const codec::PatternMatcher& ignored, const std::vector<std::string>& patterns);

}  // namespace cooper::dockerfile
