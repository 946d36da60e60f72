// The simple commands of a shell script, as far as they can be told without running it: for checks that
// look for known programs, not for execution. Quotes and escapes are taken off; expansions stay as
// written. Pure, any thread; time and memory in proportion to the text.
#pragma once

#include "dockerfile/instructions.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace cooper::dockerfile {

struct ScriptCommand {
    std::vector<std::string> assignments;  // "CGO_ENABLED=0" before the command, of `env`, of `export`
    // The program without its directory, and its arguments. `sudo`, `env`, `exec` and their like are taken
    // off, "python -m pip" is pip.
    std::vector<std::string> words;
    [[nodiscard]] std::string_view program() const { return words.empty() ? std::string_view() : words.front(); }
};

// Commands take many times the memory of their text; a script that is larger has none.
inline constexpr std::size_t kMaxScript = 128U << 10U;
[[nodiscard]] std::vector<ScriptCommand> script_commands(std::string_view script);
// Of a RUN: shell form, exec form with a shell or without, here-documents.
[[nodiscard]] std::vector<ScriptCommand> run_commands(const RunCommand& run);

}  // namespace cooper::dockerfile
