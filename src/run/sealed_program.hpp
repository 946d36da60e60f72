// A copy of an OCI runtime in memory that nobody can write to.
//
// crun and runc protect themselves from the container (CVE-2019-5736) by starting themselves a second time from such a
// copy, unless they run from one. So they are started from one that is made once: half of crun's time until it reads
// its configuration goes into loading it twice.
#pragma once

#include "base/result.hpp"
#include "sys/fd.hpp"

#include <optional>
#include <string>

namespace cooper::run {

// Nullopt where that cannot be had: a script, too large a program, a kernel that executes nothing from memory.
[[nodiscard]] std::optional<sys::Fd> sealed_copy(const std::string& program);

}  // namespace cooper::run
