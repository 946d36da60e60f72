// Instructions to stages, telling as many mistakes at once as there are.
#include "base/text.hpp"
#include "dockerfile/instructions.hpp"

#include <utility>

namespace cooper::dockerfile {

namespace {

class StageReader {
public:
    explicit StageReader(const ParsedFile& file) : file_(file) {}

    StageReading read() {
        for (const Node& node : file_.nodes) {
            if (full()) break;
            take(node);
        }
        return std::move(reading_);
    }

    // Each node is let go of when it has been read, so that a long file is not in memory twice.
    StageReading take_all(std::deque<Node> nodes) {
        while (!nodes.empty() && !full()) {
            take(std::move(nodes.front()));
            nodes.pop_front();
        }
        return std::move(reading_);
    }

private:
    [[nodiscard]] bool full() const { return reading_.errors.size() >= kMaxErrors; }

    void take(Node node) {
        if (node.command == "from") {
            take_from(std::move(node));
        } else {
            take_command(std::move(node));
        }
    }

    void take_from(Node node) {
        seen_from_ = true;
        const Lines lines = node.lines;
        auto stage = parse_from(std::move(node));
        if (!stage) return report(std::move(stage).error(), lines);
        reading_.list.stages.push_back(std::move(*stage));
    }

    void take_command(Node node) {
        const Lines lines = node.lines;
        auto instruction = parse_instruction(std::move(node));
        if (!instruction) return report(std::move(instruction).error(), lines);
        StageList& list = reading_.list;
        if (!list.stages.empty()) {
            list.stages.back().commands.push_back(std::move(*instruction));
        } else if (std::holds_alternative<ArgCommand>(instruction->command)) {
            list.meta_args.push_back(std::move(*instruction));
        } else if (!seen_from_ && !told_stage_) {
            told_stage_ = true;
            report(bad_input("no build stage in current context")
                       .with_hint("begin with FROM; only ARG may stand before it")
                       .with_context(fmt::format("dockerfile parse error on line {}", lines.first)),
                   lines);
        }
    }

    void report(Error error, const Lines& lines) {
        reading_.errors.push_back(with_excerpt(std::move(error), file_.file_name, file_.text, lines));
    }

    const ParsedFile& file_;
    StageReading reading_;
    bool seen_from_ = false;
    bool told_stage_ = false;
};

// One message of all, a line for each, and one excerpt with all of them marked.
Error joined(const std::vector<Error>& errors, const ParsedFile& file) {
    const Error& first = errors.front();
    if (errors.size() == 1) return first;
    std::string text = first.to_string();
    std::vector<SourceRange> ranges;
    for (std::size_t i = 0; i < errors.size(); ++i) {
        const auto* range = errors[i].find_detail<SourceRange>();
        if (range != nullptr) ranges.push_back(*range);
        if (i > 0) text += fmt::format("\nline {}: {}", range == nullptr ? 0 : range->first_line, errors[i].message());
    }
    if (errors.size() == kMaxErrors) text += fmt::format("\nthese are the first {}", kMaxErrors);
    Error all(first.code(), first.blame(), std::move(text));
    if (!ranges.empty()) all = all.with_detail(ranges.front());
    all = all.with_detail(Excerpt{excerpt(file.file_name, file.text, ranges)});
    return first.hint().empty() ? all : all.with_hint(first.hint());
}

}  // namespace

StageReading read_stages(const ParsedFile& file) { return StageReader(file).read(); }

StageReading take_stages(ParsedFile& file) { return StageReader(file).take_all(std::exchange(file.nodes, {})); }

Result<> verdict(const StageReading& reading, const ParsedFile& file) {
    if (!reading.errors.empty()) return joined(reading.errors, file);
    return {};
}

Result<StageList> parse_stages(const ParsedFile& file) {
    StageReading reading = read_stages(file);
    TRY(verdict(reading, file));
    return std::move(reading.list);
}

}  // namespace cooper::dockerfile
