// Linter: collects what the checks find, as "# check=" and its kin allow (dockerfile.md D026-D028, D203).
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
struct LintConfig {
    bool skip_all = false;
    std::set<std::string, std::less<>> skip;
    bool experimental_all = false;
    std::set<std::string, std::less<>> experimental;
    bool error = false;

    // Empty text is the default. `text` is BUILDKIT_DOCKERFILE_CHECK.
    static Result<LintConfig> parse(std::string_view text);
    // The value of a "# check=" directive: up to its first blank.
    static Result<LintConfig> parse_directive(std::string_view value);
    [[nodiscard]] bool allows(LintRule rule) const;
    // Of "check=" among the comments above an instruction; `error` and what cannot be read count nothing.
    [[nodiscard]] LintConfig merged(const std::vector<std::string>& comments) const;
};

struct LintWarning {
    LintRule rule = LintRule::stage_name_casing;
    std::string message;
    Lines lines;
};

class Linter {
public:
    // `listener` hears of every warning when it is found; may be empty.
    using Listener = std::function<void(const LintWarning&)>;
    explicit Linter(LintConfig config) : config_(std::move(config)) {}
    Linter(LintConfig config, Listener listener) : config_(std::move(config)), listener_(std::move(listener)) {}
    // `comments`: those above the instruction. The same warning at the same place is kept once.
    void report(LintRule rule, std::string message, const Lines& lines, const std::vector<std::string>& comments);
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
