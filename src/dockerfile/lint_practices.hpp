// The checks of our own: what guides to Dockerfiles warn of, as far as the file tells it (docs/checks.md).
// Made of all stages before they are converted. Pure, one thread per Linter.
#pragma once

#include "dockerfile/instructions.hpp"
#include "dockerfile/lint.hpp"
#include "dockerfile/to_llb.hpp"

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace cooper::dockerfile {

struct PracticeStage {
    const Stage* stage = nullptr;
    std::string base_name;            // expanded
    std::optional<std::size_t> base;  // the stage it is built on
    bool replaced = false;            // by a named context
};

struct Practices {
    std::vector<PracticeStage> stages;
    std::size_t target = 0;
    const BuildContext& context;
    const std::map<std::string, std::string>& named_contexts;
    // The main context; asked once at most. nullopt: nobody knows.
    std::function<std::optional<frontend::ContextSize>()> measure;
};

void lint_practices(Linter& linter, const Practices& practices);

}  // namespace cooper::dockerfile
