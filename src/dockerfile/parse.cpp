#include "dockerfile/parse.hpp"

#include "base/text.hpp"
#include "dockerfile/line_words.hpp"
#include "dockerfile/shell_lex.hpp"

#include <algorithm>
#include <set>

namespace cooper::dockerfile {

namespace {

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f'; }

std::string_view trim_left(std::string_view text) {
    while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
    return text;
}

bool is_comment(std::string_view line) { return trim_left(line).starts_with('#'); }

// Splits the file into lines that keep their ends.
class LineReader {
public:
    explicit LineReader(std::string_view text) : rest_(text) {}
    [[nodiscard]] bool done() const { return rest_.empty(); }
    std::string_view next() {
        const std::size_t end = rest_.find('\n');
        const std::string_view line = rest_.substr(0, end == std::string_view::npos ? end : end + 1);
        rest_.remove_prefix(line.size());
        ++number_;
        return line;
    }
    [[nodiscard]] int number() const { return number_; }  // of the line last given

private:
    std::string_view rest_;
    int number_ = 0;
};

std::string_view trim_end_of_line(std::string_view line) {
    while (line.ends_with('\n') || line.ends_with('\r')) line.remove_suffix(1);
    return line;
}

class Parser {
public:
    Parser(std::string_view text, std::string_view file_name) : text_(text), reader_(text) {
        file_.file_name = file_name;
    }

    Result<ParsedFile> run() {
        if (text_.size() > kMaxFile) return bad_input("{} is larger than {} MiB", file_.file_name, kMaxFile >> 20U);
        std::vector<std::string> comments;
        while (!reader_.done()) {
            std::string_view raw = TRY(next_line());
            if (reader_.number() == 1 && raw.starts_with("\xef\xbb\xbf")) raw.remove_prefix(3);
            const std::string_view line = trim_left(raw);
            if (is_comment(line)) {
                const std::string_view comment = trim(line.substr(1));
                if (comment.empty()) {
                    comments.clear();
                } else {
                    comments.emplace_back(comment);
                }
            }
            TRY(directive(line));
            if (line.empty() || line.starts_with('#')) continue;
            TRY(instruction(line, comments));
            comments.clear();
        }
        if (file_.nodes.empty())
            return error(bad_input("file with no instructions"), {reader_.number(), reader_.number()});
        return std::move(file_);
    }

private:
    Error error(Error cause, Lines lines) const {
        return with_excerpt(
            cause.with_context(fmt::format("dockerfile parse error on line {}", std::max(lines.first, 1))),
            file_.file_name, text_, lines);
    }

    Result<std::string_view> next_line() {
        const std::string_view line = reader_.next();
        if (trim_end_of_line(line).size() > kMaxLine) {
            return error(bad_input("dockerfile line greater than max allowed size of {}", kMaxLine),
                         {reader_.number(), reader_.number()});
        }
        return line;
    }

    // "# name=value" before anything else.
    Result<> directive(std::string_view line) {
        if (directives_done_) return {};
        directives_done_ = true;
        if (!line.starts_with('#')) return {};
        const auto [left, right] = cut(line.substr(1), '=');
        const std::string name = to_lower(trim(left));
        if (!right || (name != "syntax" && name != "escape" && name != "check")) return {};
        const std::string_view value = trim(*right);
        if (value.empty()) return {};
        const Lines here{reader_.number(), reader_.number()};
        if (!seen_.insert(name).second) return error(bad_input("only one {} parser directive can be used", name), here);
        directives_done_ = false;
        if (name == "syntax") file_.syntax = value;
        if (name == "check") file_.check = value;
        if (name == "escape") {
            if (value != "`" && value != "\\") {
                return error(bad_input("invalid escape token '{}' does not match ` or \\", value), here);
            }
            file_.escape = value[0];
        }
        return {};
    }

    // Takes a continuation mark off the end; false when there was none.
    bool take_continuation(std::string_view& line) const {
        std::string_view end = line;
        while (end.ends_with(' ') || end.ends_with('\t')) end.remove_suffix(1);
        if (!end.ends_with(file_.escape)) return false;
        if (end.size() > 1 && end[end.size() - 2] == file_.escape) return false;  // it is itself escaped
        line = end.substr(0, end.size() - 1);
        return true;
    }

    Result<> instruction(std::string_view first, const std::vector<std::string>& comments) {
        Node node;
        node.lines.first = reader_.number();
        node.comments = comments;
        std::string_view part = trim_end_of_line(first);
        bool more = take_continuation(part);
        std::string joined(part);
        bool empty_continuation = false;
        while (more && !reader_.done()) {
            const std::string_view raw = TRY(next_line());
            if (is_comment(raw)) continue;
            part = trim_end_of_line(raw);
            if (trim_left(part).empty()) {
                empty_continuation = true;
                continue;
            }
            more = take_continuation(part);
            joined += part;
        }
        if (empty_continuation) {
            file_.warnings.push_back({"NoEmptyContinuation",
                                      "Empty continuation line",
                                      "https://docs.docker.com/go/dockerfile/rule/no-empty-continuation/",
                                      {reader_.number(), reader_.number()}});
        }
        node.original = joined;
        node.lines.last = reader_.number();
        if (trim(joined).empty()) return {};
        if (auto split = split_instruction(node, joined, file_.escape); !split) return error(split.error(), node.lines);
        TRY(heredocs(node));
        node.lines.last = reader_.number();
        file_.nodes.push_back(std::move(node));
        return {};
    }

    Result<> heredocs(Node& node) {
        static const std::set<std::string> kWith = {"add", "copy", "run"};
        std::string command = node.command;
        if (command == "onbuild") command = to_lower(node.rest.substr(0, node.rest.find_first_of(" \t\v\f\r")));
        if (!kWith.contains(command) || node.json || node.original.find("<<") == std::string::npos) return {};
        for (Heredoc heredoc : heredocs_of_line(node.original, file_.escape)) {
            bool terminated = false;
            while (!reader_.done()) {
                const std::string_view raw = TRY(next_line());
                std::string_view candidate = trim_end_of_line(raw);
                if (heredoc.chomp) {
                    while (candidate.starts_with('\t')) candidate.remove_prefix(1);
                }
                if (candidate == heredoc.name) {
                    terminated = true;
                    break;
                }
                heredoc.data += raw;
            }
            if (!terminated) {
                return error(
                    bad_input("unterminated heredoc: {} is missing", heredoc.name)
                        .with_hint(fmt::format("end it with a line that holds {} and nothing else", heredoc.name)),
                    {node.lines.first, node.lines.first});
            }
            node.heredocs.push_back(std::move(heredoc));
        }
        return {};
    }

    std::string_view text_;
    LineReader reader_;
    ParsedFile file_;
    bool directives_done_ = false;
    std::set<std::string> seen_;
};

}  // namespace

Result<ParsedFile> parse(std::string_view text, std::string_view file_name) { return Parser(text, file_name).run(); }

std::string excerpt(std::string_view file_name, std::string_view text, const Lines& lines) {
    constexpr int kAround = 2;
    constexpr int kMost = 24;
    constexpr std::size_t kWidth = 200;
    std::string out = fmt::format("{}:{}\n--------------------\n", file_name, lines.first);
    int number = 0;
    LineReader reader(text);
    while (!reader.done()) {
        std::string_view line = trim_end_of_line(reader.next());
        ++number;
        if (number < lines.first - kAround) continue;
        if (number > lines.last + kAround || number > lines.first + kMost) break;
        const bool marked = number >= lines.first && number <= lines.last;
        std::string shown;
        for (const char c : line.substr(0, kWidth)) {
            const auto byte = static_cast<unsigned char>(c);
            shown += byte < 0x20 && c != '\t' ? ' ' : c;
        }
        out += fmt::format("{:4} | {} {}\n", number, marked ? ">>>" : "   ", shown);
    }
    return out + "--------------------\n";
}

Error located(Error error, std::string_view file_name, const Lines& lines) {
    if (error.find_detail<SourceRange>() != nullptr) return error;
    return error.with_detail(SourceRange{std::string(file_name), lines.first, lines.last, 0, 0});
}

Error with_excerpt(Error error, std::string_view file_name, std::string_view text, const Lines& lines) {
    Error placed = located(std::move(error), file_name, lines);
    if (placed.find_detail<Excerpt>() != nullptr) return placed;
    return placed.with_detail(Excerpt{excerpt(file_name, text, lines)});
}

std::optional<Heredoc> parse_heredoc_word(std::string_view word, char escape) {
    Heredoc heredoc;
    std::size_t at = 0;
    while (at < word.size() && word[at] >= '0' && word[at] <= '9') ++at;
    const auto fd = parse_int(word.substr(0, at));
    if ((at > 0 && (!fd || *fd > 1'000'000)) || word.substr(at, 2) != "<<") return std::nullopt;
    heredoc.fd = static_cast<std::uint32_t>(fd.value_or(0));
    at += 2;
    if (at < word.size() && word[at] == '-') {
        heredoc.chomp = true;
        ++at;
    }
    const std::string_view rest = trim(word.substr(at));
    if (rest.empty() || rest.find('<') != std::string_view::npos) return std::nullopt;
    const llb::EnvList none;
    const auto words =
        ShellLex(escape, {.raw_quotes = true, .raw_escapes = true, .keep_unset = true}).expand_words(rest, none);
    if (!words || words->size() != 1) return std::nullopt;
    const auto plain = ShellLex(escape, {.keep_unset = true}).expand_words(rest, none);
    if (!plain || plain->size() != 1) return std::nullopt;
    heredoc.name = plain->front();
    heredoc.expand = words->front() == plain->front();
    return heredoc;
}

bool is_whole_heredoc(std::string_view text) {
    const std::string_view word = trim(text);
    return parse_heredoc_word(word, '\\').has_value();
}

std::string chomp_heredoc(std::string_view data) {
    std::string out;
    LineReader reader(data);
    while (!reader.done()) {
        std::string_view line = reader.next();
        while (line.starts_with('\t')) line.remove_prefix(1);
        out += line;
    }
    return out;
}

}  // namespace cooper::dockerfile
