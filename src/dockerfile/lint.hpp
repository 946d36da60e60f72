// Linter: collects what the checks find, as "# check=" and its kin allow.
// One per build; one thread.
// Errors: bad_input for options that are none; failed_precondition when "error=true" and a check struck.
#pragma once

#include "base/progress.hpp"
#include "base/result.hpp"
#include "dockerfile/lint_rules.hpp"
#include "dockerfile/source_text.hpp"

#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::dockerfile {

// "skip=A,B;experimental=all;error=true". skip does not touch experimental rules, which run only when
// they are asked for.
// The checks of our own are made when somebody asks for checks, and in a build only when they are named
// in experimental=: a build says, and refuses, what BuildKit would. Of them skip= counts always.
enum class LintScope : std::uint8_t { build, check };

struct LintConfig {
    bool skip_all = false;
    std::set<std::string, std::less<>> skip;
    bool experimental_all = false;
    std::set<std::string, std::less<>> experimental;
    bool error = false;
    LintScope scope = LintScope::build;

    // Empty text is the default. `text` is BUILDKIT_DOCKERFILE_CHECK.
    static Result<LintConfig> parse(std::string_view text);
    // The value of a "# check=" directive: up to its first blank.
    static Result<LintConfig> parse_directive(std::string_view value);
    [[nodiscard]] bool allows(LintRule rule) const;
    // Whether any check of our own may be made, comments of single instructions aside.
    [[nodiscard]] bool wants_own() const;
    // Of "check=" among the comments above an instruction; `error` and what cannot be read count nothing.
    [[nodiscard]] LintConfig merged(const std::vector<std::string>& comments) const;
};

struct LintWarning {
    LintRule rule = LintRule::stage_name_casing;
    std::string message;
    Lines lines;
    std::string instead;  // what to write; only of checks of our own
};
// "message", and of our own checks lines that say why it matters and what to write.
[[nodiscard]] std::string detail_of(const LintWarning& warning);

class Linter {
public:
    // `listener` hears of every warning when it is found; may be empty.
    using Listener = std::function<void(const LintWarning&)>;
    explicit Linter(LintConfig config) : config_(std::move(config)) {}
    Linter(LintConfig config, Listener listener) : config_(std::move(config)), listener_(std::move(listener)) {}
    // `comments`: those above the instruction. The same warning at the same place is kept once.
    void report(LintRule rule, std::string message, const Lines& lines, const std::vector<std::string>& comments);
    void report(LintWarning warning, const std::vector<std::string>& comments);
    [[nodiscard]] const LintConfig& config() const { return config_; }
    [[nodiscard]] const std::vector<LintWarning>& warnings() const { return warnings_; }
    // "lint violation found for rules: A, B" when "error=true" asks for it.
    [[nodiscard]] Result<> verdict() const;

private:
    LintConfig config_;
    Listener listener_;
    std::vector<LintWarning> warnings_;
};

// As BuildKit sends it: "Rule: message (line N)".
[[nodiscard]] WarningEvent to_event(const LintWarning& warning, std::string_view file_name);

}  // namespace cooper::dockerfile
