#include "dockerfile/heredoc.hpp"

#include "base/text.hpp"
#include "dockerfile/runes.hpp"
#include "dockerfile/shell_lex.hpp"

#include <algorithm>

namespace cooper::dockerfile {

namespace {

constexpr char kEscape = '\\';
constexpr std::int64_t kMaxFd = 1'000'000;

std::ptrdiff_t count_quotes(std::string_view text) {
    return std::ranges::count_if(text, [](char c) { return c == '\'' || c == '"'; });
}

}  // namespace

Result<std::optional<Heredoc>> read_heredoc_word(std::string_view word) {
    std::optional<Heredoc> none;
    const std::size_t digits = std::min(word.find_first_not_of("0123456789"), word.size());
    const auto fd = parse_int(word.substr(0, digits));
    std::string_view rest = word.substr(digits);
    if ((digits > 0 && (!fd || *fd > kMaxFd)) || !rest.starts_with("<<")) return none;
    rest.remove_prefix(2);
    Heredoc heredoc;
    heredoc.fd = static_cast<std::uint32_t>(fd.value_or(0));
    heredoc.chomp = rest.starts_with('-');
    if (heredoc.chomp) rest.remove_prefix(1);
    rest = trim_space_left(rest);
    if (rest.empty() || rest.find('<') != std::string_view::npos) return none;
    const llb::EnvList nothing;
    const auto plain = TRY(ShellLex(kEscape, {.keep_unset = true}).expand_words(rest, nothing));
    if (plain.size() != 1) return none;
    const auto raw = TRY(ShellLex(kEscape, {.raw_quotes = true, .keep_unset = true}).expand_words(rest, nothing));
    if (raw.size() != 1) return none;
    heredoc.name = plain.front();
    heredoc.expand = count_quotes(plain.front()) == count_quotes(raw.front());
    return std::optional(std::move(heredoc));
}

std::optional<Heredoc> parse_heredoc_word(std::string_view word) {
    return read_heredoc_word(word).value_or(std::nullopt);
}

Result<std::vector<Heredoc>> heredocs_of_line(std::string_view line) {
    std::vector<Heredoc> heredocs;
    const llb::EnvList nothing;
    const ShellLex lex(kEscape, {.raw_quotes = true, .raw_escapes = true, .keep_unset = true, .only_words_with = "<<"});
    // A line the lexer cannot read is the shell's business and announces nothing.
    const auto words = lex.expand_words(line, nothing);
    if (!words) return heredocs;
    for (const std::string& word : *words) {
        if (auto heredoc = TRY(read_heredoc_word(word))) heredocs.push_back(std::move(*heredoc));
    }
    return heredocs;
}

bool is_whole_heredoc(std::string_view text) { return parse_heredoc_word(trim(text)).has_value(); }

std::string chomp_heredoc(std::string_view data) {
    std::string out;
    out.reserve(data.size());
    while (!data.empty()) {
        data.remove_prefix(std::min(data.find_first_not_of('\t'), data.size()));
        const std::size_t size = std::min(data.find('\n'), data.size() - 1) + 1;
        out += data.substr(0, size);
        data.remove_prefix(std::min(size, data.size()));
    }
    return out;
}

}  // namespace cooper::dockerfile
