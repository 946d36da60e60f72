// Why a kernel does not execute a program: it was made for another machine.
#pragma once

#include "run/process_spec.hpp"
#include "sys/rooted_dir.hpp"

#include <optional>
#include <string>

namespace cooper::run {

// The architecture, by its name in platforms ("arm64"), of the program that spec would start in root, or of the
// interpreter of the script. Nothing when it is of this machine's, no ELF file, or not to be found.
[[nodiscard]] std::optional<std::string> foreign_architecture(const sys::RootedDir& root, const ProcessSpec& spec);
// This machine's, by the same names.
[[nodiscard]] std::string own_architecture();

}  // namespace cooper::run
