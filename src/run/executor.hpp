// Executor: runs one process in a container and waits for its end. Thread-safe: steps run on as many
// threads as the caller has.
//
// However the calling program ends (also by SIGKILL), no process and no mount of a step remains.
#pragma once

#include "base/result.hpp"
#include "base/stop.hpp"
#include "run/process_spec.hpp"

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::run {

// What becomes of the output and where input comes from. Callbacks are called on the thread that
// called run(), as soon as bytes arrive.
struct Streams {
    // stream: 1 stdout, 2 stderr. With a tty everything is 1.
    std::function<void(int stream, std::string_view chunk)> output;
    // When >= 0 the process gets these descriptors themselves instead of the callback and of /dev/null.
    int stdin_fd = -1;
    int stdout_fd = -1;
    int stderr_fd = -1;
    // Called once when the process is about to start, from the thread of run(), with means to reach it.
    struct Control {
        virtual ~Control() = default;
        virtual void signal(int signal_number) = 0;
        // Holds all of its processes up, without their notice; from any thread. Nothing happens when the spec did not
        // ask for it or the host cannot. Who is stopped meanwhile ends all the same.
        virtual void pause() = 0;
        virtual void resume() = 0;
        virtual int tty_master() = 0;                           // -1 without tty; owned by the executor
        virtual const std::vector<PublishedPort>& ports() = 0;  // with the chosen host ports
    };
    std::function<void(Control&)> started;
    // Called before anything of the process runs, with what can pause it from then on, and with nullptr before that
    // goes away; both on the thread of run(). Not called where the host cannot pause.
    std::function<void(Control*)> pausable;
    // Called once after the process has ended, before the Control dies; only when started was called.
    std::function<void()> finished;
};

// What a finished process used; zero where the kernel does not tell.
struct Usage {
    std::uint64_t cpu_ns = 0;
    std::uint64_t memory_peak_bytes = 0;
};

struct Exit {
    ExitStatus status;  // code 128+n for signals; oom_killed when the memory cgroup says so
    Usage usage;
};

class Executor {
public:
    virtual ~Executor() = default;
    // Runs to the end. A process that ends with any code is not an error: look at Exit. Errors are
    // those of the set-up (unknown user, runtime missing, …; a program that does not exist is
    // invalid_argument with ExitStatus 127) and cancelled: then everything has been killed and
    // reaped before run() returns.
    [[nodiscard]] virtual Result<Exit> run(const ProcessSpec& spec, const Streams& streams, const Stop& stop) = 0;
    // Prepares in the background what the first step will need (network namespaces, …). Never fails;
    // returns at once.
    virtual void warm_up(NetworkMode mode) = 0;
    // For `cooper info`: "crun 1.8.1, cgroup v2, bridge network".
    [[nodiscard]] virtual std::string describe() = 0;
    // Architectures, beside this machine's, whose programs run through an emulator.
    [[nodiscard]] virtual std::vector<std::string> emulated() { return {}; }
};

// "process \"ARGS\" did not complete successfully: exit code: N", with the detail ExitStatus.
[[nodiscard]] Error exit_error(const ProcessSpec& spec, const ExitStatus& status);

}  // namespace cooper::run
