#include "apps/cooperd/first_process.hpp"

#include "sys/process.hpp"

#include <csignal>
#include <sys/wait.h>
#include <unistd.h>

namespace cooper::cooperd {

Result<int> watch_over_daemon(const std::vector<std::string>& words) {
    sigset_t signals;
    sigemptyset(&signals);
    for (const int signal : {SIGTERM, SIGINT, SIGCHLD}) sigaddset(&signals, signal);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    sys::SpawnSpec spec{.program = "/proc/self/exe", .args = words};
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) spec.fds.push_back({fd, fd});
    const sys::Child daemon = TRY(sys::Child::spawn(spec));
    while (true) {
        int signal = 0;
        if (sigwait(&signals, &signal) != 0) continue;
        if (signal != SIGCHLD) {
            static_cast<void>(daemon.signal(signal));
            continue;
        }
        int status = 0;
        for (pid_t ended = ::waitpid(-1, &status, WNOHANG); ended > 0; ended = ::waitpid(-1, &status, WNOHANG)) {
            if (ended == daemon.pid()) return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        }
    }
}

}  // namespace cooper::cooperd
