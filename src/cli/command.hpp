// One command of the program: how it is described, which options it has, what it does.
// Heavy: includes CLI11, so only the command files include this (they are .cpp files' private header).
#pragma once

#include "base/result.hpp"
#include "base/stop.hpp"
#include "cli/remote_builder.hpp"
#include "engine/engine.hpp"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace cooper::cli {

struct GlobalOptions {
    std::string root;
    std::string config_file;
    std::string builder;  // address of a daemon; empty = this process builds
    std::string tls_dir;
    bool debug = false;
};

// What a command runs with.
struct Session {
    const GlobalOptions& global;
    Stop stop;  // Ctrl-C or SIGTERM
    RemoteBuilder* remote = nullptr;

    [[nodiscard]] Result<engine::Config> config() const;
    [[nodiscard]] Result<std::unique_ptr<engine::Engine>> open_engine() const;
};

// Runs after parsing; the int is the exit status.
using Action = std::function<Result<int>(Session&)>;

struct Command {
    std::string name;
    std::string summary;
    std::string examples;  // shown below the options, one per line
    std::function<Action(CLI::App&)> setup;
    bool hidden = false;
};

// All commands in the order of `cooper --help`.
[[nodiscard]] std::vector<Command> all_commands();

[[nodiscard]] std::vector<Command> build_commands();
[[nodiscard]] std::vector<Command> dockerfile_commands();
[[nodiscard]] std::vector<Command> ignore_commands();
[[nodiscard]] std::vector<Command> cache_commands();
[[nodiscard]] std::vector<Command> lock_commands();
[[nodiscard]] std::vector<Command> image_commands();
[[nodiscard]] std::vector<Command> image_contents_commands();
[[nodiscard]] std::vector<Command> run_commands();
[[nodiscard]] std::vector<Command> system_commands();
[[nodiscard]] std::vector<Command> why_commands();
[[nodiscard]] std::vector<Command> completion_commands();

// `start` and what follows it, no further than a little more than a Dockerfile may have: its parser names the line.
[[nodiscard]] Result<std::string> read_dockerfile(int fd, std::string start);

// A whole small file; not_found.
[[nodiscard]] Result<std::string> read_whole(const std::string& path, std::size_t limit_bytes);
[[nodiscard]] Result<> write_file(const std::string& path, std::string_view text);
inline constexpr std::size_t kMaxLockFile = 4U << 20U;
// Where the lock of a context is.
[[nodiscard]] std::string lock_path(const std::string& context);

// Prints an error as people read it: log tail, excerpt, message, hint.
void print_error(const Error& error);

// A display chosen by --progress and the terminal.
enum class ProgressMode : std::uint8_t { automatic, tty, plain, quiet, rawjson };
[[nodiscard]] Result<ProgressMode> parse_progress_mode(const std::string& text);
class Display {
public:
    virtual ~Display() = default;
    [[nodiscard]] virtual ProgressSink& sink() = 0;
    virtual void finish() = 0;
};
[[nodiscard]] std::unique_ptr<Display> make_display(ProgressMode mode);

// What an image handed over came to, as a line.
[[nodiscard]] std::string hand_over_line(const engine::Engine::HandOverRow& row);

// Table with aligned columns on standard output.
void print_table(const std::vector<std::vector<std::string>>& rows);
// "3 minutes ago"
[[nodiscard]] std::string ago(Timestamp time);

}  // namespace cooper::cli
