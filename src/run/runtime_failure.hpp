// Tells a runtime that failed from a process that did.
#pragma once

#include "run/process_spec.hpp"
#include "run/step.hpp"
#include "sys/rooted_dir.hpp"

#include <optional>

namespace cooper::run {

// nullopt when the process ran. A program that is not there or cannot be executed is bad input with
// ExitStatus 127 or 126. refused: the kernel did not know the form of the program. A program for another machine,
// looked for in root, is said to be one.
[[nodiscard]] std::optional<Error> runtime_failure(const StepEnd& end, const ProcessSpec& spec,
                                                   const sys::RootedDir& root, bool refused);

}  // namespace cooper::run
