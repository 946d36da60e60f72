// Options of cooperd: buildkitd's flags and buildkitd.toml, a flag winning over the file. What cannot be honoured is
// refused by its name; nothing is ignored.
#pragma once

#include "base/log.hpp"
#include "base/result.hpp"
#include "daemon/server.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace cooper::cooperd {

struct Invocation {
    enum class Kind : std::uint8_t { serve, print } kind = Kind::serve;
    std::string text;  // print: the help, or the version
    daemon::ServerOptions options;
    log::Level log_level = log::Level::info;
};

// words[0] is the program's name: called `buildkitd`, the paths that are not named are buildkitd's.
[[nodiscard]] Result<Invocation> read_command_line(const std::vector<std::string>& words);

}  // namespace cooper::cooperd
