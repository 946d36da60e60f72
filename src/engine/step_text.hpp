// The words of steps as their Dockerfile has them: the instruction, and the ARGs and ENVs that it may depend on. Read
// only when a step runs, and once for all steps of a definition. Thread-safe.
#pragma once

#include "base/guarded.hpp"
#include "dockerfile/parse.hpp"
#include "llb/definition.hpp"
#include "llb/load.hpp"
#include "why/ingredients.hpp"

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::engine {

class StepText;

// A definition and the graph that it is: what operations are made from.
struct Plan {
    llb::Definition definition;
    llb::Graph graph;
    mutable Guarded<std::shared_ptr<StepText>> text;  // kept by StepNotes from one step to the next
};

class StepText {
public:
    // The plan outlives it. arguments: --build-arg by name.
    StepText(const Plan& plan, std::map<std::string, std::string> arguments, why::Redactor redactor);

    // The instruction as written, its lines joined; what the step is called, where no file says more.
    [[nodiscard]] std::string text_of(const llb::LoadedVertex& vertex) const;
    // Of all steps.
    [[nodiscard]] const std::set<std::string>& all_texts();
    [[nodiscard]] std::vector<why::Variable> variables_of(const llb::LoadedVertex& vertex);
    [[nodiscard]] const why::Redactor& redactor() const { return redactor_; }
    [[nodiscard]] const std::map<std::string, std::string>& arguments() const { return arguments_; }

private:
    struct Definition {
        bool is_argument = false;
        std::string value;
    };
    [[nodiscard]] const llb::SourceInfo* file_of(const llb::LoadedVertex& vertex) const;
    const dockerfile::ParsedFile* parsed(const llb::SourceInfo& file);
    [[nodiscard]] std::optional<Definition> find(const dockerfile::ParsedFile& file, int line,
                                                 const std::string& name) const;

    const Plan& plan_;
    const std::map<std::string, std::string> arguments_;
    const why::Redactor redactor_;
    std::map<const llb::SourceInfo*, std::vector<std::string_view>> lines_;  // trimmed
    // What is in these stays as it is.
    Guarded<std::set<std::string>> texts_;
    Guarded<std::map<const llb::SourceInfo*, std::optional<dockerfile::ParsedFile>>> parsed_;
};

// Of the Dockerfiles that it came from, lower case.
[[nodiscard]] std::set<std::string> stage_names(const Plan& plan);

}  // namespace cooper::engine
