// The checks of a Dockerfile: their names, descriptions, pages and messages. The first 22 are BuildKit's and
// its to the letter; those whose names begin with "Cooper" are ours. Pure, any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace cooper::dockerfile {

enum class LintRule : std::uint8_t {
    stage_name_casing,
    from_as_casing,
    no_empty_continuation,
    consistent_instruction_casing,
    duplicate_stage_name,
    reserved_stage_name,
    json_args_recommended,
    maintainer_deprecated,
    undefined_arg_in_from,
    workdir_relative_path,
    undefined_var,
    multiple_instructions_disallowed,
    legacy_key_value_format,
    invalid_base_image_platform,
    redundant_target_platform,
    secrets_used_in_arg_or_env,
    invalid_default_arg_in_from,
    from_platform_flag_const_disallowed,
    copy_ignored_file,
    invalid_definition_description,
    expose_proto_casing,
    expose_invalid_format,
    cooper_stage_by_index,
    cooper_copy_before_install,
    cooper_package_cache,
    cooper_unpinned_base,
    cooper_unpinned_package,
    cooper_no_ignore_file,
    cooper_build_tools,
    cooper_base_mismatch,
};
inline constexpr std::size_t kLintRules = 30;

struct LintRuleInfo {
    std::string_view name;  // "StageNameCasing"
    std::string_view description;
    std::string_view url;  // empty: it has no page
    bool experimental = false;
    bool own = false;  // not BuildKit's: a build does not make it unless it is asked for by name
};
[[nodiscard]] const LintRuleInfo& lint_rule_info(LintRule rule);

namespace lint_message {

[[nodiscard]] std::string stage_name_casing(std::string_view name);
[[nodiscard]] std::string from_as_casing(std::string_view from, std::string_view as);
[[nodiscard]] std::string no_empty_continuation();
// `wanted`: "lowercase" or "uppercase".
[[nodiscard]] std::string consistent_instruction_casing(std::string_view keyword, std::string_view wanted);
[[nodiscard]] std::string duplicate_stage_name(std::string_view name);
[[nodiscard]] std::string reserved_stage_name(std::string_view name);
[[nodiscard]] std::string json_args_recommended(std::string_view instruction);
[[nodiscard]] std::string maintainer_deprecated();
[[nodiscard]] std::string undefined_arg_in_from(std::string_view name, const std::optional<std::string>& near);
[[nodiscard]] std::string workdir_relative_path(std::string_view path);
[[nodiscard]] std::string undefined_var(std::string_view name, const std::optional<std::string>& near);
[[nodiscard]] std::string multiple_instructions_disallowed(std::string_view instruction);
[[nodiscard]] std::string legacy_key_value_format(std::string_view instruction);
[[nodiscard]] std::string invalid_base_image_platform(std::string_view image, std::string_view expected,
                                                      std::string_view actual);
[[nodiscard]] std::string redundant_target_platform(std::string_view variable);
[[nodiscard]] std::string secrets_used_in_arg_or_env(std::string_view instruction, std::string_view key);
[[nodiscard]] std::string invalid_default_arg_in_from(std::string_view base_name);
[[nodiscard]] std::string from_platform_flag_const_disallowed(std::string_view platform);
// `command`: "Copy" or "Add".
[[nodiscard]] std::string copy_ignored_file(std::string_view command, std::string_view file);
[[nodiscard]] std::string invalid_definition_description(std::string_view instruction, std::string_view name);
[[nodiscard]] std::string expose_proto_casing(std::string_view port);
[[nodiscard]] std::string expose_invalid_format(std::string_view port);

[[nodiscard]] std::string cooper_stage_by_index(std::string_view index);
[[nodiscard]] std::string cooper_copy_before_install(std::string_view copy, std::string_view install, int line);
[[nodiscard]] std::string cooper_package_cache(std::string_view command, std::string_view place);
[[nodiscard]] std::string cooper_unpinned_base(std::string_view image, std::string_view tag);
[[nodiscard]] std::string cooper_unpinned_package(std::string_view command, std::string_view packages);
[[nodiscard]] std::string cooper_no_ignore_file(std::string_view size, std::string_view files,
                                                std::string_view notable);
[[nodiscard]] std::string cooper_build_tools(std::string_view tools);
[[nodiscard]] std::string cooper_base_mismatch(std::string_view from, std::string_view to, std::string_view how);

}  // namespace lint_message
}  // namespace cooper::dockerfile
