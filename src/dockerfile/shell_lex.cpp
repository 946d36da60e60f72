#include "dockerfile/shell_lex.hpp"

#include "base/text.hpp"
#include "dockerfile/runes.hpp"
#include "dockerfile/wildcard.hpp"

#include <algorithm>
#include <array>
#include <optional>

namespace cooper::dockerfile {

namespace {

// Expansions inside expansions; more is an attack, not a Dockerfile.
constexpr int kMaxDepth = 64;
constexpr std::size_t kMaxResult = 16U << 20U;
// Of all values of one expansion together, those inside others too.
constexpr std::size_t kMaxValues = 32U << 20U;
// Comparisons that all patterns of one word may take.
constexpr std::int64_t kMaxSteps = std::int64_t{1} << 25;

bool is_digit(char32_t c) { return c >= '0' && c <= '9'; }
bool is_name(char32_t c) { return is_digit(c) || c == '_' || is_letter_rune(c); }
bool is_special_parameter(char c) { return std::string_view("@*#?-$!0").find(c) != std::string_view::npos; }

// The words of a text while it grows: white space ends one, unless it is added raw.
class WordList {
public:
    // Words without `part` are not kept. Nothing at all is kept where nobody wants words.
    static WordList none() { return WordList(false, {}); }
    static WordList with(std::string_view part) { return WordList(true, part); }

    void add(std::string_view text) {
        if (!wanted_) return;
        while (!text.empty()) {
            std::size_t plain = 0;
            while (plain < text.size() && text[plain] > ' ') ++plain;
            word_ += text.substr(0, plain);
            text.remove_prefix(plain);
            if (text.empty()) return;
            const Rune rune = decode_rune(text);
            if (is_space_rune(rune.value)) {
                end_word();
            } else {
                word_ += text.substr(0, rune.size_bytes);
            }
            text.remove_prefix(rune.size_bytes);
        }
    }
    void add_raw(std::string_view text) {
        if (wanted_) word_ += text;
    }
    std::vector<std::string> take() {
        end_word();
        return std::move(words_);
    }

private:
    WordList(bool wanted, std::string_view part) : wanted_(wanted), part_(part) {}

    void end_word() {
        if (!word_.empty() && words_.size() < kMaxExpandedWords && word_.find(part_) != std::string::npos) {
            words_.push_back(std::move(word_));
        }
        word_.clear();
    }

    bool wanted_;
    std::string_view part_;
    std::vector<std::string> words_;
    std::string word_;
};

// A name in a template of Go's regexp, at the '$': its length with everything around it, 0 when this
// is no name.
std::size_t template_name(std::string_view text, std::string_view& name) {
    const bool braced = text.substr(1).starts_with('{');
    const std::size_t begin = braced ? 2 : 1;
    std::size_t end = begin;
    while (end < text.size()) {
        const Rune rune = decode_rune(text.substr(end));
        if (!is_name(rune.value)) break;
        end += rune.size_bytes;
    }
    name = text.substr(begin, end - begin);
    if (name.empty() || (braced && (end == text.size() || text[end] != '}'))) return 0;
    return braced ? end + 1 : end;
}

// In ${x//p/r} the replacement is such a template: $0 is the whole match, other groups do not exist in
// a wildcard and are empty, $$ is a dollar.
std::string expand_template(std::string_view replacement, std::string_view match) {
    std::string out;
    while (!replacement.empty()) {
        const std::size_t dollar = std::min(replacement.find('$'), replacement.size());
        out += replacement.substr(0, dollar);
        replacement.remove_prefix(dollar);
        if (replacement.empty()) break;
        std::string_view name;
        if (replacement.starts_with("$$")) {
            out += '$';
            replacement.remove_prefix(2);
        } else if (const std::size_t size = template_name(replacement, name)) {
            if (name == "0") out += match;
            replacement.remove_prefix(size);
        } else {
            out += '$';
            replacement.remove_prefix(1);
        }
    }
    return out;
}

class Scan {
public:
    Scan(std::string_view source, char escape, LexOptions options, const llb::EnvList& env)
        : source_(source), escape_(escape), options_(options), raw_escapes_(options.raw_escapes), env_(env) {}

    Result<Expansion> run() {
        WordList nobody = WordList::none();
        result_.text = TRY(until(std::nullopt, options_.raw_escapes, nobody));
        return std::move(result_);
    }

    Result<std::vector<std::string>> run_words() {
        WordList words = WordList::with(options_.only_words_with);
        TRY(until(std::nullopt, options_.raw_escapes, words));
        return words.take();
    }

private:
    [[nodiscard]] bool at_end() const { return at_ >= source_.size(); }
    [[nodiscard]] char peek() const { return source_[at_]; }
    char next() { return source_[at_++]; }
    std::string_view next_rune() {
        const std::string_view rest = source_.substr(at_);
        const std::size_t size = decode_rune(rest).size_bytes;
        at_ += size;
        return rest.substr(0, size);
    }

    // As far as nothing has a meaning; at least one character.
    std::string_view plain_text(std::optional<char> stop) {
        const std::string_view rest = source_.substr(at_);
        const std::array<char, 6> special = {'$', '<', escape_, stop.value_or('$'), '\'', '"'};
        const std::string_view ends(special.data(), options_.skip_quotes ? 4 : 6);
        const std::size_t size = std::max(decode_rune(rest).size_bytes, rest.find_first_of(ends));
        at_ += std::min(size, rest.size());
        return rest.substr(0, size);
    }

    // "<<" keeps the blanks behind it, so that "<< EOF" is one word.
    std::string possible_heredoc() {
        ++at_;
        if (at_end() || peek() != '<') return "<";
        ++at_;
        std::string text = "<<";
        while (const std::size_t size = leading_space(source_.substr(at_))) {
            text += source_.substr(at_, size);
            at_ += size;
        }
        return text;
    }

    // Up to `stop` (taken, not given) or the end.
    Result<std::string> until(std::optional<char> stop, bool raw_escapes) {
        WordList nobody = WordList::none();
        return TRY(until(stop, raw_escapes, nobody));
    }

    Result<std::string> until(std::optional<char> stop, bool raw_escapes, WordList& words) {
        if (++depth_ > kMaxDepth) return bad_input("expansions are nested too deeply");
        const bool before = raw_escapes_;
        raw_escapes_ = raw_escapes;
        std::string text;
        while (!at_end()) {
            const char c = peek();
            if (stop && c == *stop) {
                ++at_;
                raw_escapes_ = before;
                --depth_;
                return text;
            }
            if (c == '$') {
                const std::string value = TRY(dollar());
                text += value;
                words.add(value);
                values_bytes_ += value.size();
                if (text.size() > kMaxResult || values_bytes_ > kMaxValues) {
                    return bad_input("the expansion is larger than 16 MiB");
                }
            } else if (!options_.skip_quotes && (c == '\'' || c == '"')) {
                const std::string value = c == '"' ? TRY(double_quote()) : TRY(single_quote());
                text += value;
                words.add_raw(value);
            } else if (c == '<') {
                const std::string value = possible_heredoc();
                text += value;
                words.add_raw(value);
            } else if (c == escape_) {
                ++at_;
                if (raw_escapes_) {
                    words.add_raw(std::string_view(&escape_, 1));
                    text += escape_;
                }
                if (at_end()) break;
                const std::string_view escaped = next_rune();
                words.add_raw(escaped);
                text += escaped;
            } else {
                const std::string_view plain = plain_text(stop);
                words.add(plain);
                text += plain;
            }
        }
        raw_escapes_ = before;
        --depth_;
        if (stop) return bad_input("unexpected end of statement while looking for matching {}", *stop);
        return text;
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
        if (!at_end() && is_digit(static_cast<unsigned char>(peek()))) {
            while (!at_end() && is_digit(static_cast<unsigned char>(peek()))) text += next();
            return text;
        }
        if (!at_end() && is_special_parameter(peek())) return std::string(1, next());
        while (!at_end() && is_name(decode_rune(source_.substr(at_)).value)) text += next_rune();
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
        return modified(variable, c, modifier, null_is_unset, *part);
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
        return without_affix(value.value_or(""), word, c,
                             greedy ? Wildcard::Reach::longest : Wildcard::Reach::shortest);
    }

    // ${x#p}, ${x%p}: an end is cut off as a beginning of everything read backwards.
    Result<std::string> without_affix(const std::string& value, const std::string& pattern, char side,
                                      Wildcard::Reach reach) {
        Wildcard wildcard = TRY(Wildcard::parse(pattern));
        std::u32string runes = to_runes(value);
        const bool at_the_end = side == '%';
        if (at_the_end) {
            wildcard = wildcard.reversed();
            std::ranges::reverse(runes);
        }
        const WildcardText text(std::move(runes));
        const auto end = TRY(wildcard.match_at(text, 0, reach, steps_));
        if (!end) return value;
        std::u32string rest = text.runes().substr(*end);
        if (at_the_end) std::ranges::reverse(rest);
        return from_runes(rest);
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
            return "${" + variable + "/" + *pattern_part + "/" + *replacement_part + "}";
        }
        const Wildcard wildcard = TRY(Wildcard::parse(*pattern_part));
        return replaced(wildcard, WildcardText(to_runes(value.value_or(""))), *replacement_part, all);
    }

    // Leftmost, longest; an empty match right behind another one does not count.
    Result<std::string> replaced(const Wildcard& wildcard, const WildcardText& text, const std::string& replacement,
                                 bool all) {
        const std::u32string_view runes = text.runes();
        std::string out;
        std::size_t at = 0;      // not yet copied from here on
        std::size_t behind = 0;  // end of the match before
        bool first = true;
        for (std::size_t from = 0; from <= runes.size();) {
            const auto end = TRY(wildcard.match_at(text, from, Wildcard::Reach::longest, steps_));
            if (!end || (*end == from && !first && from == behind)) {
                ++from;
                continue;
            }
            out += from_runes(runes.substr(at, from - at));
            const std::string match = from_runes(runes.substr(from, *end - from));
            out += all ? expand_template(replacement, match) : replacement;
            if (out.size() > kMaxResult) return bad_input("the expansion is larger than 16 MiB");
            at = behind = *end;
            from = std::max(*end, from + (*end == from ? 1 : 0));
            first = false;
            if (!all) break;
        }
        return out + from_runes(runes.substr(at));
    }

    std::string_view source_;
    char escape_;
    LexOptions options_;
    bool raw_escapes_;
    const llb::EnvList& env_;
    std::size_t at_ = 0;
    int depth_ = 0;
    std::int64_t steps_ = kMaxSteps;
    std::size_t values_bytes_ = 0;
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
    auto words = Scan(word, escape_, options_, env).run_words();
    if (!words) return words.error().with_context(fmt::format("failed to process {}", quoted(word)));
    return words;
}

}  // namespace cooper::dockerfile
