#include "dockerfile/parse.hpp"

#include "base/text.hpp"
#include "dockerfile/directives.hpp"
#include "dockerfile/line_words.hpp"
#include "dockerfile/runes.hpp"

#include <algorithm>
#include <tuple>

namespace cooper::dockerfile {

namespace {

constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

bool is_comment(std::string_view line) { return trim_space_left(line).starts_with('#'); }

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

bool may_hold_heredocs(const Node& node) {
    const bool nested = node.command == "onbuild";
    const std::string& command = nested ? node.trigger : node.command;
    if (nested ? node.trigger_json : node.json) return false;
    return command == "run" || command == "copy" || command == "add";
}

class Parser {
public:
    Parser(std::string_view text, std::string_view file_name) : text_(text), reader_(text) {
        file_.file_name = file_name;
        file_.text = text;
        shared_name_ = std::make_shared<const std::string>(file_name);
    }

    Result<ParsedFile> run() {
        while (!reader_.done() && mistakes_ < kMaxErrors) {
            std::string_view raw = TRY(next_line());
            if (reader_.number() == 1 && raw.starts_with(kByteOrderMark)) raw.remove_prefix(kByteOrderMark.size());
            const std::string_view stripped = trim_space_left(raw);
            const std::string_view line = trim_end_of_line(stripped);
            const bool is_directive = TRY(directive(line));
            if (line.empty()) {
                comments_.clear();
            } else if (line.starts_with('#')) {
                if (!is_directive) comment(line.substr(1));
            } else {
                TRY(instruction(line, raw.size() - stripped.size()));
                comments_.clear();
            }
        }
        const int last = std::max(reader_.number(), 1);
        if (file_.nodes.empty()) return error(bad_input("file with no instructions"), {last, last});
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
        if (line.size() - (line.ends_with('\n') ? 1 : 0) > kMaxLine) {
            return error(bad_input("dockerfile line greater than max allowed size of {}", kMaxLine),
                         {reader_.number(), reader_.number()});
        }
        return line;
    }

    void comment(std::string_view text) {
        const std::string_view trimmed = trim_space(text);
        if (trimmed.empty()) {
            comments_.clear();
        } else {
            if (comments_.size() == 2 * kMaxComments)
                comments_.erase(comments_.begin(), comments_.begin() + kMaxComments);
            comments_.emplace_back(trimmed);
        }
    }

    // Whether the line is "# name=value" before anything else.
    Result<bool> directive(std::string_view line) {
        if (directives_.done()) return false;
        const Lines here{reader_.number(), reader_.number()};
        auto read = directives_.read(line);
        if (!read) return error(std::move(read).error(), here);
        if (!*read) return false;
        const std::string& value = (*read)->value;
        if ((*read)->name == "syntax") file_.syntax = value;
        if ((*read)->name == "check") file_.check = value;
        if ((*read)->name == "escape") {
            if (value != "`" && value != "\\") {
                return error(bad_input("invalid escape token '{}' does not match ` or \\", value), here);
            }
            file_.escape = value[0];
        }
        return true;
    }

    // `indent`: bytes before the first line's text.
    Result<> instruction(std::string_view first, std::size_t indent) {
        Node node;
        node.lines.first = reader_.number();
        if (file_.nodes.size() >= kMaxInstructions) {
            return error(bad_input("the Dockerfile has more than {} instructions", kMaxInstructions),
                         {node.lines.first, node.lines.first});
        }
        const std::size_t kept = std::min(comments_.size(), kMaxComments);
        node.comments.assign(comments_.end() - static_cast<std::ptrdiff_t>(kept), comments_.end());
        node.file_name = shared_name_;
        std::string_view part = first;
        bool more = take_continuation(part, file_.escape);
        node.original = part;
        node.indent = static_cast<std::uint32_t>(indent);
        bool empty_continuation = false;
        while (more && !reader_.done()) {
            const std::string_view raw = TRY(next_line());
            if (is_comment(raw)) continue;
            part = trim_end_of_line(raw);
            if (trim_space_left(part).empty()) {
                empty_continuation = true;
                continue;
            }
            more = take_continuation(part, file_.escape);
            if (part.empty()) continue;
            if (node.pieces.empty()) node.pieces.push_back({0, node.lines.first});
            node.pieces.push_back({static_cast<std::uint32_t>(node.original.size()), reader_.number()});
            node.original += part;
        }
        node.pieces.shrink_to_fit();
        node.lines.last = node.text_end = reader_.number();
        if (empty_continuation) {
            file_.warnings.push_back({"NoEmptyContinuation",
                                      "Empty continuation line",
                                      "https://docs.docker.com/go/dockerfile/rule/no-empty-continuation/",
                                      {node.lines.last, node.lines.last}});
        }
        if (auto split = split_instruction(node, file_.escape, kMaxWords); !split) node.mistake = split.error();
        words_ += node.words.size() + node.flags.size() + node.pairs.size();
        if (words_ > kMaxWords) return too_many_words(node);
        TRY(heredocs(node));
        // What follows an open here-document is no part of the mistake.
        if (!node.mistake) node.lines.last = reader_.number();
        if (node.mistake || !is_instruction(node.command)) ++mistakes_;
        file_.nodes.push_back(std::move(node));
        return {};
    }

    [[nodiscard]] Error too_many_words(const Node& node) const {
        return error(bad_input("the instructions have more than {} words", kMaxWords), node.lines);
    }

    Result<> heredocs(Node& node) {
        if (!may_hold_heredocs(node) || node.original.find("<<") == std::string::npos) return {};
        auto announced = heredocs_of_line(node.original);
        if (!announced) {
            node.mistake = node.mistake.value_or(announced.error());
            return {};
        }
        for (Heredoc& heredoc : *announced) {
            if (!TRY(body(heredoc))) {
                const std::string name = shown(heredoc.name);
                node.mistake = node.mistake.value_or(
                    bad_input("unterminated heredoc: {} is missing", name)
                        .with_hint(fmt::format("end it with a line that holds {} and nothing else", name)));
                return {};
            }
            node.heredocs.push_back(std::move(heredoc));
            if (++words_ > kMaxWords) return too_many_words(node);
        }
        return {};
    }

    // Up to the terminator; false when there is none.
    Result<bool> body(Heredoc& heredoc) {
        while (!reader_.done()) {
            const std::string_view raw = TRY(next_line());
            std::string_view candidate = trim_end_of_line(raw);
            while (heredoc.chomp && candidate.starts_with('\t')) candidate.remove_prefix(1);
            if (candidate == heredoc.name) return true;
            heredoc.data += raw;
        }
        return false;
    }

    std::string_view text_;
    LineReader reader_;
    ParsedFile file_;
    std::shared_ptr<const std::string> shared_name_;
    DirectiveReader directives_{"#"};
    std::vector<std::string> comments_;
    std::size_t words_ = 0;
    std::size_t mistakes_ = 0;  // instructions that are none, or are broken
};

}  // namespace

Result<ParsedFile> parse(std::string_view text, std::string_view file_name) {
    if (text.empty()) return bad_input("the Dockerfile cannot be empty").with_hint("begin with FROM IMAGE");
    if (text.size() > kMaxFile) {
        const auto line = static_cast<int>(std::ranges::count(text.substr(0, kMaxFile), '\n')) + 1;
        return located(
            bad_input("dockerfile parse error on line {}: the file is larger than {} MiB", line, kMaxFile >> 20U),
            file_name, {line, line});
    }
    return Parser(text, file_name).run();
}

bool take_continuation(std::string_view& line, char escape) {
    std::string_view end = line;
    while (end.ends_with(' ') || end.ends_with('\t')) end.remove_suffix(1);
    if (!end.ends_with(escape)) return false;
    if (end.size() > 1 && end[end.size() - 2] == escape) return false;  // it is itself escaped
    line = end.substr(0, end.size() - 1);
    return true;
}

SourceRange range_in_file(const Node& node, std::size_t offset, std::size_t size) {
    SourceRange range{node.file_name ? *node.file_name : "", node.lines.first, node.lines.last, 0, 0};
    const auto place = [&](std::size_t at) {
        if (node.pieces.empty()) return std::pair(node.lines.first, static_cast<int>(node.indent + at) + 1);
        const auto after = std::ranges::upper_bound(node.pieces, at, {}, &Piece::offset);
        const Piece& piece = after == node.pieces.begin() ? *after : *(after - 1);
        const std::size_t before = &piece == &node.pieces.front() ? node.indent : 0;
        return std::pair(piece.line, static_cast<int>(before + (at - piece.offset)) + 1);
    };
    if (offset + size > node.original.size()) return range;
    std::tie(range.first_line, range.first_column) = place(offset);
    std::tie(range.last_line, range.last_column) = place(offset + std::max<std::size_t>(size, 1) - 1);
    return range;
}

}  // namespace cooper::dockerfile
