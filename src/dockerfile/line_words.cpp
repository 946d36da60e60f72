#include "dockerfile/line_words.hpp"

#include "base/text.hpp"
#include "dockerfile/shell_lex.hpp"

#include <map>
#include <nlohmann/json.hpp>

namespace cooper::dockerfile {

namespace {

constexpr std::string_view kBlank = " \t\v\f\r";

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f'; }

// Leading words that begin with "--"; quotes and escapes as BuildKit's flag scanner has them.
Result<> take_flags(std::string_view text, char escape, std::vector<std::string>& flags, std::string& rest) {
    std::size_t at = 0;
    while (true) {
        while (at < text.size() && is_space(text[at])) ++at;
        if (at >= text.size()) {
            rest.clear();
            return {};
        }
        if (!text.substr(at).starts_with("--")) break;
        std::string word;
        char quote = 0;
        std::size_t i = at;
        for (; i < text.size(); ++i) {
            const char c = text[i];
            if (quote == 0 && is_space(c)) break;
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
    rest = trim(text.substr(std::min(at, text.size())));
    return {};
}

std::vector<std::string> blank_words(std::string_view text) {
    std::vector<std::string> words;
    std::string word;
    for (const char c : text) {
        if (is_space(c)) {
            if (!word.empty()) words.push_back(std::move(word));
            word.clear();
        } else {
            word += c;
        }
    }
    if (!word.empty()) words.push_back(std::move(word));
    return words;
}

Result<std::vector<KeyValue>> key_values(std::string_view text, char escape, std::string_view command) {
    std::vector<KeyValue> pairs;
    const std::vector<std::string> words = quoted_words(text, escape);
    if (words.empty()) return pairs;
    if (words[0].find('=') == std::string::npos) {
        // The old form: one key, and all the rest is its value.
        const std::size_t end = text.find_first_of(kBlank);
        if (end == std::string_view::npos) return bad_input("{} must have two arguments", to_upper(command));
        pairs.push_back({std::string(text.substr(0, end)), std::string(trim(text.substr(end))), false});
        return pairs;
    }
    for (const auto& word : words) {
        const auto [key, value] = cut(word, '=');
        if (!value) {
            return bad_input("Syntax error - can't find = in {}. Must be of the form: name=value",
                             cooper::quoted(word));
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
            if (is_space(c)) continue;
            phase = Phase::word;
        }
        if (phase == Phase::word) {
            if (is_space(c)) {
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
    text = trim(text);
    if (!text.starts_with('[')) return std::optional<std::vector<std::string>>{};
    const auto parsed = nlohmann::json::parse(text, nullptr, false);
    if (parsed.is_discarded() || !parsed.is_array()) return std::optional<std::vector<std::string>>{};
    std::vector<std::string> words;
    for (const auto& item : parsed) {
        if (!item.is_string()) return bad_input("only string type is allowed in JSON format arrays");
        words.push_back(item.get<std::string>());
    }
    return std::optional(std::move(words));
}

Result<> split_instruction(Node& node, std::string_view line, char escape) {
    line = trim(line);
    const std::size_t end = line.find_first_of(kBlank);
    node.keyword = line.substr(0, end);
    node.command = to_lower(node.keyword);
    if (end != std::string_view::npos) TRY(take_flags(line.substr(end), escape, node.flags, node.rest));
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
        case Form::nested:
            if (!node.rest.empty()) node.words = {node.rest};
            break;
        case Form::health: {
            const std::size_t type_end = node.rest.find_first_of(kBlank);
            if (node.rest.empty()) break;
            node.words = {node.rest.substr(0, type_end)};
            if (type_end == std::string::npos) break;
            const std::string_view command = trim(std::string_view(node.rest).substr(type_end));
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

std::vector<Heredoc> heredocs_of_line(std::string_view line, char escape) {
    std::vector<Heredoc> heredocs;
    const llb::EnvList none;
    const auto words =
        ShellLex(escape, {.raw_quotes = true, .raw_escapes = true, .keep_unset = true}).expand_words(line, none);
    if (!words) return heredocs;
    for (std::size_t i = 0; i < words->size(); ++i) {
        std::string word = (*words)[i];
        // "<< EOF": the name may follow a blank.
        if ((word.ends_with("<<") || word.ends_with("<<-")) && i + 1 < words->size() &&
            word.find_first_not_of("0123456789<-") == std::string::npos) {
            word += (*words)[++i];
        }
        if (auto heredoc = parse_heredoc_word(word, escape)) heredocs.push_back(std::move(*heredoc));
    }
    return heredocs;
}

}  // namespace cooper::dockerfile
