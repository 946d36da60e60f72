#include "dockerfile/format.hpp"

#include "base/text.hpp"
#include "codec/go_json.hpp"
#include "dockerfile/directives.hpp"
#include "dockerfile/runes.hpp"

#include <algorithm>
#include <array>
#include <optional>

namespace cooper::dockerfile {

namespace {

constexpr std::string_view kIndent = "    ";
constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

// An instruction of more lines stays as it is written: what it takes to write it anew is many times its text.
constexpr int kMaxLines = 10'000;

// Lines with their ends. A file may be nothing but line ends, so this takes no more than it must.
class LineIndex {
public:
    explicit LineIndex(std::string_view text) : text_(text) {
        const auto ends = static_cast<std::size_t>(std::ranges::count(text, '\n'));
        starts_.reserve(ends + 2);
        for (std::size_t at = 0; at < text.size(); at = std::min(text.find('\n', at), text.size() - 1) + 1) {
            starts_.push_back(static_cast<std::uint32_t>(at));
        }
        starts_.push_back(static_cast<std::uint32_t>(text.size()));
    }
    [[nodiscard]] std::size_t size() const { return starts_.size() - 1; }
    std::string_view operator[](std::size_t line) const {
        return text_.substr(starts_[line], starts_[line + 1] - starts_[line]);
    }

private:
    std::string_view text_;
    std::vector<std::uint32_t> starts_;
};

std::string_view without_end(std::string_view line) {
    while (line.ends_with('\n') || line.ends_with('\r')) line.remove_suffix(1);
    return line;
}

std::string_view trim_blanks_right(std::string_view line) {
    while (line.ends_with(' ') || line.ends_with('\t')) line.remove_suffix(1);
    return line;
}

// Instructions that are lists of words: blanks between these do not count.
bool is_list(const Node& node) {
    static constexpr std::array<std::string_view, 8> kLists = {"add",    "arg",  "copy",  "env",
                                                               "expose", "from", "label", "volume"};
    return std::ranges::find(kLists, node.command) != kLists.end();
}

// A physical line of an instruction.
struct Part {
    std::string_view text;  // without line end and continuation mark
    bool comment = false;
    bool more = false;
};

// Calls `see` with each. A comment keeps its line, an empty line is left out.
template <typename See>
void each_part(const Node& node, const LineIndex& lines, char escape, See see) {
    bool first = true;
    for (int number = node.lines.first; number <= node.text_end; ++number) {
        Part part{without_end(lines[static_cast<std::size_t>(number) - 1]), false, false};
        if (number == 1 && part.text.starts_with(kByteOrderMark)) part.text.remove_prefix(kByteOrderMark.size());
        if (!first) {
            if (trim_space_left(part.text).empty()) continue;
            part.comment = trim_space_left(part.text).starts_with('#');
        } else {
            part.text = trim_space_left(part.text);
        }
        if (!part.comment) part.more = take_continuation(part.text, escape);
        first = false;
        see(part);
    }
}

// A JSON string as people write it.
std::string json_text(std::string_view text) {
    const std::string valid = is_valid_utf8(text) ? std::string(text) : replace_invalid_utf8(text);
    std::string out = "\"";
    for (const char c : valid) {
        const auto byte = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\') {
            out.append("\\").push_back(c);
        } else if (c == '\n') {
            out += "\\n";
        } else if (c == '\t') {
            out += "\\t";
        } else if (byte < 0x20) {
            out += fmt::format("\\u{:04x}", byte);
        } else {
            out += c;
        }
    }
    return out + "\"";
}

std::string json_list(const std::vector<std::string>& words) {
    std::string out = "[";
    for (const std::string& word : words) out.append(out.size() > 1 ? ", " : "").append(json_text(word));
    return out + "]";
}

class Formatter {
public:
    Formatter(const ParsedFile& file, std::string_view text) : file_(file), lines_(text) {}

    std::string run() {
        out_.reserve(file_.text.size());
        std::size_t next = 1;  // line
        for (const Node& node : file_.nodes) {
            between(next, static_cast<std::size_t>(node.lines.first));
            instruction(node);
            next = static_cast<std::size_t>(node.lines.last) + 1;
        }
        between(next, lines_.size() + 1);
        while (out_.ends_with("\n\n")) out_.pop_back();
        return std::move(out_);
    }

private:
    // Comments and empty lines, from one line up to another.
    void between(std::size_t from, std::size_t to) {
        for (std::size_t number = from; number < to; ++number) {
            std::string_view line = without_end(lines_[number - 1]);
            if (number == 1 && line.starts_with(kByteOrderMark)) line.remove_prefix(kByteOrderMark.size());
            line = trim_space(line);
            const auto directive = directives_.read(line).value_or(std::nullopt);
            if (directive) {
                out_ += "# " + directive->name + "=" + directive->value + "\n";
            } else if (!line.empty()) {
                // Below an empty line it is no directive, and must not become one.
                if (out_.empty() && DirectiveReader("#").read(line).value_or(std::nullopt)) out_ += '\n';
                out_.append(line).append("\n");
            } else if (!out_.empty() && !out_.ends_with("\n\n") && out_ != "\n") {
                out_ += '\n';
            }
        }
    }

    void instruction(const Node& node) {
        (void)directives_.read("");  // there are none behind an instruction
        std::string bodies;
        for (int number = node.text_end + 1; number <= node.lines.last; ++number) {
            bodies += lines_[static_cast<std::size_t>(number) - 1];
        }
        if (!bodies.empty() && !bodies.ends_with('\n')) bodies += '\n';
        if (node.text_end - node.lines.first >= kMaxLines) {
            write_as_it_is(node, out_);
            out_ += bodies;
            return;
        }
        std::string written;
        write_as_it_is(node, written);
        std::vector<Part> parts;
        each_part(node, lines_, file_.escape, [&](const Part& part) { parts.push_back(part); });
        for (const auto& form : {one_line(node, parts), several_lines(node, parts)}) {
            if (form && (*form == written || reads_as(node, *form + bodies))) {
                out_ += *form + bodies;
                return;
            }
        }
        out_ += written + bodies;
    }

    [[nodiscard]] bool reads_as(const Node& node, const std::string& text) const {
        const std::string head = file_.escape == '\\' ? std::string() : fmt::format("# escape={}\n", file_.escape);
        const auto again = parse(head + text, "");
        return again && again->nodes.size() == 1 && same_meaning(again->nodes.front(), node);
    }

    void write_as_it_is(const Node& node, std::string& out) const {
        each_part(node, lines_, file_.escape, [&](const Part& part) {
            out += part.comment ? trim_blanks_right(part.text) : part.text;
            if (part.more) out += file_.escape;
            out += '\n';
        });
    }

    // What stands on one line, made anew of its words.
    [[nodiscard]] static std::optional<std::string> one_line(const Node& node, const std::vector<Part>& parts) {
        if (parts.size() != 1 || parts.front().more) return std::nullopt;
        std::string out = to_upper(node.keyword);
        for (const std::string& flag : node.flags) out += " " + flag;
        std::vector<std::string> words = node.words;
        if (node.command == "from" && words.size() == 3) words[1] = to_upper(words[1]);
        for (const KeyValue& pair : node.pairs)
            words.push_back(pair.key + (pair.has_separator ? "=" : " ") + pair.value);
        if (node.json) {
            const bool health = node.command == "healthcheck" && !words.empty();
            if (health) out += " " + words.front();
            if (health) words.erase(words.begin());
            out += " " + json_list(words);
        } else {
            for (const std::string& word : words) out += " " + word;
        }
        return out + "\n";
    }

    struct Line {
        std::string text;
        bool comment = false;
        bool more = false;
    };

    // Lists: indented, one blank before the mark. Commands: lines as they are.
    [[nodiscard]] std::optional<std::string> several_lines(const Node& node, const std::vector<Part>& parts) const {
        const std::string upper = to_upper(node.keyword);
        const std::string_view first = parts.front().text;
        if (to_upper(first.substr(0, upper.size())) != upper) return std::nullopt;
        const std::string_view rest = first.substr(upper.size());
        const std::string_view inner = trim_space_left(rest);
        std::vector<Line> lines = {{upper + (inner.size() < rest.size() ? " " : ""), false, parts.front().more}};
        lines.front().text += inner;
        std::size_t before = 0;  // the line before that is no comment
        for (std::size_t i = 1; i < parts.size(); ++i) {
            lines.push_back(next_line(node, parts[i], lines[before]));
            if (!parts[i].comment) before = lines.size() - 1;
        }
        if (!lines[before].more) lines[before].text = trim_blanks_right(lines[before].text);
        std::string out;
        for (const Line& line : lines) {
            out += line.text;
            if (line.more) out += file_.escape;
            out += '\n';
        }
        return out;
    }

    // Blanks where a list is continued do not count; elsewhere they do.
    static Line next_line(const Node& node, const Part& part, Line& before) {
        const bool list = is_list(node);
        if (part.comment) {
            return {
                list ? std::string(kIndent).append(trim_space(part.text)) : std::string(trim_blanks_right(part.text)),
                true, false};
        }
        const std::string_view inner = trim_space_left(part.text);
        const bool blank =
            inner.size() < part.text.size() || trim_blanks_right(before.text).size() < before.text.size();
        if (!list || !blank) return {std::string(part.text), false, part.more};
        before.text = std::string(trim_blanks_right(before.text)) + " ";
        return {std::string(kIndent).append(inner), false, part.more};
    }

    const ParsedFile& file_;
    LineIndex lines_;
    DirectiveReader directives_{"#"};
    std::string out_;
};

// --- the tree ---

void write_range(codec::GoJson& json, const SourceRange& range) {
    json.key("range").begin_object();
    json.key("start").begin_object().key("line").integer(range.first_line).key("column").integer(range.first_column);
    json.end_object();
    json.key("end").begin_object().key("line").integer(range.last_line).key("column").integer(range.last_column);
    json.end_object().end_object();
}

void write_text(codec::GoJson& json, std::string_view name, std::string_view text) {
    json.key(name).raw(json_text(text));
}

void write_list(codec::GoJson& json, std::string_view name, const std::vector<std::string>& list) {
    if (list.empty()) return;
    json.key(name).begin_array();
    for (const std::string& one : list) json.raw(json_text(one));
    json.end_array();
}

std::string_view form_name(const Node& node) {
    if (node.json) return "exec";
    const bool command =
        node.command == "run" || node.command == "cmd" || node.command == "entrypoint" || node.command == "healthcheck";
    return command ? "shell" : "words";
}

void write_node(codec::GoJson& json, const Node& node, std::optional<std::size_t> stage) {
    json.begin_object();
    write_text(json, "instruction", to_upper(node.keyword));
    if (stage) json.key("stage").unsigned_integer(*stage);
    write_text(json, "form", form_name(node));
    write_list(json, "flags", node.flags);
    write_list(json, "arguments", node.words);
    if (!node.pairs.empty()) {
        json.key("pairs").begin_array();
        for (const KeyValue& pair : node.pairs) {
            json.begin_object();
            write_text(json, "key", pair.key);
            write_text(json, "value", pair.value);
            json.end_object();
        }
        json.end_array();
    }
    if (!node.heredocs.empty()) {
        json.key("heredocs").begin_array();
        for (const Heredoc& heredoc : node.heredocs) {
            json.begin_object();
            write_text(json, "name", heredoc.name);
            json.key("expand").boolean(heredoc.expand).key("chomp").boolean(heredoc.chomp);
            json.key("fd").unsigned_integer(heredoc.fd);
            write_text(json, "content", heredoc.data);
            json.end_object();
        }
        json.end_array();
    }
    write_list(json, "comments", node.comments);
    write_text(json, "text", trim_space(node.original));
    SourceRange range = range_in_file(node, 0, node.original.size());
    range.last_line = node.lines.last;
    if (node.text_end != node.lines.last) range.last_column = 0;
    write_range(json, range);
    json.end_object();
}

void write_stages(codec::GoJson& json, const StageList& list) {
    json.key("stages").begin_array();
    for (std::size_t i = 0; i < list.stages.size(); ++i) {
        const Stage& stage = list.stages[i];
        json.begin_object().key("index").unsigned_integer(i);
        if (!stage.name.empty()) write_text(json, "name", stage.name);
        write_text(json, "base", stage.base_name);
        if (!stage.platform.empty()) write_text(json, "platform", stage.platform);
        if (!stage.description.empty()) write_text(json, "description", stage.description);
        json.key("first_line").integer(stage.location.first);
        int last = stage.location.last;
        for (const Instruction& one : stage.commands) last = std::max(last, one.location.last);
        json.key("last_line").integer(last);
        json.end_object();
    }
    json.end_array();
}

}  // namespace

bool same_meaning(const Node& a, const Node& b) {
    const auto words = [](const Node& node) {
        std::vector<std::string> out = node.words;
        if (node.command == "from" && out.size() == 3) out[1] = to_lower(out[1]);
        return out;
    };
    const auto same_pair = [](const KeyValue& x, const KeyValue& y) {
        return x.key == y.key && x.value == y.value && x.has_separator == y.has_separator;
    };
    const auto same_heredoc = [](const Heredoc& x, const Heredoc& y) {
        return x.name == y.name && x.data == y.data && x.expand == y.expand && x.chomp == y.chomp && x.fd == y.fd;
    };
    return a.command == b.command && a.flags == b.flags && a.json == b.json && words(a) == words(b) &&
           a.trigger == b.trigger && a.trigger_json == b.trigger_json &&
           a.mistake.has_value() == b.mistake.has_value() && std::ranges::equal(a.pairs, b.pairs, same_pair) &&
           std::ranges::equal(a.heredocs, b.heredocs, same_heredoc);
}

Result<std::string> format(std::string_view text, std::string_view file_name) {
    const ParsedFile file = TRY(parse(text, file_name));
    TRY(parse_stages(file));
    return Formatter(file, text).run();
}

Result<std::string> syntax_tree_json(std::string_view text, std::string_view file_name) {
    const ParsedFile file = TRY(parse(text, file_name));
    const StageList list = TRY(parse_stages(file));
    codec::GoJson json("  ");
    json.begin_object();
    write_text(json, "file", file.file_name);
    json.key("directives").begin_object();
    write_text(json, "escape", std::string_view(&file.escape, 1));
    if (!file.syntax.empty()) write_text(json, "syntax", file.syntax);
    if (!file.check.empty()) write_text(json, "check", file.check);
    json.end_object();
    write_stages(json, list);
    json.key("instructions").begin_array();
    std::size_t stages = 0;
    for (const Node& node : file.nodes) {
        if (node.command == "from") ++stages;
        write_node(json, node, stages == 0 ? std::nullopt : std::optional(stages - 1));
    }
    json.end_array().end_object();
    return std::move(json).take() + "\n";
}

}  // namespace cooper::dockerfile
