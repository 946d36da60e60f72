// `cooper run`: one process on the user's own terminal or pipes. stdin, SIGWINCH and the signals that
// ask a program to end are passed on.
#pragma once

#include "run/executor.hpp"

#include <functional>
#include <vector>

namespace cooper::run {

struct InteractiveOptions {
    int stdin_fd = 0;
    int stdout_fd = 1;
    int stderr_fd = 2;
    // Called when ports are published, with the chosen host ports.
    std::function<void(const std::vector<PublishedPort>&)> on_ports;
    std::function<void(Streams::Control*)> pausable;  // as that of Streams
};
// spec.tty decides whether a pty is made (the user's terminal is put into raw mode meanwhile);
// spec.stdin_mode whether stdin is forwarded. Blocks SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2
// and SIGWINCH in this thread and reads them from a signalfd: call
// block_forwarded_signals() at program start, before any thread exists.
[[nodiscard]] Result<Exit> run_interactive(Executor& executor, const ProcessSpec& spec,
                                           const InteractiveOptions& options, const Stop& stop);
void block_forwarded_signals();

}  // namespace cooper::run
