#include "dockerfile/line_words.hpp"

#include "base/text.hpp"
#include "dockerfile/runes.hpp"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

namespace cooper::dockerfile {

namespace {

// What separates the keyword and plain words; no other white space does.
constexpr std::string_view kBlank = " \t\v\f\r";

// Leading words that begin with "--"; quotes and escapes as BuildKit's flag scanner has them. Returns
// what follows them.
std::string_view take_flags(std::string_view text, char escape, std::size_t max, std::vector<std::string>& flags) {
    std::size_t at = 0;
    while (flags.size() <= max) {
        while (const std::size_t size = leading_space(text.substr(at))) at += size;
        if (at >= text.size()) return {};
        if (!text.substr(at).starts_with("--")) break;
        std::string word;
        char quote = 0;
        std::size_t i = at;
        for (; i < text.size(); ++i) {
            const char c = text[i];
            if (quote == 0 && leading_space(text.substr(i)) > 0) break;
            if (c == escape) {
                if (i + 1 >= text.size()) break;
                word += text[++i];
            } else if (quote == 0 && (c == '\'' || c == '"')) {
                quote = c;
            } else if (quote != 0 && c == quote) {
                quote = 0;
            } else {
                word += c;
            }
        }
        if (word == "--") {
            at = i;
            break;
        }
        flags.push_back(std::move(word));
        at = i;
    }
    return trim_space(text.substr(std::min(at, text.size())));
}

std::vector<std::string> blank_words(std::string_view text, std::size_t max) {
    std::vector<std::string> words;
    while (true) {
        if (words.size() > max) return words;
        text.remove_prefix(std::min(text.find_first_not_of(kBlank), text.size()));
        if (text.empty()) return words;
        const std::string_view word = text.substr(0, text.find_first_of(kBlank));
        words.emplace_back(word);
        text.remove_prefix(word.size());
    }
}

// Escapes of half characters (\ud800 alone) are U+FFFD to Go and an error to our JSON reader.
std::string without_lone_surrogates(std::string_view text) {
    const auto unit = [&](std::size_t at) -> int {
        if (text.substr(at, 2) != "\\u" || at + 6 > text.size()) return -1;
        int value = 0;
        for (const char c : text.substr(at + 2, 4)) {
            const std::size_t digit = std::string_view("0123456789abcdef").find(to_lower(std::string_view(&c, 1)));
            if (digit == std::string_view::npos) return -1;
            value = value * 16 + static_cast<int>(digit);
        }
        return value;
    };
    const auto is_high = [](int value) { return value >= 0xD800 && value < 0xDC00; };
    const auto is_low = [](int value) { return value >= 0xDC00 && value < 0xE000; };
    std::string out;
    for (std::size_t at = 0; at < text.size();) {
        const int value = unit(at);
        const bool pair = is_high(value) && is_low(unit(at + 6));
        if (!pair && (is_high(value) || is_low(value))) {
            out += "\\ufffd";
            at += 6;
            continue;
        }
        const std::size_t size = pair ? 12 : text[at] == '\\' ? 2 : 1;
        out += text.substr(at, size);
        at += size;
    }
    return out;
}

// An array of strings, read value by value: a tree of JSON takes far more memory than its text.
class StringArray : public nlohmann::json_sax<nlohmann::json> {
public:
    explicit StringArray(std::size_t max) : max_(max) {}
    [[nodiscard]] bool only_strings() const { return only_strings_; }
    [[nodiscard]] std::vector<std::string> take() { return std::move(words_); }

    bool null() override { return other(); }
    bool boolean(bool /*value*/) override { return other(); }
    bool number_integer(number_integer_t /*value*/) override { return other(); }
    bool number_unsigned(number_unsigned_t /*value*/) override { return other(); }
    bool number_float(number_float_t /*value*/, const string_t& /*text*/) override { return other(); }
    bool binary(binary_t& /*value*/) override { return other(); }
    bool string(string_t& value) override {
        if (depth_ != 1) return other();
        if (words_.size() <= max_) words_.push_back(std::move(value));
        return true;
    }
    bool start_object(std::size_t /*size*/) override { return enter() && other(); }
    bool key(string_t& /*name*/) override { return true; }
    bool end_object() override { return leave(); }
    bool start_array(std::size_t /*size*/) override { return enter() && (depth_ == 1 || other()); }
    bool end_array() override { return leave(); }
    bool parse_error(std::size_t /*at*/, const std::string& /*token*/,
                     const nlohmann::json::exception& /*e*/) override {
        return false;
    }

private:
    bool other() {
        only_strings_ = false;
        return true;
    }
    bool enter() {
        ++depth_;
        return true;
    }
    bool leave() {
        --depth_;
        return true;
    }

    std::size_t max_;
    std::vector<std::string> words_;
    std::size_t depth_ = 0;
    bool only_strings_ = true;
};

Result<std::vector<KeyValue>> key_values(std::string_view text, char escape, std::size_t max,
                                         std::string_view command) {
    std::vector<KeyValue> pairs;
    const std::vector<std::string> words = quoted_words(text, escape, max);
    if (words.empty()) return pairs;
    if (words[0].find('=') == std::string::npos) {
        // The old form: one key, and all the rest is its value.
        const std::size_t end = text.find_first_of(kBlank);
        if (end == std::string_view::npos) return bad_input("{} must have two arguments", to_upper(command));
        pairs.push_back({std::string(text.substr(0, end)), std::string(trim_space(text.substr(end))), false});
        return pairs;
    }
    for (const auto& word : words) {
        const auto [key, value] = cut(word, '=');
        if (!value) {
            return bad_input("Syntax error - can't find = in {}. Must be of the form: name=value", quoted(shown(word)));
        }
        pairs.push_back({std::string(key), std::string(*value), true});
    }
    return pairs;
}

enum class Form : std::uint8_t { json_or_string, json_or_list, pairs, names, blanks, string, health, nested };

std::optional<Form> form_of(std::string_view command) {
    static const std::map<std::string_view, Form> kForms = {{"add", Form::json_or_list},
                                                            {"arg", Form::names},
                                                            {"cmd", Form::json_or_string},
                                                            {"copy", Form::json_or_list},
                                                            {"entrypoint", Form::json_or_string},
                                                            {"env", Form::pairs},
                                                            {"expose", Form::blanks},
                                                            {"from", Form::blanks},
                                                            {"healthcheck", Form::health},
                                                            {"label", Form::pairs},
                                                            {"maintainer", Form::string},
                                                            {"onbuild", Form::nested},
                                                            {"run", Form::json_or_string},
                                                            {"shell", Form::json_or_string},
                                                            {"stopsignal", Form::string},
                                                            {"user", Form::string},
                                                            {"volume", Form::json_or_list},
                                                            {"workdir", Form::string}};
    const auto found = kForms.find(command);
    if (found == kForms.end()) return std::nullopt;
    return found->second;
}

}  // namespace

bool is_instruction(std::string_view command) { return form_of(command).has_value(); }

std::vector<std::string> quoted_words(std::string_view text, char escape, std::size_t max) {
    enum class Phase : std::uint8_t { blank, word, quote };
    std::vector<std::string> words;
    std::string word;
    Phase phase = Phase::blank;
    char quote = 0;
    bool blank_ok = false;
    for (std::size_t i = 0; i < text.size() && words.size() <= max; ++i) {
        const char c = text[i];
        if (phase == Phase::blank) {
            if (const std::size_t size = leading_space(text.substr(i))) {
                i += size - 1;
                continue;
            }
            phase = Phase::word;
        }
        if (phase == Phase::word) {
            if (const std::size_t size = leading_space(text.substr(i))) {
                i += size - 1;
                phase = Phase::blank;
                if (blank_ok || !word.empty()) words.push_back(std::move(word));
                word.clear();
                blank_ok = false;
                continue;
            }
            if (c == '\'' || c == '"') {
                quote = c;
                blank_ok = true;
                phase = Phase::quote;
            }
            if (c == escape) {
                if (i + 1 == text.size()) continue;  // an escape at the very end says nothing
                word += c;
                ++i;
                word += text[i];
                continue;
            }
            word += c;
            continue;
        }
        if (c == quote) phase = Phase::word;
        if (c == escape && quote != '\'') {
            if (i + 1 == text.size()) {
                phase = Phase::word;
                continue;
            }
            word += c;
            ++i;
            word += text[i];
            continue;
        }
        word += c;
    }
    if (phase != Phase::blank && (blank_ok || !word.empty())) words.push_back(std::move(word));
    return words;
}

Result<std::optional<std::vector<std::string>>> json_words(std::string_view text, std::size_t max) {
    text = trim_space_left(text);
    if (!text.starts_with('[')) return std::optional<std::vector<std::string>>{};
    StringArray array(max);
    bool valid = nlohmann::json::sax_parse(text, &array);
    if (!valid && (!is_valid_utf8(text) || text.find("\\u") != std::string_view::npos)) {
        array = StringArray(max);
        valid = nlohmann::json::sax_parse(without_lone_surrogates(replace_invalid_utf8(text)), &array);
    }
    if (!valid) return std::optional<std::vector<std::string>>{};
    if (!array.only_strings()) {
        return bad_input("when using JSON array syntax, arrays must be comprised of strings only");
    }
    return std::optional(array.take());
}

Result<> split_instruction(Node& node, char escape, std::size_t max) {
    const std::string_view line = trim_space(node.original);
    const std::size_t end = line.find_first_of(kBlank);
    node.keyword = line.substr(0, end);
    node.command = to_lower(node.keyword);
    std::string_view rest;
    if (end != std::string_view::npos) rest = take_flags(line.substr(end), escape, max, node.flags);
    const auto form = form_of(node.command);
    if (!form) return {};
    switch (*form) {
        case Form::json_or_string:
        case Form::json_or_list:
            if (auto words = TRY(json_words(rest, max))) {
                node.json = true;
                node.words = std::move(*words);
            } else if (*form == Form::json_or_list) {
                node.words = blank_words(rest, max);
            } else if (!rest.empty()) {
                node.words.emplace_back(rest);
            }
            break;
        case Form::pairs:
            node.pairs = TRY(key_values(rest, escape, max, node.command));
            break;
        case Form::names:
            node.words = quoted_words(rest, escape, max);
            break;
        case Form::blanks:
            node.words = blank_words(rest, max);
            break;
        case Form::string:
            if (!rest.empty()) node.words.emplace_back(rest);
            break;
        case Form::nested: {
            if (rest.empty()) break;
            node.words.emplace_back(rest);
            Node inner;
            inner.original = rest;
            node.trigger = to_lower(rest.substr(0, rest.find_first_of(kBlank)));
            if (node.trigger == "onbuild") break;  // refused later; what it holds does not matter
            TRY(split_instruction(inner, escape, max));
            node.trigger_json = inner.json;
            break;
        }
        case Form::health: {
            const std::size_t type_end = rest.find_first_of(kBlank);
            if (rest.empty()) break;
            node.words.emplace_back(rest.substr(0, type_end));
            if (type_end == std::string_view::npos) break;
            const std::string_view command = trim_space(rest.substr(type_end));
            if (auto words = TRY(json_words(command, max))) {
                node.json = true;
                node.words.insert(node.words.end(), words->begin(), words->end());
            } else if (!command.empty()) {
                node.words.emplace_back(command);
            }
            break;
        }
    }
    return {};
}

}  // namespace cooper::dockerfile
