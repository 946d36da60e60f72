#include "dockerfile/directives.hpp"

#include "base/text.hpp"
#include "dockerfile/runes.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace cooper::dockerfile {

namespace {

constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
constexpr std::size_t kMaxJson = 1U << 20U;

std::string_view next_line(std::string_view& text) {
    const std::size_t size = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, size);
    text.remove_prefix(std::min(size + 1, text.size()));
    return line;
}

std::optional<SyntaxRequest> syntax_directive(std::string_view text, std::string_view comment, int line_before) {
    DirectiveReader reader(comment);
    while (!text.empty() && !reader.done()) {
        const auto directive = reader.read(next_line(text));
        if (!directive) return std::nullopt;
        if (!*directive || (*directive)->name != "syntax") continue;
        const std::string& value = (*directive)->value;
        return SyntaxRequest{value.substr(0, value.find(' ')), value, (*directive)->line + line_before};
    }
    return std::nullopt;
}

std::optional<SyntaxRequest> syntax_member(std::string_view text, int line_before) {
    if (text.size() > kMaxJson || !trim_space_left(text).starts_with('{')) return std::nullopt;
    const auto json = nlohmann::json::parse(text, nullptr, false);
    if (!json.is_object() || !json.contains("syntax") || !json["syntax"].is_string()) return std::nullopt;
    const auto value = json["syntax"].get<std::string>();
    return SyntaxRequest{value, value, line_before + 1};
}

}  // namespace

Result<std::optional<Directive>> DirectiveReader::read(std::string_view line) {
    static constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    static constexpr std::string_view kNames = "syntax escape check";
    std::optional<Directive> none;
    ++line_;
    if (done_) return none;
    done_ = true;
    if (!line.starts_with(comment_)) return none;
    const auto [left, right] = cut(trim_space_left(line.substr(comment_.size())), '=');
    const std::string name = to_lower(trim_space(left));
    const std::string_view value = trim_space(right.value_or(""));
    if (value.empty() || name.empty() || name.find_first_not_of(kLetters) != std::string::npos) return none;
    if (std::ranges::count(split(kNames, ' '), name) == 0) return none;
    if (!seen_.insert(name).second) return bad_input("only one {} parser directive can be used", name);
    done_ = false;
    return std::optional(Directive{name, std::string(value), line_});
}

std::optional<SyntaxRequest> detect_syntax(std::string_view text) {
    if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
    int before = 0;
    if (text.starts_with("#!")) {
        next_line(text);
        before = 1;
    }
    for (const std::string_view comment : {"#", "//"}) {
        if (auto found = syntax_directive(text, comment, before)) return found;
    }
    return syntax_member(text, before);
}

}  // namespace cooper::dockerfile
