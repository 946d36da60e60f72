// One command of buildctl.
#pragma once

#include "base/result.hpp"
#include "base/stop.hpp"
#include "client/connection.hpp"

#include <functional>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace cooper::buildctl {

struct Context {
    client::ConnectOptions daemon;
    bool wait = false;  // until the daemon answers
    Stop stop;

    [[nodiscard]] Result<std::unique_ptr<client::Connection>> connect() const;
};

using Action = std::function<Result<int>(const Context&)>;

struct Command {
    std::string name;
    std::string summary;
    std::function<Action(CLI::App&)> setup;
};

[[nodiscard]] Command build_command();
[[nodiscard]] std::vector<Command> store_commands();  // du, prune, prune-histories
[[nodiscard]] std::vector<Command> debug_commands();  // below `debug`
[[nodiscard]] Command dial_stdio_command();

}  // namespace cooper::buildctl
