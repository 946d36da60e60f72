#include "dockerfile/lint_text.hpp"

#include "base/text.hpp"
#include "oci/reference.hpp"

#include <algorithm>
#include <array>

namespace cooper::dockerfile {

namespace {

bool is_lower(std::string_view text) { return to_lower(text) == text; }
bool is_upper(std::string_view text) { return to_upper(text) == text; }

// --- casing ---

class Casing {
public:
    void count(std::string_view keyword) {
        if (is_lower(keyword)) {
            ++lower_;
        } else if (is_upper(keyword)) {
            ++upper_;
        }
    }
    void check(Linter& linter, std::string_view keyword, const Lines& lines,
               const std::vector<std::string>& comments) const {
        const bool lower = lower_ > upper_;  // of two equals, upper case is right
        if (lower ? is_lower(keyword) : is_upper(keyword)) return;
        linter.report(LintRule::consistent_instruction_casing,
                      lint_message::consistent_instruction_casing(keyword, lower ? "lowercase" : "uppercase"), lines,
                      comments);
    }

private:
    int lower_ = 0;
    int upper_ = 0;
};

void check_casing(Linter& linter, const StageList& list) {
    Casing casing;
    for (const Stage& stage : list.stages) {
        casing.count(stage.keyword);
        for (const Instruction& one : stage.commands) casing.count(one.keyword);
    }
    for (const Stage& stage : list.stages) {
        casing.check(linter, stage.keyword, stage.location, stage.comments);
        for (const Instruction& one : stage.commands) casing.check(linter, one.keyword, one.location, one.comments);
    }
}

void check_as(Linter& linter, const Stage& stage) {
    if (stage.as_keyword.empty()) return;
    if (!is_lower(stage.written_name)) {
        linter.report(LintRule::stage_name_casing, lint_message::stage_name_casing(stage.written_name), stage.location,
                      stage.comments);
    }
    const bool lower = is_lower(stage.keyword);
    if (!lower && !is_upper(stage.keyword)) return;  // it is told elsewhere
    if (lower ? is_lower(stage.as_keyword) : is_upper(stage.as_keyword)) return;
    linter.report(LintRule::from_as_casing, lint_message::from_as_casing(stage.keyword, stage.as_keyword),
                  stage.location, stage.comments);
}

// --- names of stages ---

void check_names(Linter& linter, const StageList& list) {
    std::set<std::string_view> seen;
    for (const Stage& stage : list.stages) {
        if (stage.name.empty()) continue;
        if (stage.name == "context" || stage.name == "scratch") {
            linter.report(LintRule::reserved_stage_name, lint_message::reserved_stage_name(stage.name), stage.location,
                          stage.comments);
        }
        if (!seen.insert(stage.name).second) {
            linter.report(LintRule::duplicate_stage_name, lint_message::duplicate_stage_name(stage.name),
                          stage.location, stage.comments);
        }
    }
}

// --- comments ---

void check_description(Linter& linter, std::string_view instruction, const std::vector<std::string>& keys,
                       const std::vector<std::string>& comments, const Lines& lines) {
    if (comments.empty() || keys.empty() || comments.back().starts_with("check=")) return;
    const std::string& last = comments.back();
    if (std::ranges::find(keys, last.substr(0, last.find(' '))) != keys.end()) return;
    linter.report(LintRule::invalid_definition_description,
                  lint_message::invalid_definition_description(instruction, keys.size() > 1 ? "<arg_key>" : keys[0]),
                  lines, comments);
}

void check_instruction_text(Linter& linter, const Instruction& instruction) {
    if (std::holds_alternative<MaintainerCommand>(instruction.command)) {
        linter.report(LintRule::maintainer_deprecated, lint_message::maintainer_deprecated(), instruction.location,
                      instruction.comments);
    }
    if (const auto* arg = std::get_if<ArgCommand>(&instruction.command)) {
        std::vector<std::string> keys;
        for (const auto& one : arg->args) keys.push_back(one.key);
        check_description(linter, "ARG", keys, instruction.comments, instruction.location);
    }
}

// --- FROM ---

class BaseChecker {
public:
    BaseChecker(Linter& linter, const StageList& list, const ShellLex& lex, const llb::EnvList& global)
        : linter_(linter), list_(list), lex_(lex), global_(global) {
        for (const auto& [key, value] : global.entries()) declared_.push_back(key);
        for (const Instruction& instruction : list.meta_args) {
            for (const auto& arg : std::get<ArgCommand>(instruction.command).args) declared_.push_back(arg.key);
        }
    }

    void run(const llb::EnvList& automatic) {
        check_defaults(automatic);
        for (const Stage& stage : list_.stages) {
            if (const auto name = lex_.expand(stage.base_name, global_)) check_undeclared(stage, name->unmatched);
            if (stage.platform.empty()) continue;
            const auto platform = lex_.expand(stage.platform, global_);
            if (!platform) continue;
            check_undeclared(stage, platform->unmatched);
            check_redundant(stage, *platform);
            check_constant(stage, *platform);
        }
    }

private:
    void report(LintRule rule, std::string message, const Stage& stage) {
        linter_.report(rule, std::move(message), stage.location, stage.comments);
    }

    void check_undeclared(const Stage& stage, const std::set<std::string>& unmatched) {
        for (const std::string& name : unmatched) {
            if (std::ranges::find(declared_, name) != declared_.end()) continue;
            report(LintRule::undefined_arg_in_from, lint_message::undefined_arg_in_from(name, nearest(name, declared_)),
                   stage);
        }
    }

    void check_redundant(const Stage& stage, const Expansion& platform) {
        if (platform.matched != std::set<std::string>{"TARGETPLATFORM"} || !platform.unmatched.empty()) return;
        if (platform.text != global_.get("TARGETPLATFORM").value_or("")) return;
        report(LintRule::redundant_target_platform, lint_message::redundant_target_platform(stage.platform), stage);
    }

    void check_constant(const Stage& stage, const Expansion& platform) {
        if (!platform.matched.empty() || !platform.unmatched.empty()) return;
        const auto parsed = oci::parse_platform(platform.text);
        if (!parsed) return;
        const auto in_name = [&](const std::string& part) { return stage.name.find(part) != std::string::npos; };
        if (in_name(parsed->os) || in_name(parsed->architecture)) return;
        report(LintRule::from_platform_flag_const_disallowed,
               lint_message::from_platform_flag_const_disallowed(platform.text), stage);
    }

    // As if no build arguments were given.
    void check_defaults(const llb::EnvList& automatic) {
        llb::EnvList env = automatic;
        for (const Instruction& instruction : list_.meta_args) {
            for (const auto& arg : std::get<ArgCommand>(instruction.command).args) {
                if (!arg.value) continue;
                const auto value = lex_.expand_word(*arg.value, env);
                if (!value) return;
                env.set(arg.key, *value);
            }
        }
        for (const Stage& stage : list_.stages) {
            const auto name = lex_.expand_word(stage.base_name, env);
            if (!name) return;
            if (oci::Reference::parse_normalized(*name)) continue;
            report(LintRule::invalid_default_arg_in_from, lint_message::invalid_default_arg_in_from(stage.base_name),
                   stage);
        }
    }

    Linter& linter_;
    const StageList& list_;
    const ShellLex& lex_;
    const llb::EnvList& global_;
    std::vector<std::string> declared_;
};

// --- secrets ---

bool is_secret_name(std::string_view key) {
    static constexpr std::array<std::string_view, 10> kSecret = {
        "apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"};
    static constexpr std::array<std::string_view, 3> kHarmless = {"public", "file", "version"};
    const std::vector<std::string> words = split(to_lower(key), '_');
    const auto any_of = [&](const auto& list) {
        return std::ranges::any_of(words, [&](const std::string& word) {
            return std::ranges::find(list, std::string_view(word)) != list.end();
        });
    };
    return any_of(kSecret) && !any_of(kHarmless);
}

void check_secret(Linter& linter, const Instruction& instruction, std::string_view name, std::string_view key) {
    if (!is_secret_name(key)) return;
    linter.report(LintRule::secrets_used_in_arg_or_env, lint_message::secrets_used_in_arg_or_env(name, key),
                  instruction.location, instruction.comments);
}

void check_separators(Linter& linter, const Instruction& instruction, const std::vector<KeyValue>& pairs) {
    if (std::ranges::all_of(pairs, &KeyValue::has_separator)) return;
    linter.report(LintRule::legacy_key_value_format, lint_message::legacy_key_value_format(instruction.keyword),
                  instruction.location, instruction.comments);
}

// The root of the context is no file that could be ignored, unless everything is.
bool root_is_ignored(const std::vector<std::string>& patterns) {
    return std::ranges::any_of(patterns,
                               [](const std::string& one) { return one == "*" || one == "**" || one == "**/*"; });
}

}  // namespace

void lint_text(Linter& linter, const ParsedFile& file, const StageList& list) {
    for (const ParseWarning& warning : file.warnings) {
        linter.report(LintRule::no_empty_continuation, lint_message::no_empty_continuation(), warning.lines, {});
    }
    for (const Instruction& instruction : list.meta_args) check_instruction_text(linter, instruction);
    for (const Stage& stage : list.stages) {
        check_as(linter, stage);
        if (!stage.name.empty()) check_description(linter, "FROM", {stage.name}, stage.comments, stage.location);
        for (const Instruction& instruction : stage.commands) check_instruction_text(linter, instruction);
    }
}

void lint_stages(Linter& linter, const StageList& list) {
    check_names(linter, list);
    check_casing(linter, list);
}

void lint_bases(Linter& linter, const StageList& list, const ShellLex& lex, const llb::EnvList& automatic,
                const llb::EnvList& global) {
    BaseChecker(linter, list, lex, global).run(automatic);
}

void lint_keys(Linter& linter, const Instruction& instruction) {
    if (const auto* env = std::get_if<EnvCommand>(&instruction.command)) {
        check_separators(linter, instruction, env->pairs);
        for (const KeyValue& pair : env->pairs) check_secret(linter, instruction, "ENV", pair.key);
    }
    if (const auto* label = std::get_if<LabelCommand>(&instruction.command)) {
        check_separators(linter, instruction, label->pairs);
    }
    if (const auto* arg = std::get_if<ArgCommand>(&instruction.command)) {
        for (const auto& one : arg->args) check_secret(linter, instruction, "ARG", one.key);
    }
}

void lint_shell_form(Linter& linter, const Instruction& instruction, ShellInEffect shell) {
    const auto* cmd = std::get_if<CmdCommand>(&instruction.command);
    const auto* entrypoint = std::get_if<EntrypointCommand>(&instruction.command);
    const bool shell_form =
        (cmd != nullptr && cmd->prepend_shell) || (entrypoint != nullptr && entrypoint->prepend_shell);
    if (!shell_form || shell == ShellInEffect::chosen) return;
    linter.report(LintRule::json_args_recommended, lint_message::json_args_recommended(instruction.keyword),
                  instruction.location, instruction.comments);
}

void UsedOnce::see(Linter& linter, const Instruction& instruction) {
    const bool once = std::holds_alternative<CmdCommand>(instruction.command) ||
                      std::holds_alternative<EntrypointCommand>(instruction.command) ||
                      std::holds_alternative<HealthcheckCommand>(instruction.command);
    if (!once) return;
    Place here{instruction.location, instruction.comments};
    const auto [found, first] = seen_.try_emplace(instruction.name, here);
    if (first) return;
    // The earlier one is without effect, so that is where to look.
    linter.report(LintRule::multiple_instructions_disallowed,
                  lint_message::multiple_instructions_disallowed(instruction.keyword), found->second.lines,
                  found->second.comments);
    found->second = std::move(here);
}

void lint_workdir(Linter& linter, const Instruction& instruction, std::string_view path) {
    if (path.starts_with('/')) return;
    linter.report(LintRule::workdir_relative_path, lint_message::workdir_relative_path(path), instruction.location,
                  instruction.comments);
}

void lint_variables(Linter& linter, const Instruction& instruction, const std::set<std::string>& unmatched,
                    const std::set<std::string>& declared, const llb::EnvList& env) {
    std::vector<std::string> known;
    for (const std::string& name : unmatched) {
        // These two steer the build and are never put into the environment.
        if (name == "BUILDKIT_SBOM_SCAN_CONTEXT" || name == "BUILDKIT_SBOM_SCAN_STAGE") continue;
        if (declared.contains(name)) continue;
        if (known.empty()) {
            for (const auto& [key, value] : env.entries()) known.push_back(key);
        }
        linter.report(LintRule::undefined_var, lint_message::undefined_var(name, nearest(name, known)),
                      instruction.location, instruction.comments);
    }
}

void lint_port_protocol(Linter& linter, const Instruction& instruction, std::string_view port) {
    linter.report(LintRule::expose_proto_casing, lint_message::expose_proto_casing(port), instruction.location,
                  instruction.comments);
}

void lint_port_host(Linter& linter, const Instruction& instruction, std::string_view port) {
    linter.report(LintRule::expose_invalid_format, lint_message::expose_invalid_format(port), instruction.location,
                  instruction.comments);
}

void lint_base_platform(Linter& linter, const Stage& stage, std::string_view image, const oci::Platform& expected,
                        const oci::Platform& actual) {
    if (expected.os == actual.os && expected.architecture == actual.architecture) return;
    linter.report(LintRule::invalid_base_image_platform,
                  lint_message::invalid_base_image_platform(image, oci::format_platform_all(oci::normalize(expected)),
                                                            oci::format_platform_all(oci::normalize(actual))),
                  stage.location, stage.comments);
}

void lint_copy_source(Linter& linter, const Instruction& instruction, std::string_view source,
                      const codec::PatternMatcher& ignored, const std::vector<std::string>& patterns) {
    if (ignored.empty() || ignored.has_exceptions()) return;
    const std::string clean = llb::clean_path(source);
    if ((clean == "." || clean == "/") && !root_is_ignored(patterns)) return;
    if (!ignored.matches_or_parent_matches(clean)) return;
    const bool is_add = std::holds_alternative<AddCommand>(instruction.command);
    linter.report(LintRule::copy_ignored_file, lint_message::copy_ignored_file(is_add ? "Add" : "Copy", clean),
                  instruction.location, instruction.comments);
}

}  // namespace cooper::dockerfile
