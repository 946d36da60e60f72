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

// Leading words that begin with "--"; quotes and escapes as BuildKit's flag scanner has them.
void take_flags(std::string_view text, char escape, std::vector<std::string>& flags, std::string& rest) {
    std::size_t at = 0;
    while (true) {
        while (const std::size_t size = leading_space(text.substr(at))) at += size;
        if (at >= text.size()) {
            rest.clear();
            return;
        }
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
    rest = trim_space(text.substr(std::min(at, text.size())));
}

std::vector<std::string> blank_words(std::string_view text) {
    std::vector<std::string> words;
    while (true) {
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

Result<std::vector<KeyValue>> key_values(std::string_view text, char escape, std::string_view command) {
    std::vector<KeyValue> pairs;
    const std::vector<std::string> words = quoted_words(text, escape);
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
            return bad_input("Syntax error - can't find = in {}. Must be of the form: name=value", quoted(word));
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

std::vector<std::string> quoted_words(std::string_view text, char escape) {
    enum class Phase : std::uint8_t { blank, word, quote };
    std::vector<std::string> words;
    std::string word;
    Phase phase = Phase::blank;
    char quote = 0;
    bool blank_ok = false;
    for (std::size_t i = 0; i < text.size(); ++i) {
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

Result<std::optional<std::vector<std::string>>> json_words(std::string_view text) {
    text = trim_space_left(text);
    if (!text.starts_with('[')) return std::optional<std::vector<std::string>>{};
    auto parsed = nlohmann::json::parse(text, nullptr, false);
    if (parsed.is_discarded() && (!is_valid_utf8(text) || text.find("\\u") != std::string_view::npos)) {
        parsed = nlohmann::json::parse(without_lone_surrogates(replace_invalid_utf8(text)), nullptr, false);
    }
    if (!parsed.is_array()) return std::optional<std::vector<std::string>>{};
    std::vector<std::string> words;
    for (const auto& item : parsed) {
        if (!item.is_string())
            return bad_input("when using JSON array syntax, arrays must be comprised of strings only");
        words.push_back(item.get<std::string>());
    }
    return std::optional(std::move(words));
}

Result<> split_instruction(Node& node, char escape) {
    const std::string_view line = trim_space(node.original);
    const std::size_t end = line.find_first_of(kBlank);
    node.keyword = line.substr(0, end);
    node.command = to_lower(node.keyword);
    if (end != std::string_view::npos) take_flags(line.substr(end), escape, node.flags, node.rest);
    const auto form = form_of(node.command);
    if (!form) return {};
    switch (*form) {
        case Form::json_or_string:
        case Form::json_or_list:
            if (auto words = TRY(json_words(node.rest))) {
                node.json = true;
                node.words = std::move(*words);
            } else if (*form == Form::json_or_list) {
                node.words = blank_words(node.rest);
            } else if (!node.rest.empty()) {
                node.words = {node.rest};
            }
            break;
        case Form::pairs:
            node.pairs = TRY(key_values(node.rest, escape, node.command));
            break;
        case Form::names:
            node.words = quoted_words(node.rest, escape);
            break;
        case Form::blanks:
            node.words = blank_words(node.rest);
            break;
        case Form::string:
            if (!node.rest.empty()) node.words = {node.rest};
            break;
        case Form::nested: {
            if (node.rest.empty()) break;
            node.words = {node.rest};
            Node inner;
            inner.original = node.rest;
            node.trigger = to_lower(node.rest.substr(0, node.rest.find_first_of(kBlank)));
            if (node.trigger == "onbuild") break;  // refused later; what it holds does not matter
            TRY(split_instruction(inner, escape));
            node.trigger_json = inner.json;
            break;
        }
        case Form::health: {
            const std::size_t type_end = node.rest.find_first_of(kBlank);
            if (node.rest.empty()) break;
            node.words = {node.rest.substr(0, type_end)};
            if (type_end == std::string::npos) break;
            const std::string_view command = trim_space(std::string_view(node.rest).substr(type_end));
            if (auto words = TRY(json_words(command))) {
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
