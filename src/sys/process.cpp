#include "sys/process.hpp"

#include "base/defer.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <new>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace cooper::sys {
namespace {

#ifndef P_PIDFD
constexpr auto P_PIDFD = static_cast<idtype_t>(3);
#endif

// What the child needs, laid out before it exists: it shares our memory and may not allocate.
struct Launch {
    const char* program;
    char* const* argv;
    char* const* envp;
    const char* cwd;
    const FdPlace* places;
    std::size_t place_count;
    int* moved;  // scratch, place_count entries
    int null_fd;
    SpawnSpec::Session session;
    SpawnSpec::ParentDeath parent_death;
    pid_t parent;
    bool new_pid_namespace;
    int error;         // errno of the failed call, 0 = none
    const char* step;  // which call
};

// Sharing memory makes spawning cheap. ThreadSanitizer keeps books in it that a child would spoil.
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define COOPER_THREAD_SANITIZER
#endif
#endif
#if defined(__SANITIZE_THREAD__) || defined(COOPER_THREAD_SANITIZER)
constexpr int kShareMemory = 0;
#else
constexpr int kShareMemory = CLONE_VM;
#endif

// Clear of every number a caller is likely to place.
constexpr int kScratchFd = 512;

bool place_descriptors(Launch& launch) {
    for (std::size_t i = 0; i < launch.place_count; i++) {
        launch.moved[i] = ::fcntl(launch.places[i].parent, F_DUPFD_CLOEXEC, kScratchFd);
        if (launch.moved[i] < 0) return false;
    }
    std::array<bool, 3> placed{};
    for (std::size_t i = 0; i < launch.place_count; i++) {
        const int target = launch.places[i].child;
        if (::dup2(launch.moved[i], target) < 0) return false;
        if (target < 3) placed[static_cast<std::size_t>(target)] = true;
    }
    for (int fd = 0; fd < 3; fd++) {
        if (!placed[static_cast<std::size_t>(fd)] && ::dup2(launch.null_fd, fd) < 0) return false;
    }
    return true;
}

// Runs in the child, on its own stack but in our memory, while the calling thread is suspended.
__attribute__((no_sanitize("address", "thread", "undefined"))) int child_main(void* argument) {
    Launch& launch = *static_cast<Launch*>(argument);
    const auto failed = [&launch](const char* step) {
        launch.error = errno;
        launch.step = step;
        ::_exit(127);
    };
    // Handlers are reset by execve; what is ignored would stay so.
    struct sigaction normal{};
    normal.sa_handler = SIG_DFL;
    for (const int number : {SIGPIPE, SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGQUIT}) ::sigaction(number, &normal, nullptr);
    if (launch.parent_death == SpawnSpec::ParentDeath::kill) {
        if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) failed("prctl");
        if (!launch.new_pid_namespace && ::getppid() != launch.parent) ::_exit(127);
    }
    if (launch.session == SpawnSpec::Session::own && ::setsid() < 0) failed("setsid");
    if (launch.session == SpawnSpec::Session::own_group && ::setpgid(0, 0) != 0) failed("setpgid");
    if (!place_descriptors(launch)) failed("place descriptors");
    if (launch.cwd != nullptr && ::chdir(launch.cwd) != 0) failed("change directory");
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::execve(launch.program, launch.argv, launch.envp);
    failed("execute");
    return 127;
}

std::vector<char*> pointers_to(const std::vector<std::string>& texts) {
    std::vector<char*> pointers;
    pointers.reserve(texts.size() + 1);
    for (const std::string& text : texts) pointers.push_back(const_cast<char*>(text.c_str()));
    pointers.push_back(nullptr);
    return pointers;
}

}  // namespace

Result<Child> Child::spawn(const SpawnSpec& spec) {
    const std::vector<char*> argv = pointers_to(spec.args);
    std::vector<char*> envp;
    if (spec.env) envp = pointers_to(*spec.env);
    const Fd null_fd(::open("/dev/null", O_RDWR | O_CLOEXEC));
    if (!null_fd.valid()) return fail_errno(errno, "open /dev/null");
    std::vector<int> moved(spec.fds.size());

    // Shared, so that what the child says of a failure is seen here however memory is cloned.
    constexpr std::size_t kStackBytes = 64 * 1024;
    void* stack = ::mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (stack == MAP_FAILED) return fail_errno(errno, "allocate a stack");
    const Defer free_stack([stack] { ::munmap(stack, kStackBytes); });
    Launch& launch = *::new (stack) Launch{};
    launch.program = spec.program.c_str();
    launch.argv = argv.data();
    launch.envp = spec.env ? envp.data() : environ;
    launch.cwd = spec.cwd.empty() ? nullptr : spec.cwd.c_str();
    launch.places = spec.fds.data();
    launch.place_count = spec.fds.size();
    launch.moved = moved.data();
    launch.null_fd = null_fd.get();
    launch.session = spec.session;
    launch.parent_death = spec.parent_death;
    launch.parent = ::getpid();
    launch.new_pid_namespace = (spec.clone_flags & CLONE_NEWPID) != 0;

    // No handler of ours may run in the child, which shares our memory.
    sigset_t all;
    sigset_t before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    int pidfd = -1;
    const int flags = kShareMemory | CLONE_VFORK | CLONE_PIDFD | SIGCHLD | static_cast<int>(spec.clone_flags);
    const pid_t pid = ::clone(child_main, static_cast<char*>(stack) + kStackBytes, flags, &launch, &pidfd);
    const int clone_error = errno;
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (pid < 0) return fail_errno(clone_error, fmt::format("start {}", spec.program));

    Child child;
    child.pid_ = pid;
    child.pidfd_ = Fd(pidfd);
    if (launch.error != 0) {
        child.reap();
        return fail_errno(launch.error, fmt::format("start {}: {}", spec.program, launch.step));
    }
    return child;
}

Child::Child(Child&& other) noexcept : pid_(std::exchange(other.pid_, -1)), pidfd_(std::move(other.pidfd_)) {}

Child& Child::operator=(Child&& other) noexcept {
    if (this != &other) {
        kill_and_wait();
        pid_ = std::exchange(other.pid_, -1);
        pidfd_ = std::move(other.pidfd_);
    }
    return *this;
}

Child::~Child() { kill_and_wait(); }

Result<> Child::signal(int signal_number) const {
    if (pid_ < 0) return {};
    if (::syscall(SYS_pidfd_send_signal, pidfd_.get(), signal_number, nullptr, 0) != 0 && errno != ESRCH) {
        return fail_errno(errno, fmt::format("send signal {} to process {}", signal_number, pid_));
    }
    return {};
}

ExitStatus Child::reap() {
    ExitStatus status;
    if (pid_ < 0) return status;
    siginfo_t info{};
    while (::waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED) != 0 && errno == EINTR) {
    }
    status.code = info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
    pid_ = -1;
    pidfd_ = Fd();
    return status;
}

Result<ExitStatus> Child::wait(const Stop& stop) {
    if (pid_ < 0) return ExitStatus{};
    if (auto ready = wait_readable(pidfd_.get(), stop); !ready) {
        kill_and_wait();
        return std::move(ready).error();
    }
    return reap();
}

ExitStatus Child::kill_and_wait() {
    if (pid_ < 0) return {};
    ::syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0);
    return reap();
}

Result<std::string> find_program(const std::string& name) {
    const auto missing = [&name] { return fail(Code::not_found, Blame::world, "program not found: {}", name); };
    if (name.find('/') != std::string::npos) {
        if (::access(name.c_str(), X_OK) == 0) return name;
        return missing();
    }
    const char* path = ::getenv("PATH");
    std::string_view rest =
        path != nullptr && *path != 0 ? path : "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    while (!rest.empty()) {
        const std::size_t end = std::min(rest.find(':'), rest.size());
        const std::string candidate = std::string(rest.substr(0, end)) + "/" + name;
        if (candidate.front() == '/' && ::access(candidate.c_str(), X_OK) == 0) return candidate;
        rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    // Where system tools live when a user's PATH leaves them out.
    for (const char* dir : {"/usr/sbin", "/sbin", "/usr/local/sbin"}) {
        const std::string candidate = std::string(dir) + "/" + name;
        if (::access(candidate.c_str(), X_OK) == 0) return candidate;
    }
    return missing();
}

namespace {

// Takes what there is; false at the end of the stream.
Result<bool> drain(int fd, std::string& into, std::size_t limit_bytes) {
    std::array<std::byte, 16384> buffer;
    const std::size_t n = TRY(read_some(fd, buffer));
    if (n == 0) return false;
    const std::size_t room = limit_bytes - std::min(limit_bytes, into.size());
    into.append(as_text(std::span(buffer).first(std::min(n, room))));
    return true;
}

}  // namespace

Result<Captured> run_captured(SpawnSpec spec, std::string_view input, std::size_t limit_bytes, const Stop& stop) {
    Pipe in = TRY(make_pipe());
    Pipe out = TRY(make_pipe());
    Pipe err = TRY(make_pipe());
    spec.fds.insert(spec.fds.end(), {{0, in.read_end.get()}, {1, out.write_end.get()}, {2, err.write_end.get()}});
    Child child = TRY(Child::spawn(spec));
    in.read_end = Fd();
    out.write_end = Fd();
    err.write_end = Fd();
    ::fcntl(in.write_end.get(), F_SETFL, O_NONBLOCK);

    // POLLERR on the closed reader ends our writing; SIGPIPE is ignored program-wide, or blocked here.
    sigset_t pipe_set;
    sigset_t before;
    ::sigemptyset(&pipe_set);
    ::sigaddset(&pipe_set, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &pipe_set, &before);
    Captured captured;
    bool out_open = true;
    bool err_open = true;
    Result<> outcome;
    while (outcome && (out_open || err_open)) {
        if (input.empty()) in.write_end = Fd();
        std::array<pollfd, 3> fds{{{out_open ? out.read_end.get() : -1, POLLIN, 0},
                                   {err_open ? err.read_end.get() : -1, POLLIN, 0},
                                   {in.write_end.get(), POLLOUT, 0}}};
        if (::poll(fds.data(), fds.size(), 50) < 0 && errno != EINTR) outcome = fail_errno(errno, "poll");
        if (stop.stop_requested()) outcome = cancelled();
        for (std::size_t i = 0; i < 2 && outcome; i++) {
            if (fds[i].revents == 0) continue;
            const auto more = drain(fds[i].fd, i == 0 ? captured.out : captured.err, limit_bytes);
            if (!more) {
                outcome = more.error();
            } else if (!*more) {
                (i == 0 ? out_open : err_open) = false;
            }
        }
        if (fds[2].revents != 0 && in.write_end.valid()) {
            const ssize_t n = ::write(in.write_end.get(), input.data(), input.size());
            if (n > 0) input.remove_prefix(static_cast<std::size_t>(n));
            if (n < 0 && errno != EAGAIN && errno != EINTR) input = {};
        }
    }
    const timespec zero{};
    while (::sigtimedwait(&pipe_set, nullptr, &zero) > 0) {
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (!outcome) return std::move(outcome).error();
    in.write_end = Fd();
    captured.status = TRY(child.wait(stop));
    return captured;
}

}  // namespace cooper::sys
