#include "dockerfile/shell_lex.hpp"

#include "base/text.hpp"

#include <optional>

namespace cooper::dockerfile {

namespace {

// Expansions inside expansions; more is an attack, not a Dockerfile.
constexpr int kMaxDepth = 64;
constexpr std::size_t kMaxResult = 16U << 20U;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f'; }
// Bytes of letters beyond ASCII count as letters of a name, as Go's unicode.IsLetter mostly has it.
bool is_name(char c) {
    return is_digit(c) || c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           static_cast<unsigned char>(c) >= 0x80;
}
bool is_special_parameter(char c) { return std::string_view("@*#?-$!0").find(c) != std::string_view::npos; }

class WordList {
public:
    void add(char c) {
        if (!is_space(c)) {
            add_raw(c);
        } else if (in_word_ && !word_.empty()) {
            words_.push_back(std::move(word_));
            word_.clear();
            in_word_ = false;
        }
    }
    void add_raw(char c) {
        word_ += c;
        in_word_ = true;
    }
    void add(std::string_view text) {
        for (const char c : text) add(c);
    }
    void add_raw(std::string_view text) {
        word_ += text;
        in_word_ = true;
    }
    std::vector<std::string> take() {
        if (!word_.empty()) words_.push_back(std::move(word_));
        return std::move(words_);
    }

private:
    std::vector<std::string> words_;
    std::string word_;
    bool in_word_ = false;
};

// A wildcard pattern of ${x#p} and the like: '*', '?' and literal characters.
struct Pattern {
    struct Item {
        enum class Kind : std::uint8_t { literal, any, star } kind;
        char c;
    };
    std::vector<Item> items;

    static Result<Pattern> parse(std::string_view text) {
        Pattern pattern;
        for (std::size_t i = 0; i < text.size(); ++i) {
            const char c = text[i];
            if (c == '*') {
                pattern.items.push_back({Item::Kind::star, 0});
            } else if (c == '?') {
                pattern.items.push_back({Item::Kind::any, 0});
            } else if (c == '\\') {
                if (i + 1 < text.size() && (text[i + 1] == '}' || text[i + 1] == '/')) continue;  // it was for us
                if (i + 1 >= text.size() || std::string_view("*?\\").find(text[i + 1]) == std::string_view::npos) {
                    return bad_input("invalid pattern ({}) in substitution: invalid escape", text);
                }
                pattern.items.push_back({Item::Kind::literal, text[++i]});
            } else {
                pattern.items.push_back({Item::Kind::literal, c});
            }
        }
        return pattern;
    }

    // All lengths that match a prefix of text, as flags; O(items × text).
    [[nodiscard]] std::vector<bool> prefix_lengths(std::string_view text) const {
        std::vector<bool> reach(text.size() + 1);
        reach[0] = true;
        for (const Item& item : items) {
            std::vector<bool> next(text.size() + 1);
            bool open = false;
            for (std::size_t i = 0; i <= text.size(); ++i) {
                if (item.kind == Item::Kind::star) {
                    open = open || reach[i];
                    next[i] = open;
                } else if (reach[i] && i < text.size() && (item.kind == Item::Kind::any || text[i] == item.c)) {
                    next[i + 1] = true;
                }
            }
            reach = std::move(next);
        }
        return reach;
    }
    [[nodiscard]] std::optional<std::size_t> longest_prefix(std::string_view text) const {
        const auto reach = prefix_lengths(text);
        for (std::size_t i = reach.size(); i-- > 0;) {
            if (reach[i]) return i;
        }
        return std::nullopt;
    }
    [[nodiscard]] std::optional<std::size_t> shortest_prefix(std::string_view text) const {
        const auto reach = prefix_lengths(text);
        for (std::size_t i = 0; i < reach.size(); ++i) {
            if (reach[i]) return i;
        }
        return std::nullopt;
    }
    [[nodiscard]] Pattern reversed() const { return {{items.rbegin(), items.rend()}}; }
};

std::string reversed(std::string_view text) { return {text.rbegin(), text.rend()}; }

// In ${x//p/r} the replacement is a template of Go's regexp: $1 and ${1} stand for groups, which a
// wildcard has none of; $$ is a dollar.
std::string expand_template(std::string_view replacement) {
    std::string out;
    for (std::size_t i = 0; i < replacement.size(); ++i) {
        if (replacement[i] != '$' || i + 1 >= replacement.size()) {
            out += replacement[i];
        } else if (replacement[i + 1] == '$') {
            out += '$';
            ++i;
        } else if (replacement[i + 1] == '{') {
            const std::size_t end = replacement.find('}', i);
            if (end == std::string_view::npos) {
                out += '$';
            } else {
                i = end;
            }
        } else if (is_name(replacement[i + 1])) {
            while (i + 1 < replacement.size() && is_name(replacement[i + 1])) ++i;
        } else {
            out += '$';
        }
    }
    return out;
}

class Scan {
public:
    Scan(std::string_view source, char escape, LexOptions options, const llb::EnvList& env)
        : source_(source), escape_(escape), options_(options), raw_escapes_(options.raw_escapes), env_(env) {}

    Result<Expansion> run() {
        const Part part = TRY(until(std::nullopt, options_.raw_escapes));
        result_.text = part.text;
        result_.words = part.words;
        return std::move(result_);
    }

private:
    struct Part {
        std::string text;
        std::vector<std::string> words;
    };

    [[nodiscard]] bool at_end() const { return at_ >= source_.size(); }
    [[nodiscard]] char peek() const { return source_[at_]; }
    char next() { return source_[at_++]; }

    // Up to `stop` (taken, not given) or the end.
    Result<Part> until(std::optional<char> stop, bool raw_escapes) {
        if (++depth_ > kMaxDepth) return bad_input("expansions are nested too deeply");
        const bool before = raw_escapes_;
        raw_escapes_ = raw_escapes;
        std::string text;
        WordList words;
        while (!at_end()) {
            const char c = peek();
            if (stop && c == *stop) {
                ++at_;
                raw_escapes_ = before;
                --depth_;
                return Part{std::move(text), words.take()};
            }
            if (c == '$') {
                const std::string value = TRY(dollar());
                text += value;
                words.add(std::string_view(value));
                if (text.size() > kMaxResult) return bad_input("the expansion is larger than 16 MiB");
            } else if (!options_.skip_quotes && (c == '\'' || c == '"')) {
                const std::string value = c == '"' ? TRY(double_quote()) : TRY(single_quote());
                text += value;
                words.add_raw(std::string_view(value));
            } else {
                ++at_;
                if (c == escape_) {
                    if (raw_escapes_) {
                        words.add_raw(c);
                        text += c;
                    }
                    if (at_end()) break;
                    const char escaped = next();
                    words.add_raw(escaped);
                    text += escaped;
                } else {
                    words.add(c);
                    text += c;
                }
            }
        }
        raw_escapes_ = before;
        --depth_;
        if (stop) return bad_input("unexpected end of statement while looking for matching {}", *stop);
        return Part{std::move(text), words.take()};
    }

    Result<std::string> single_quote() {
        std::string text;
        const char quote = next();
        if (options_.raw_quotes) text += quote;
        while (!at_end()) {
            const char c = next();
            if (c == '\'') {
                if (options_.raw_quotes) text += c;
                return text;
            }
            text += c;
        }
        return bad_input("unexpected end of statement while looking for matching single-quote");
    }

    Result<std::string> double_quote() {
        std::string text;
        const char quote = next();
        if (options_.raw_quotes) text += quote;
        while (!at_end()) {
            const char c = peek();
            if (c == '"') {
                ++at_;
                if (options_.raw_quotes) text += c;
                return text;
            }
            if (c == '$') {
                text += TRY(dollar());
                continue;
            }
            ++at_;
            if (c != escape_) {
                text += c;
                continue;
            }
            if (raw_escapes_) text += c;
            if (at_end()) continue;
            // Before anything else it is an ordinary character.
            text += peek() == '"' || peek() == '$' || peek() == escape_ ? next() : c;
        }
        return bad_input("unexpected end of statement while looking for matching double-quote");
    }

    std::string name() {
        std::string text;
        if (!at_end() && is_digit(peek())) {
            while (!at_end() && is_digit(peek())) text += next();
            return text;
        }
        if (!at_end() && is_special_parameter(peek())) return std::string(1, next());
        while (!at_end() && is_name(peek())) text += next();
        return text;
    }

    std::optional<std::string> value_of(const std::string& name) {
        if (const auto value = env_.get(name)) {
            result_.matched.insert(name);
            return std::string(*value);
        }
        result_.unmatched.insert(name);
        return std::nullopt;
    }

    Result<std::string> dollar() {
        ++at_;
        if (at_end() || peek() != '{') {
            const std::string variable = name();
            if (variable.empty()) return std::string("$");
            const auto value = value_of(variable);
            if (!value && options_.keep_unset) return "$" + variable;
            return value.value_or("");
        }
        ++at_;
        if (at_end()) return bad_input("syntax error: missing '}}'");
        if (peek() == '{' || peek() == '}' || peek() == ':') return bad_input("syntax error: bad substitution");
        const std::string variable = name();
        if (at_end()) return bad_input("syntax error: missing '}}'");
        char c = next();
        if (c == '}') {
            const auto value = value_of(variable);
            if (!value && options_.keep_unset) return "${" + variable + "}";
            return value.value_or("");
        }
        if (c == '/') return replace(variable);
        std::string modifier(1, c);
        bool null_is_unset = false;
        if (c == ':') {
            null_is_unset = true;
            if (at_end()) return bad_input("syntax error: missing '}}'");
            c = next();
            modifier += c;
        }
        if (std::string_view("+-?#%").find(c) == std::string_view::npos || (null_is_unset && (c == '#' || c == '%'))) {
            return bad_input("unsupported modifier ({}) in substitution", modifier);
        }
        const auto part = until('}', c == '#' || c == '%');
        if (!part) {
            if (at_end()) return bad_input("syntax error: missing '}}'");
            return part.error();
        }
        return modified(variable, c, modifier, null_is_unset, part->text);
    }

    Result<std::string> modified(const std::string& variable, char c, const std::string& modifier, bool null_is_unset,
                                 std::string word) {
        const auto value = value_of(variable);
        if (!value && options_.keep_unset) return "${" + variable + modifier + word + "}";
        const bool missing = !value || (null_is_unset && value->empty());
        switch (c) {
            case '-':
                return missing ? word : *value;
            case '+':
                return missing ? std::string() : word;
            case '?':
                if (!missing) return *value;
                if (word.empty()) word = value ? "is not allowed to be empty" : "is not allowed to be unset";
                return bad_input("{}: {}", variable, word);
            default:
                break;
        }
        const bool greedy = !word.empty() && word[0] == c;
        if (greedy) word.erase(0, 1);
        const Pattern pattern = TRY(Pattern::parse(word));
        std::string text = value.value_or("");
        if (c == '#') {
            const auto length = greedy ? pattern.longest_prefix(text) : pattern.shortest_prefix(text);
            return length ? text.substr(*length) : text;
        }
        const std::string backwards = reversed(text);
        const Pattern turned = pattern.reversed();
        const auto length = greedy ? turned.longest_prefix(backwards) : turned.shortest_prefix(backwards);
        if (length) text.resize(text.size() - *length);
        return text;
    }

    Result<std::string> replace(const std::string& variable) {
        const bool all = !at_end() && peek() == '/';
        if (all) ++at_;
        const auto pattern_part = until('/', true);
        if (!pattern_part) {
            if (at_end()) return bad_input("syntax error: missing '/' in ${{}}");
            return pattern_part.error();
        }
        const auto replacement_part = until('}', true);
        if (!replacement_part) {
            if (at_end()) return bad_input("syntax error: missing '}}'");
            return replacement_part.error();
        }
        const auto value = value_of(variable);
        if (!value && options_.keep_unset) {
            return "${" + variable + "/" + pattern_part->text + "/" + replacement_part->text + "}";
        }
        const Pattern pattern = TRY(Pattern::parse(pattern_part->text));
        const std::string replacement = all ? expand_template(replacement_part->text) : replacement_part->text;
        const std::string text = value.value_or("");
        std::string out;
        for (std::size_t i = 0; i <= text.size();) {
            const auto length = pattern.longest_prefix(std::string_view(text).substr(i));
            if (length) out += replacement;
            if (length && !all) return out + text.substr(i + *length);
            if (!length || *length == 0) {
                if (i < text.size()) out += text[i];
                ++i;
            } else {
                i += *length;
                if (i == text.size()) break;
            }
        }
        return out;
    }

    std::string_view source_;
    char escape_;
    LexOptions options_;
    bool raw_escapes_;
    const llb::EnvList& env_;
    std::size_t at_ = 0;
    int depth_ = 0;
    Expansion result_;
};

}  // namespace

Result<Expansion> ShellLex::expand(std::string_view word, const llb::EnvList& env) const {
    auto expansion = Scan(word, escape_, options_, env).run();
    if (!expansion) return expansion.error().with_context(fmt::format("failed to process {}", quoted(word)));
    return expansion;
}

Result<std::string> ShellLex::expand_word(std::string_view word, const llb::EnvList& env) const {
    return TRY(expand(word, env)).text;
}

Result<std::vector<std::string>> ShellLex::expand_words(std::string_view word, const llb::EnvList& env) const {
    return TRY(expand(word, env)).words;
}

}  // namespace cooper::dockerfile
