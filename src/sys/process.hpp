// Child processes with pidfds. Children are made with clone(CLONE_VM|CLONE_VFORK) and run nothing but
// async-signal-safe system calls before execve, so spawning from a many-threaded program is safe.
// Errors: not_found when the program does not exist. A Child may be used by one thread at a time.
#pragma once

#include "base/result.hpp"
#include "base/stop.hpp"
#include "sys/fd.hpp"

#include <optional>
#include <string>
#include <sys/types.h>
#include <utility>
#include <vector>

namespace cooper::sys {

// In the child, descriptor `child` becomes a copy of this process's descriptor `parent`.
struct FdPlace {
    int child = 0;
    int parent = -1;
};

struct SpawnSpec {
    std::string program;                          // a path, absolute or relative to the caller; see find_program
    std::vector<std::string> args;                // args[0] included
    std::optional<std::vector<std::string>> env;  // "K=V"; nullopt = this process's
    std::vector<FdPlace> fds;                     // standard streams not named here are /dev/null
    std::string cwd;                              // empty = this process's
    unsigned long clone_flags = 0;                // CLONE_NEWPID, CLONE_NEWNS, … for the child
    enum class Session : std::uint8_t { same, own_group, own } session = Session::same;
    enum class ParentDeath : std::uint8_t {
        ignore,
        kill
    } parent_death = ParentDeath::ignore;  // of the spawning *thread*
};

class Child {
public:
    [[nodiscard]] static Result<Child> spawn(const SpawnSpec& spec);
    Child() = default;
    Child(Child&&) noexcept;
    Child& operator=(Child&&) noexcept;
    ~Child();  // kills and reaps when still running

    [[nodiscard]] pid_t pid() const { return pid_; }
    // Becomes readable when the child has ended.
    [[nodiscard]] int pidfd() const { return pidfd_.get(); }
    // A child that has already been waited for is not an error.
    Result<> signal(int signal_number) const;
    // When stopped first the child is killed, reaped, and the error is cancelled.
    [[nodiscard]] Result<ExitStatus> wait(const Stop& stop);
    // SIGKILL and reap; always waits.
    ExitStatus kill_and_wait();

private:
    ExitStatus reap();
    pid_t pid_ = -1;
    Fd pidfd_;
};

// Looks name up in PATH (or returns it when it contains a slash and is executable).
[[nodiscard]] Result<std::string> find_program(const std::string& name);

struct Captured {
    ExitStatus status;
    std::string out;
    std::string err;
};
// Runs to the end with input on stdin; each stream is cut after limit_bytes.
[[nodiscard]] Result<Captured> run_captured(SpawnSpec spec, std::string_view input, std::size_t limit_bytes,
                                            const Stop& stop);

}  // namespace cooper::sys
