#include "dockerfile/lint_rules.hpp"

#include "dockerfile/convert_text.hpp"

#include <array>
#include <fmt/core.h>

namespace cooper::dockerfile {

namespace {

#define COOPER_RULE_PAGE(page) "https://docs.docker.com/go/dockerfile/rule/" page "/"

// In the order of LintRule.
constexpr std::array<LintRuleInfo, kLintRules> kRules = {{
    {"StageNameCasing", "Stage names should be lowercase", COOPER_RULE_PAGE("stage-name-casing")},
    {"FromAsCasing", "The 'as' keyword should match the case of the 'from' keyword",
     COOPER_RULE_PAGE("from-as-casing")},
    {"NoEmptyContinuation", "Empty continuation lines will become errors in a future release",
     COOPER_RULE_PAGE("no-empty-continuation")},
    {"ConsistentInstructionCasing",
     "All commands within the Dockerfile should use the same casing (either upper or lower)",
     COOPER_RULE_PAGE("consistent-instruction-casing")},
    {"DuplicateStageName", "Stage names should be unique", COOPER_RULE_PAGE("duplicate-stage-name")},
    {"ReservedStageName", "Reserved words should not be used as stage names", COOPER_RULE_PAGE("reserved-stage-name")},
    {"JSONArgsRecommended",
     "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
     COOPER_RULE_PAGE("json-args-recommended")},
    {"MaintainerDeprecated", "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
     COOPER_RULE_PAGE("maintainer-deprecated")},
    {"UndefinedArgInFrom", "FROM command must use declared ARGs", COOPER_RULE_PAGE("undefined-arg-in-from")},
    {"WorkdirRelativePath",
     "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base "
     "image changes",
     COOPER_RULE_PAGE("workdir-relative-path")},
    {"UndefinedVar", "Variables should be defined before their use", COOPER_RULE_PAGE("undefined-var")},
    {"MultipleInstructionsDisallowed", "Multiple instructions of the same type should not be used in the same stage",
     COOPER_RULE_PAGE("multiple-instructions-disallowed")},
    {"LegacyKeyValueFormat", "Legacy key/value format with whitespace separator should not be used",
     COOPER_RULE_PAGE("legacy-key-value-format")},
    {"InvalidBaseImagePlatform", "Base image platform does not match expected target platform", ""},
    {"RedundantTargetPlatform",
     "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
     COOPER_RULE_PAGE("redundant-target-platform")},
    {"SecretsUsedInArgOrEnv", "Sensitive data should not be used in the ARG or ENV commands",
     COOPER_RULE_PAGE("secrets-used-in-arg-or-env")},
    {"InvalidDefaultArgInFrom", "Default value for global ARG results in an empty or invalid base image name",
     COOPER_RULE_PAGE("invalid-default-arg-in-from")},
    {"FromPlatformFlagConstDisallowed", "FROM --platform flag should not use a constant value",
     COOPER_RULE_PAGE("from-platform-flag-const-disallowed")},
    {"CopyIgnoredFile", "Attempting to Copy file that is excluded by .dockerignore",
     COOPER_RULE_PAGE("copy-ignored-file")},
    {"InvalidDefinitionDescription",
     "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not "
     "intended to be a description comment, add an empty line or comment between the instruction and the comment.",
     COOPER_RULE_PAGE("invalid-definition-description"), true},
    {"ExposeProtoCasing", "Protocol in EXPOSE instruction should be lowercase",
     COOPER_RULE_PAGE("expose-proto-casing")},
    {"ExposeInvalidFormat",
     "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future "
     "release",
     COOPER_RULE_PAGE("expose-invalid-format")},
    {"CooperStageByIndex", "A number names another stage as soon as one is added or moved", "", false, true},
    {"CooperCopyBeforeInstall",
     "Every change of any file of the context makes the installation run again, although nothing it installs has "
     "changed",
     "", false, true},
    {"CooperPackageCache",
     "What an installation has downloaded stays in the layer and makes the image larger; removing it in a later RUN "
     "does not help",
     "", false, true},
    {"CooperUnpinnedBase",
     "The name will mean another image one day, and the same Dockerfile will build something else or fail", "", false,
     true},
    {"CooperUnpinnedPackage", "The next build without cache may install another version, and behave differently", "",
     true, true},
    {"CooperNoIgnoreFile",
     "All files are copied into the image and looked through at every build, and a change of any of them runs later "
     "steps again",
     "", false, true},
    {"CooperBuildTools",
     "The image carries compilers and headers it never runs: it is larger and gives an intruder more to use", "", false,
     true},
    {"CooperBaseMismatch", "Programs and compiled modules need the C library and the interpreter they were built for",
     "", false, true},
}};

#undef COOPER_RULE_PAGE

}  // namespace

const LintRuleInfo& lint_rule_info(LintRule rule) { return kRules.at(static_cast<std::size_t>(rule)); }

namespace lint_message {

std::string stage_name_casing(std::string_view name) {
    return fmt::format("Stage name '{}' should be lowercase", name);
}

std::string from_as_casing(std::string_view from, std::string_view as) {
    return fmt::format("'{}' and '{}' keywords' casing do not match", as, from);
}

std::string no_empty_continuation() { return "Empty continuation line"; }

std::string consistent_instruction_casing(std::string_view keyword, std::string_view wanted) {
    return fmt::format("Command '{}' should match the case of the command majority ({})", keyword, wanted);
}

std::string duplicate_stage_name(std::string_view name) {
    return fmt::format("Duplicate stage name {}, stage names should be unique", go_quote(name));
}

std::string reserved_stage_name(std::string_view name) {
    return fmt::format("Stage name should not use the same name as reserved stage {}", go_quote(name));
}

std::string json_args_recommended(std::string_view instruction) {
    return fmt::format("JSON arguments recommended for {} to prevent unintended behavior related to OS signals",
                       instruction);
}

std::string maintainer_deprecated() { return "Maintainer instruction is deprecated in favor of using label"; }

std::string undefined_arg_in_from(std::string_view name, const std::optional<std::string>& near) {
    return fmt::format("FROM argument '{}' is not declared{}", name, near ? " (did you mean " + *near + "?)" : "");
}

std::string workdir_relative_path(std::string_view path) {
    return fmt::format("Relative workdir {} can have unexpected results if the base image changes", go_quote(path));
}

std::string undefined_var(std::string_view name, const std::optional<std::string>& near) {
    return fmt::format("Usage of undefined variable '${}'{}", name, near ? " (did you mean $" + *near + "?)" : "");
}

std::string multiple_instructions_disallowed(std::string_view instruction) {
    return fmt::format(
        "Multiple {} instructions should not be used in the same stage because only the last one will be used",
        instruction);
}

std::string legacy_key_value_format(std::string_view instruction) {
    return fmt::format("\"{0} key=value\" should be used instead of legacy \"{0} key value\" format", instruction);
}

std::string invalid_base_image_platform(std::string_view image, std::string_view expected, std::string_view actual) {
    return fmt::format("Base image {} was pulled with platform {}, expected {} for current build", image,
                       go_quote(actual), go_quote(expected));
}

std::string redundant_target_platform(std::string_view variable) {
    return fmt::format("Setting platform to predefined {} in FROM is redundant as this is the default behavior",
                       variable);
}

std::string secrets_used_in_arg_or_env(std::string_view instruction, std::string_view key) {
    return fmt::format("Do not use ARG or ENV instructions for sensitive data ({} {})", instruction, go_quote(key));
}

std::string invalid_default_arg_in_from(std::string_view base_name) {
    return fmt::format("Default value for ARG {} results in empty or invalid base image name", base_name);
}

std::string from_platform_flag_const_disallowed(std::string_view platform) {
    return fmt::format("FROM --platform flag should not use constant value {}", go_quote(platform));
}

std::string copy_ignored_file(std::string_view command, std::string_view file) {
    return fmt::format("Attempting to {} file {} that is excluded by .dockerignore", command, go_quote(file));
}

std::string invalid_definition_description(std::string_view instruction, std::string_view name) {
    return fmt::format("Comment for {} should follow the format: `# {} <description>`", instruction, name);
}

std::string expose_proto_casing(std::string_view port) {
    return fmt::format("Defined protocol '{}' in EXPOSE instruction should be lowercase", port);
}

std::string expose_invalid_format(std::string_view port) {
    return fmt::format("EXPOSE instruction should not define an IP address or host-port mapping, found '{}'", port);
}

std::string cooper_stage_by_index(std::string_view index) {
    return fmt::format("COPY --from={} names a stage by its number", index);
}

std::string cooper_copy_before_install(std::string_view copy, std::string_view install, int line) {
    return fmt::format("{} copies the whole context before '{}' (line {})", copy, install, line);
}

std::string cooper_package_cache(std::string_view command, std::string_view place) {
    return fmt::format("'{}' leaves {} in the layer", command, place);
}

std::string cooper_unpinned_base(std::string_view image, std::string_view tag) {
    if (tag.empty()) return fmt::format("Image {} has no version", go_quote(image));
    return fmt::format("Image {} has the moving tag {}", go_quote(image), go_quote(tag));
}

std::string cooper_unpinned_package(std::string_view command, std::string_view packages) {
    return fmt::format("'{}' installs packages without a version: {}", command, packages);
}

std::string cooper_no_ignore_file(std::string_view size, std::string_view files, std::string_view notable) {
    return fmt::format("The whole context is copied, {} in {} files{}{}, and there is no .dockerignore", size, files,
                       notable.empty() ? "" : ", among them ", notable);
}

std::string cooper_build_tools(std::string_view tools) {
    return fmt::format("Build tools stay in the final image: {}", tools);
}

std::string cooper_base_mismatch(std::string_view from, std::string_view to, std::string_view how) {
    return fmt::format("Files built on {} are copied to {}: {}", go_quote(from), go_quote(to), how);
}

}  // namespace lint_message
}  // namespace cooper::dockerfile
