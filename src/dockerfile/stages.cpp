// Instructions to stages, telling as many mistakes at once as there are.
#include "base/text.hpp"
#include "dockerfile/instructions.hpp"

namespace cooper::dockerfile {

namespace {

class StageReader {
public:
    explicit StageReader(const ParsedFile& file) : file_(file) {}

    StageReading run() {
        for (const Node& node : file_.nodes) {
            if (reading_.errors.size() >= kMaxErrors) break;
            if (node.command == "from") {
                take_from(node);
            } else {
                take_command(node);
            }
        }
        return std::move(reading_);
    }

private:
    void take_from(const Node& node) {
        seen_from_ = true;
        auto stage = parse_from(node);
        if (!stage) return report(std::move(stage).error(), node);
        reading_.list.stages.push_back(std::move(*stage));
    }

    void take_command(const Node& node) {
        auto instruction = parse_instruction(node);
        if (!instruction) return report(std::move(instruction).error(), node);
        StageList& list = reading_.list;
        if (!list.stages.empty()) {
            list.stages.back().commands.push_back(std::move(*instruction));
        } else if (std::holds_alternative<ArgCommand>(instruction->command)) {
            list.meta_args.push_back(std::move(*instruction));
        } else if (!seen_from_ && !told_stage_) {
            told_stage_ = true;
            report(bad_input("no build stage in current context")
                       .with_hint("begin with FROM; only ARG may stand before it")
                       .with_context(fmt::format("dockerfile parse error on line {}", node.lines.first)),
                   node);
        }
    }

    void report(Error error, const Node& node) {
        reading_.errors.push_back(with_excerpt(std::move(error), file_.file_name, file_.text, node.lines));
    }

    const ParsedFile& file_;
    StageReading reading_;
    bool seen_from_ = false;
    bool told_stage_ = false;
};

// "2 more mistakes: line 7: …; line 9: …"
std::string also(const std::vector<Error>& errors) {
    std::vector<std::string> texts;
    for (std::size_t i = 1; i < errors.size(); ++i) {
        const auto* range = errors[i].find_detail<SourceRange>();
        texts.push_back(fmt::format("line {}: {}", range == nullptr ? 0 : range->first_line, errors[i].message()));
    }
    return fmt::format("{} more mistake{}: {}", texts.size(), texts.size() == 1 ? "" : "s", join(texts, "; "));
}

Error joined(const std::vector<Error>& errors, const ParsedFile& file) {
    const Error& first = errors.front();
    if (errors.size() == 1) return first;
    Error all(first.code(), first.blame(), first.to_string());
    std::vector<Lines> ranges;
    for (const Error& error : errors) {
        const auto* range = error.find_detail<SourceRange>();
        if (range == nullptr) continue;
        if (ranges.empty()) all = all.with_detail(*range);
        ranges.push_back({range->first_line, range->last_line});
    }
    all = all.with_detail(Excerpt{excerpt(file.file_name, file.text, ranges)});
    const std::string hint = first.hint().empty() ? also(errors) : first.hint() + "; " + also(errors);
    return all.with_hint(hint);
}

}  // namespace

StageReading read_stages(const ParsedFile& file) { return StageReader(file).run(); }

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
