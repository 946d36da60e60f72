// Tells a runtime that failed from a process that did.
#pragma once

#include "run/process_spec.hpp"
#include "run/step.hpp"

#include <optional>
#include <string>

namespace cooper::run {

// nullopt when the process ran. A program that is not there or cannot be executed is bad input with
// ExitStatus 127 or 126. refused: the kernel did not know the form of the program. foreign: the machine that it is for,
// as foreign_architecture has it.
[[nodiscard]] std::optional<Error> runtime_failure(const StepEnd& end, const ProcessSpec& spec,
                                                   const std::optional<std::string>& foreign, bool refused);

}  // namespace cooper::run
