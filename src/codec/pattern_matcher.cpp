#include "codec/pattern_matcher.hpp"

#include "base/text.hpp"
#include "codec/path_match.hpp"

#include <algorithm>
#include <fmt/format.h>

namespace cooper::codec {

namespace {

constexpr std::size_t kMaxPatterns = 10'000;
constexpr std::size_t kMaxPatternBytes = 4096;
constexpr std::uint32_t kLastRune = 0x10FFFF;

std::uint32_t next_rune(std::string_view& text) {
    const auto lead = static_cast<unsigned char>(text.front());
    const std::size_t width = lead < 0xC2 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 1;
    if (width == 1 || text.size() < width) {
        text.remove_prefix(1);
        return lead < 0x80 ? lead : 0xFFFD;
    }
    std::uint32_t value = lead & (0x7FU >> width);
    for (std::size_t i = 1; i < width; ++i) {
        const auto byte = static_cast<unsigned char>(text[i]);
        if ((byte & 0xC0U) != 0x80) {
            text.remove_prefix(1);
            return 0xFFFD;
        }
        value = (value << 6U) | (byte & 0x3FU);
    }
    text.remove_prefix(width);
    return value;
}

// moby/patternmatcher turns a pattern into a regular expression; this is the machine for the expressions it can make.
// Each state but `dirs` has one successor, the next state; `dirs` is "(.*/)?" and owns the state after it.
struct State {
    enum class Type : std::uint8_t { one, loop, dirs, dirs_inside, begin } type = Type::one;
    bool negated = false;
    std::vector<std::pair<std::uint32_t, std::uint32_t>> ranges;

    [[nodiscard]] bool accepts(std::uint32_t rune) const {
        for (const auto& [low, high] : ranges) {
            if (low <= rune && rune <= high) return !negated;
        }
        return negated;
    }
};

State literal(std::uint32_t rune) { return State{.ranges = {{rune, rune}}}; }
State not_newline(State::Type type) { return State{.type = type, .negated = true, .ranges = {{'\n', '\n'}}}; }

// Parses the regular expression that the translation makes of a pattern: literals, escapes, classes, "[^/]*", ".*",
// "(.*/)?". False = the expression would not compile.
class Compiler {
public:
    Compiler(std::string_view expression, std::vector<State>& out) : text_(expression), out_(out) {}

    bool run() {
        while (!text_.empty()) {
            if (text_.starts_with("(.*/)?")) {
                text_.remove_prefix(6);
                out_.push_back(State{.type = State::Type::dirs});
                out_.push_back(State{.type = State::Type::dirs_inside});
                continue;
            }
            State state;
            const std::uint32_t rune = next_rune(text_);
            if (rune == '[') {
                if (!read_class(state)) return false;
            } else if (rune == '\\') {
                if (!read_escape(state)) return false;
            } else if (rune == '.') {
                state = not_newline(State::Type::one);
            } else if (rune == '^') {
                state.type = State::Type::begin;
            } else {
                state = literal(rune);
            }
            if (text_.starts_with('*')) {
                text_.remove_prefix(1);
                if (state.type == State::Type::one) state.type = State::Type::loop;
                if (text_.starts_with('*')) return false;  // "**" is no repetition
            }
            out_.push_back(std::move(state));
        }
        return true;
    }

private:
    bool read_escape(State& state) {
        if (text_.empty()) return false;
        const std::uint32_t rune = next_rune(text_);
        std::uint32_t single = 0;
        if (named_class(rune, state)) return true;
        if (!escaped_rune(rune, single)) return false;
        state = literal(single);
        return true;
    }

    static bool escaped_rune(std::uint32_t rune, std::uint32_t& out) {
        const bool word = (rune >= '0' && rune <= '9') || (rune >= 'a' && rune <= 'z') || (rune >= 'A' && rune <= 'Z');
        if (rune < 0x80 && !word) return out = rune, true;
        switch (rune) {
            case 'a':
                return out = '\a', true;
            case 'f':
                return out = '\f', true;
            case 'n':
                return out = '\n', true;
            case 'r':
                return out = '\r', true;
            case 't':
                return out = '\t', true;
            case 'v':
                return out = '\v', true;
            default:
                return false;
        }
    }

    static bool named_class(std::uint32_t rune, State& state) {
        switch (rune) {
            case 'd':
            case 'D':
                state.ranges = {{'0', '9'}};
                break;
            case 's':
            case 'S':
                state.ranges = {{'\t', '\n'}, {'\f', '\r'}, {' ', ' '}};
                break;
            case 'w':
            case 'W':
                state.ranges = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
                break;
            default:
                return false;
        }
        state.negated = rune < 'a';
        return true;
    }

    bool class_rune(std::uint32_t& out) {
        if (text_.empty()) return false;
        out = next_rune(text_);
        if (out != '\\') return true;
        if (text_.empty()) return false;
        return escaped_rune(next_rune(text_), out);
    }

    bool read_class(State& state) {
        if (text_.starts_with('^')) {
            state.negated = true;
            text_.remove_prefix(1);
        }
        for (bool first = true;; first = false) {
            if (text_.empty()) return false;
            if (text_.front() == ']' && !first) {
                text_.remove_prefix(1);
                return true;
            }
            State named;
            if (text_.size() >= 2 && text_.front() == '\\' &&
                named_class(static_cast<unsigned char>(text_[1]), named)) {
                if (named.negated) return false;
                text_.remove_prefix(2);
                state.ranges.insert(state.ranges.end(), named.ranges.begin(), named.ranges.end());
                continue;
            }
            std::uint32_t low = 0;
            if (!class_rune(low)) return false;
            std::uint32_t high = low;
            if (text_.size() >= 2 && text_.front() == '-' && text_[1] != ']') {
                text_.remove_prefix(1);
                if (!class_rune(high)) return false;
                if (high < low) return false;
            }
            state.ranges.emplace_back(low, std::min(high, kLastRune));
        }
    }

    std::string_view text_;
    std::vector<State>& out_;
};

class Machine {
public:
    explicit Machine(const std::vector<State>& states) : states_(states) {}

    [[nodiscard]] bool accepts(std::string_view path) const {
        std::vector<std::uint8_t> now(states_.size() + 1, 0);
        std::vector<std::uint8_t> then(states_.size() + 1, 0);
        bool at_begin = true;
        enter(now, 0, at_begin);
        while (!path.empty()) {
            const std::uint32_t rune = next_rune(path);
            at_begin = false;
            std::fill(then.begin(), then.end(), std::uint8_t{0});
            bool alive = false;
            for (std::size_t i = 0; i < states_.size(); ++i) {
                if (now[i] == 0) continue;
                const State& state = states_[i];
                if (state.type == State::Type::dirs_inside) {
                    if (rune != '\n') alive = true, then[i] = 1;
                    if (rune == '/') alive = true, enter(then, i + 1, at_begin);
                } else if (state.type == State::Type::one && state.accepts(rune)) {
                    alive = true, enter(then, i + 1, at_begin);
                } else if (state.type == State::Type::loop && state.accepts(rune)) {
                    alive = true, enter(then, i, at_begin);
                }
            }
            if (!alive) return false;
            now.swap(then);
        }
        return now[states_.size()] != 0;
    }

private:
    void enter(std::vector<std::uint8_t>& set, std::size_t i, bool at_begin) const {
        while (i <= states_.size() && set[i] == 0) {
            set[i] = 1;
            if (i == states_.size()) return;
            switch (states_[i].type) {
                case State::Type::loop:
                    ++i;
                    break;
                case State::Type::dirs:
                    set[i + 1] = 1;
                    i += 2;
                    break;
                case State::Type::begin:
                    if (!at_begin) return;
                    ++i;
                    break;
                default:
                    return;
            }
        }
    }
    const std::vector<State>& states_;
};

}  // namespace

struct PatternMatcher::Pattern {
    enum class Type : std::uint8_t { exact, prefix, suffix, expression } type = Type::exact;
    bool exception = false;
    std::size_t given = 0;  // index in what create was given
    std::string text;
    std::string below;  // text without a trailing "/**" or "/*", and '/', to compare with directories
    bool below_is_fixed = false;
    std::vector<State> states;

    bool compile();
    [[nodiscard]] bool match(std::string_view path) const;
    [[nodiscard]] bool match_or_parent(std::string_view path) const;
    [[nodiscard]] bool may_match_below(std::string_view dir) const;
};

// The translation of moby/patternmatcher: which of four ways to match, and for the last one the expression.
bool PatternMatcher::Pattern::compile() {
    std::string expression;
    std::string_view rest = text;
    for (int i = 0; !rest.empty(); ++i) {
        std::string_view here = rest;
        const std::uint32_t rune = next_rune(rest);
        here = here.substr(0, here.size() - rest.size());
        if (rune == '*' && rest.starts_with('*')) {
            rest.remove_prefix(1);
            if (rest.starts_with('/')) rest.remove_prefix(1);
            if (!rest.empty()) {
                expression += "(.*/)?";
                type = Type::expression;
            } else if (type == Type::exact) {
                type = Type::prefix;
            } else {
                expression += ".*";
                type = Type::expression;
            }
            if (i == 0) type = Type::suffix;
        } else if (rune == '*' || rune == '?') {
            expression += rune == '*' ? "[^/]*" : "[^/]";
            type = Type::expression;
        } else if (rune == '\\') {
            expression += '\\';
            if (!rest.empty()) {
                std::string_view escaped = rest;
                next_rune(rest);
                expression += escaped.substr(0, escaped.size() - rest.size());
                type = Type::expression;
            }
        } else if (here.size() == 1 && std::string_view(".+()|{}$").find(here.front()) != std::string_view::npos) {
            expression += '\\';
            expression += here;
        } else {
            if (rune == '[' || rune == ']') type = Type::expression;
            expression += here;
        }
    }
    below = text;
    if (below.ends_with("/**")) {
        below.resize(below.size() - 3);
    }
    if (below.ends_with("/*")) below.resize(below.size() - 2);
    below_is_fixed = below.find_first_of("*[]?^\\") == std::string::npos;
    below += '/';
    return type != Type::expression || Compiler(expression, states).run();
}

bool PatternMatcher::Pattern::match(std::string_view path) const {
    const std::string_view pattern = text;
    switch (type) {
        case Type::exact:
            return path == pattern;
        case Type::prefix:
            return path.starts_with(pattern.substr(0, pattern.size() - 2));
        case Type::suffix: {
            const std::string_view suffix = pattern.substr(2);
            return path.ends_with(suffix) || (suffix.starts_with('/') && path == suffix.substr(1));
        }
        case Type::expression:
            return Machine(states).accepts(path);
    }
    UNREACHABLE();
}

bool PatternMatcher::Pattern::match_or_parent(std::string_view path) const {
    if (match(path)) return true;
    for (std::size_t slash = path.find('/', 1); slash != std::string_view::npos; slash = path.find('/', slash + 1)) {
        if (match(path.substr(0, slash))) return true;
    }
    return false;
}

bool PatternMatcher::Pattern::may_match_below(std::string_view dir) const {
    if (!below_is_fixed || dir.empty()) return true;
    return below.size() > dir.size() && below.starts_with(dir) && below[dir.size()] == '/';
}

PatternMatcher::PatternMatcher() = default;
PatternMatcher::PatternMatcher(PatternMatcher&&) noexcept = default;
PatternMatcher& PatternMatcher::operator=(PatternMatcher&&) noexcept = default;
PatternMatcher::~PatternMatcher() = default;

Result<PatternMatcher> PatternMatcher::create(const std::vector<std::string>& patterns) {
    if (patterns.size() > kMaxPatterns) return bad_input("more than {} patterns", kMaxPatterns);
    PatternMatcher matcher;
    for (std::size_t i = 0; i < patterns.size(); ++i) {
        const std::string& given = patterns[i];
        const std::string_view trimmed = trim(given);
        if (trimmed.empty()) continue;
        if (trimmed.size() > kMaxPatternBytes) return bad_input("pattern is longer than {} bytes", kMaxPatternBytes);
        Pattern pattern;
        pattern.given = i;
        pattern.text = clean_path(trimmed);
        if (pattern.text.front() == '!') {
            if (pattern.text.size() == 1) return bad_input("illegal exclusion pattern: \"!\"");
            pattern.exception = true;
            pattern.text.erase(0, 1);
            matcher.has_exceptions_ = true;
        }
        if (!path_match(pattern.text, ".") || !pattern.compile()) {
            return bad_input("syntax error in pattern: {}", quoted(given));
        }
        matcher.patterns_.push_back(std::move(pattern));
    }
    return matcher;
}

bool PatternMatcher::matches_or_parent_matches(std::string_view path) const {
    bool matched = false;
    for (const auto& pattern : patterns_) {
        if (pattern.exception == matched && pattern.match_or_parent(path)) matched = !pattern.exception;
    }
    return matched;
}

bool PatternMatcher::matches_exact(std::string_view path) const {
    bool matched = false;
    for (const auto& pattern : patterns_) {
        if (pattern.exception == matched && pattern.match(path)) matched = !pattern.exception;
    }
    return matched;
}

bool PatternMatcher::matches(std::string_view path, const ParentResults& parent, ParentResults& mine) const {
    bool matched = false;
    const bool parent_known = !parent.matched.empty();
    mine.matched.assign(patterns_.size(), false);
    for (std::size_t i = 0; i < patterns_.size(); ++i) {
        const Pattern& pattern = patterns_[i];
        bool match = parent_known && parent.matched[i];
        if (!match) {
            // An inclusion cannot add to a match, an exception cannot take from none.
            if (pattern.exception != matched) continue;
            match = parent_known ? pattern.match(path) : pattern.match_or_parent(path);
        }
        mine.matched[i] = match;
        if (match) matched = !pattern.exception;
    }
    return matched;
}

PatternMatcher::Reason PatternMatcher::explain(std::string_view path) const {
    Reason reason;
    std::vector<std::string> first(patterns_.size());  // where each pattern began to hold
    ParentResults known;
    for (std::size_t slash = 0; slash != std::string_view::npos;) {
        slash = path.find('/', slash + 1);
        const std::string_view prefix = path.substr(0, slash);
        ParentResults mine;
        reason.matched = matches(prefix, known, mine);
        for (std::size_t i = 0; i < patterns_.size(); ++i) {
            if (mine.matched[i] && first[i].empty()) first[i] = prefix;
        }
        known = std::move(mine);
    }
    for (std::size_t i = 0; i < patterns_.size(); ++i) {
        if (!known.matched[i]) continue;
        reason.pattern = patterns_[i].given;
        reason.at = first[i];
    }
    return reason;
}

bool PatternMatcher::empty() const { return patterns_.empty(); }
bool PatternMatcher::has_exceptions() const { return has_exceptions_; }

bool PatternMatcher::may_match_below(std::string_view dir) const {
    return std::any_of(patterns_.begin(), patterns_.end(),
                       [&](const Pattern& pattern) { return !pattern.exception && pattern.may_match_below(dir); });
}

bool PatternMatcher::may_except_below(std::string_view dir) const {
    return std::any_of(patterns_.begin(), patterns_.end(),
                       [&](const Pattern& pattern) { return pattern.exception && pattern.may_match_below(dir); });
}

std::vector<IgnoreLine> read_ignore_lines(std::string_view text) {
    std::vector<IgnoreLine> lines;
    if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
    for (std::size_t number = 1; !text.empty(); ++number) {
        const std::size_t end = text.find('\n');
        std::string_view line = text.substr(0, end);
        text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
        if (line.starts_with('#')) continue;
        line = trim(line);
        if (line.empty()) continue;
        IgnoreLine read{.line = number, .text = std::string(line)};
        const bool exception = line.front() == '!';
        if (exception) line = trim(line.substr(1));
        if (!line.empty()) {
            read.pattern = clean_path(line);
            if (read.pattern.size() > 1 && read.pattern.front() == '/') read.pattern.erase(0, 1);
        }
        if (exception) read.pattern.insert(0, "!");
        lines.push_back(std::move(read));
    }
    return lines;
}

Result<std::vector<std::string>> read_ignore_file(std::string_view text, std::string_view file) {
    if (text.size() > kMaxIgnoreFileBytes) {
        const auto breaks = std::ranges::count(text.substr(0, kMaxIgnoreFileBytes), '\n');
        return bad_input("{}:{}: the file is larger than {} MiB", file, breaks + 1, kMaxIgnoreFileBytes >> 20U);
    }
    std::vector<std::string> patterns;
    for (IgnoreLine& line : read_ignore_lines(text)) {
        if (patterns.size() == kMaxPatterns) {
            return bad_input("{}:{}: more than {} patterns", file, line.line, kMaxPatterns);
        }
        const auto good = PatternMatcher::create({line.pattern});
        if (!good) return good.error().with_context(fmt::format("{}:{}", file, line.line));
        patterns.push_back(std::move(line.pattern));
    }
    return patterns;
}

}  // namespace cooper::codec
