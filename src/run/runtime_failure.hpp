// Tells a runtime that failed from a process that did.
#pragma once

#include "run/process_spec.hpp"
#include "run/step.hpp"

#include <optional>
#include <string>

namespace cooper::run {

// nullopt when the process ran. A program that is not there or cannot be executed is bad input with
// ExitStatus 127 or 126. foreign: the machine that it is for, as foreign_architecture has it. refused: the kernel did
// not know the form of the program.
struct Refusal {
    bool refused = false;
    std::string useless_emulator;  // the emulator that it was looked for in vain with; empty = none
};
[[nodiscard]] std::optional<Error> runtime_failure(const StepEnd& end, const ProcessSpec& spec,
                                                   const std::optional<std::string>& foreign, const Refusal& refusal);

}  // namespace cooper::run
