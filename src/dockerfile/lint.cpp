#include "dockerfile/lint.hpp"

#include "base/text.hpp"
#include "dockerfile/directives.hpp"

#include <algorithm>
#include <array>

namespace cooper::dockerfile {

namespace {

// A file that does nothing but strike checks must not fill the memory.
constexpr std::size_t kMaxWarnings = 10'000;

std::optional<bool> parse_go_bool(std::string_view text) {
    static constexpr std::array<std::string_view, 6> kTrue = {"1", "t", "T", "TRUE", "true", "True"};
    static constexpr std::array<std::string_view, 6> kFalse = {"0", "f", "F", "FALSE", "false", "False"};
    if (std::ranges::find(kTrue, text) != kTrue.end()) return true;
    if (std::ranges::find(kFalse, text) != kFalse.end()) return false;
    return std::nullopt;
}

void take_rules(std::string_view value, bool& all, std::set<std::string, std::less<>>& rules) {
    if (value == "all") {
        all = true;
        return;
    }
    for (const std::string& rule : split(value, ',')) rules.emplace(trim(rule));
}

}  // namespace

Result<LintConfig> LintConfig::parse(std::string_view text) {
    static const std::vector<std::string> kOptions = {"skip", "experimental", "error"};
    LintConfig config;
    std::string_view rest = trim(text);
    // At most three; what is behind the second semicolon is one option.
    for (int count = 0; count < 3 && !rest.empty(); ++count) {
        const std::size_t end = count == 2 ? rest.size() : std::min(rest.find(';'), rest.size());
        const std::string_view option = rest.substr(0, end);
        rest.remove_prefix(std::min(end + 1, rest.size()));
        const auto [raw_key, raw_value] = cut(option, '=');
        const std::string key(trim(raw_key));
        const std::string_view value = trim(raw_value.value_or(""));
        if (raw_value && key == "skip") {
            take_rules(value, config.skip_all, config.skip);
        } else if (raw_value && key == "experimental") {
            take_rules(value, config.experimental_all, config.experimental);
        } else if (raw_value && key == "error") {
            const auto flag = parse_go_bool(value);
            if (!flag)
                return bad_input("failed to parse check option {}", quoted(option)).with_hint("write error=true");
            config.error = *flag;
        } else {
            const auto near = nearest(key, kOptions);
            return bad_input("invalid check option {}{}", quoted(raw_value ? std::string_view(key) : option),
                             near && *near != key ? " (did you mean " + *near + "?)" : "")
                .with_hint("write skip=RULE,…, experimental=RULE,… or error=true, with ; between them");
        }
    }
    return config;
}

Result<LintConfig> LintConfig::parse_directive(std::string_view value) {
    return parse(value.substr(0, value.find(' ')));
}

bool LintConfig::wants_own() const {
    if (scope == LintScope::check) return true;
    return std::ranges::any_of(experimental, [](const std::string& name) { return name.starts_with("Cooper"); });
}

bool LintConfig::allows(LintRule rule) const {
    const LintRuleInfo& info = lint_rule_info(rule);
    if (info.own) {
        if (skip.contains(info.name)) return false;
        if (experimental.contains(info.name)) return true;
        return scope == LintScope::check && (info.experimental ? experimental_all : !skip_all);
    }
    if (info.experimental) return experimental_all || experimental.contains(info.name);
    return !skip_all && !skip.contains(info.name);
}

LintConfig LintConfig::merged(const std::vector<std::string>& comments) const {
    LintConfig merged = *this;
    for (const std::string& comment : comments) {
        DirectiveReader reader("");
        const auto directive = reader.read(comment);
        if (!directive || !*directive || (*directive)->name != "check") continue;
        const auto own = parse_directive((*directive)->value);
        if (!own) continue;
        merged.skip_all = merged.skip_all || own->skip_all;
        merged.skip.insert(own->skip.begin(), own->skip.end());
        merged.experimental_all = merged.experimental_all || own->experimental_all;
        merged.experimental.insert(own->experimental.begin(), own->experimental.end());
    }
    return merged;
}

void Linter::report(LintRule rule, std::string message, const Lines& lines, const std::vector<std::string>& comments) {
    report(LintWarning{rule, std::move(message), lines, {}}, comments);
}

void Linter::report(LintWarning warning, const std::vector<std::string>& comments) {
    if (!(comments.empty() ? config_ : config_.merged(comments)).allows(warning.rule)) return;
    if (warnings_.size() >= kMaxWarnings) return;
    const auto same = [&](const LintWarning& one) {
        return one.rule == warning.rule && one.lines == warning.lines && one.message == warning.message;
    };
    // Twins come close together: a stage is looked at as a whole.
    const std::size_t recent = std::min<std::size_t>(warnings_.size(), 64);
    if (std::any_of(warnings_.end() - static_cast<std::ptrdiff_t>(recent), warnings_.end(), same)) return;
    warnings_.push_back(std::move(warning));
    if (listener_) listener_(warnings_.back());
}

Result<> Linter::verdict() const {
    if (!config_.error || warnings_.empty()) return {};
    std::vector<std::string> names;
    for (const LintWarning& warning : warnings_) {
        std::string name(lint_rule_info(warning.rule).name);
        if (std::ranges::find(names, name) == names.end()) names.push_back(std::move(name));
    }
    return fail(Code::failed_precondition, Blame::user, "lint violation found for rules: {}", join(names, ", "));
}

std::string detail_of(const LintWarning& warning) {
    const LintRuleInfo& info = lint_rule_info(warning.rule);
    if (!info.own) return warning.message;
    std::string out = fmt::format("{}\nWhy: {}", warning.message, info.description);
    if (!warning.instead.empty()) out += "\nInstead: " + warning.instead;
    return out;
}

WarningEvent to_event(const LintWarning& warning, std::string_view file_name) {
    const LintRuleInfo& info = lint_rule_info(warning.rule);
    WarningEvent event;
    event.short_text = fmt::format("{}: {}", info.name, warning.message);
    if (warning.lines.first > 0) event.short_text += fmt::format(" (line {})", warning.lines.first);
    event.detail = {std::string(info.description)};
    if (!warning.instead.empty()) event.detail.push_back("Instead: " + warning.instead);
    event.url = info.url;
    event.rule = info.name;
    event.range = SourceRange{std::string(file_name), warning.lines.first, warning.lines.last, 0, 0};
    return event;
}

}  // namespace cooper::dockerfile
