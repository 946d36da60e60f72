#include "engine/step_text.hpp"

#include "base/text.hpp"

#include <algorithm>
#include <cctype>

namespace cooper::engine {

namespace {

constexpr std::size_t kMaxVariables = 200;

// Names behind '$' and '${'.
std::vector<std::string> references(std::string_view text) {
    std::vector<std::string> names;
    for (std::size_t i = 0; i + 1 < text.size(); ++i) {
        if (text[i] == '\\') {
            ++i;
            continue;
        }
        if (text[i] != '$') continue;
        std::size_t at = i + 1;
        if (text[at] == '{') ++at;
        std::size_t end = at;
        while (end < text.size() && (std::isalnum(static_cast<unsigned char>(text[end])) != 0 || text[end] == '_'))
            ++end;
        if (end > at) names.emplace_back(text.substr(at, end - at));
    }
    return names;
}

// Of one instruction: the value that it gives to the name.
std::optional<std::string> defined_by(const dockerfile::Node& node, const std::string& name) {
    if (node.command == "env") {
        for (auto pair = node.pairs.rbegin(); pair != node.pairs.rend(); ++pair) {
            if (pair->key == name) return pair->value;
        }
    } else if (node.command == "arg") {
        for (const auto& word : node.words) {
            const auto [key, value] = cut(word, '=');
            if (key == name) return std::string(value.value_or(""));
        }
    }
    return std::nullopt;
}

std::string unquoted(std::string_view text) {
    if (text.size() >= 2 && (text.front() == '"' || text.front() == '\'') && text.back() == text.front()) {
        text = text.substr(1, text.size() - 2);
    }
    return std::string(text);
}

}  // namespace

StepText::StepText(const Plan& plan, std::map<std::string, std::string> arguments, why::Redactor redactor)
    : plan_(plan), arguments_(std::move(arguments)), redactor_(std::move(redactor)) {
    if (!plan.definition.source) return;
    for (const auto& info : plan.definition.source->infos) {
        std::vector<std::string_view>& lines = lines_[&info];
        std::string_view rest = info.data;
        while (!rest.empty()) {
            const std::size_t end = rest.find('\n');
            lines.push_back(trim(rest.substr(0, end)));
            rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
        }
    }
}

const llb::SourceInfo* StepText::file_of(const llb::LoadedVertex& vertex) const {
    if (vertex.locations.empty() || !plan_.definition.source) return nullptr;
    for (const auto& info : plan_.definition.source->infos) {
        if (info.filename == vertex.locations.front().file) return &info;
    }
    return nullptr;
}

std::string StepText::text_of(const llb::LoadedVertex& vertex) const {
    const auto shown = [&] { return redactor_.text(why::place_of(vertex.name).text); };
    const llb::SourceInfo* file = file_of(vertex);
    if (file == nullptr) return shown();
    const std::vector<std::string_view>& lines = lines_.at(file);
    const int first = std::max(vertex.locations.front().first_line, 1);
    const int last = std::min(vertex.locations.front().last_line, static_cast<int>(lines.size()));
    std::string text;
    for (int number = first; number <= last; ++number) {
        std::string_view line = lines[static_cast<std::size_t>(number) - 1];
        if (line.starts_with('#') && number != first) continue;
        if (line.ends_with('\\')) line = trim(line.substr(0, line.size() - 1));
        if (!text.empty() && !line.empty()) text += ' ';
        text += line;
    }
    return text.empty() ? shown() : redactor_.text(text);
}

const std::set<std::string>& StepText::all_texts() {
    auto texts = texts_.lock();
    if (texts->empty()) {
        for (const auto& vertex : plan_.graph.vertices) texts->insert(text_of(vertex));
    }
    return *texts;
}

const dockerfile::ParsedFile* StepText::parsed(const llb::SourceInfo& file) {
    auto all = parsed_.lock();
    const auto [at, is_new] = all->try_emplace(&file);
    if (is_new && (file.language == "Dockerfile" || file.language.empty())) {
        if (auto parsed = dockerfile::parse(file.data, file.filename)) at->second = std::move(*parsed);
    }
    return at->second ? &*at->second : nullptr;
}

std::optional<StepText::Definition> StepText::find(const dockerfile::ParsedFile& file, int line,
                                                   const std::string& name) const {
    std::optional<Definition> here;    // in the stage of that line
    std::optional<Definition> before;  // in a stage before, or before all stages
    std::optional<Definition> global;
    bool in_stage = false;
    for (const auto& node : file.nodes) {
        if (node.lines.first >= line) break;
        if (node.command == "from") {
            if (here) before = std::move(here);
            here.reset();
            in_stage = true;
            continue;
        }
        const auto value = defined_by(node, name);
        if (!value) continue;
        Definition found{node.command == "arg", unquoted(*value)};
        if (!in_stage) {
            global = std::move(found);
        } else if (!here || !found.is_argument || here->is_argument) {
            // An ENV wins over any ARG of its name.
            here = std::move(found);
        }
    }
    if (here) {
        // "ARG X" alone takes the value from before the first stage.
        if (here->is_argument && here->value.empty() && global) here->value = global->value;
        return here;
    }
    return before ? before : global;
}

std::vector<why::Variable> StepText::variables_of(const llb::LoadedVertex& vertex) {
    const llb::SourceInfo* file = file_of(vertex);
    const dockerfile::ParsedFile* parsed_file = file == nullptr ? nullptr : parsed(*file);
    if (parsed_file == nullptr) return {};
    const int line = vertex.locations.front().first_line;
    std::vector<std::string> wanted;
    if (const auto* exec = std::get_if<llb::ExecOp>(&vertex.op.body)) {
        for (const auto& one : exec->meta.env) wanted.emplace_back(cut(one, '=').first);
    }
    for (const auto& node : parsed_file->nodes) {
        if (node.lines.first != line) continue;
        std::ranges::move(references(node.original), std::back_inserter(wanted));
        for (const auto& text : node.heredocs) std::ranges::move(references(text.data), std::back_inserter(wanted));
    }
    std::vector<why::Variable> variables;
    std::set<std::string> seen;
    for (std::size_t i = 0; i < wanted.size() && variables.size() < kMaxVariables; ++i) {
        const std::string name = wanted[i];
        if (!seen.insert(name).second) continue;
        const auto found = find(*parsed_file, line, name);
        if (!found) continue;
        why::Variable variable{.name = name, .is_argument = found->is_argument};
        variable.definition = redactor_.value(name, found->value);
        const auto given = arguments_.find(name);
        if (found->is_argument && given != arguments_.end()) {
            variable.is_given = true;
            variable.given = redactor_.value(name, given->second);
        } else {
            std::ranges::move(references(found->value), std::back_inserter(wanted));
        }
        variables.push_back(std::move(variable));
    }
    return variables;
}

std::set<std::string> stage_names(const Plan& plan) {
    std::set<std::string> names;
    if (!plan.definition.source) return names;
    for (const auto& info : plan.definition.source->infos) {
        const auto file = dockerfile::parse(info.data, info.filename);
        if (!file) continue;
        for (const auto& node : file->nodes) {
            if (node.command != "from") continue;
            const std::size_t count = node.words.size();
            if (count >= 3 && equal_ignoring_case(node.words[count - 2], "as"))
                names.insert(to_lower(node.words.back()));
        }
    }
    return names;
}

}  // namespace cooper::engine
