// cooper-init: pid 1 of the pid namespace in which an OCI runtime runs one step. Single-threaded and
// small. It sets up what cooper lists in its plan, starts the runtime, and ends when the runtime ends or
// when cooper does: the kernel then kills everything in the namespace and undoes its mounts.
//
// Not for people: cooper starts it with the control socket at descriptor 3 and the plan at 4.
#include "run/init_plan.hpp"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <sched.h>
#include <string>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace {

using cooper::run::InitRecord;
using cooper::run::InitVerb;

void send_text(char letter, const std::string& text) {
    const std::string message = letter + text;
    // Larger than a packet may be is cut: the tail of a log is worth less than its head.
    ::send(cooper::run::kControlFd, message.data(), std::min<std::size_t>(message.size(), 8192), MSG_NOSIGNAL);
}

[[noreturn]] void die(const std::string& what) {
    send_text(cooper::run::kFailed, what + ": " + std::strerror(errno));
    ::_exit(125);
}

struct State {
    std::vector<std::string> cgroups;
    std::string freezer;
    std::string log_path;
    std::string pid_path;
    std::vector<std::string> command;
    int console = -1;
    bool shared = false;     // no process namespace
    int first_process = -1;  // shared: a pidfd of the container's first process
    bool first_ended = false;
    pid_t runtime = -1;
    int pending_signal = 0;
    volatile int start_error = 0;
    const char* volatile start_step = "";
};

void write_file(const std::string& path, unsigned mode, uid_t uid, gid_t gid, const std::string& contents) {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) die("create " + path);
    std::size_t at = 0;
    while (at < contents.size()) {
        const ssize_t n = ::write(fd, contents.data() + at, contents.size() - at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) die("write " + path);
        at += static_cast<std::size_t>(n);
    }
    if (::fchown(fd, uid, gid) != 0) die("change owner of " + path);
    if (::fchmod(fd, mode) != 0) die("change mode of " + path);
    ::close(fd);
}

int listen_on(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        die("console socket");
    }
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(fd, 1) != 0) {
        die("console socket");
    }
    return fd;
}

unsigned octal(const std::string& text) { return static_cast<unsigned>(std::strtoul(text.c_str(), nullptr, 8)); }
unsigned decimal(const std::string& text) { return static_cast<unsigned>(std::strtoul(text.c_str(), nullptr, 10)); }

void carry_out(const InitRecord& record, State& state) {
    const auto& fields = record.fields;
    const auto at = [&fields](std::size_t i) -> const std::string& {
        if (i < fields.size()) return fields[i];
        errno = EINVAL;
        die("plan");
    };
    switch (record.verb) {
        case InitVerb::mount_tmpfs:
            if (::mount("tmpfs", at(0).c_str(), "tmpfs", MS_NOSUID | MS_NODEV, at(1).c_str()) != 0) die("mount tmpfs");
            break;
        case InitVerb::mount_proc:
            if (::mount("proc", at(0).c_str(), "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) != 0)
                die("mount proc");
            break;
        case InitVerb::mount_sys:
            // Who does not own the network namespace is given the host's.
            if (::mount("sysfs", at(0).c_str(), "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) != 0 &&
                ::mount("/sys", at(0).c_str(), nullptr, MS_BIND | MS_REC, nullptr) != 0) {
                die("mount sysfs");
            }
            break;
        case InitVerb::hide:
            // In a user namespace inherited mounts cannot be taken away, only covered.
            if (::umount2(at(0).c_str(), MNT_DETACH) != 0) {
                ::mount("tmpfs", at(0).c_str(), "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV, "mode=755");
            }
            break;
        case InitVerb::make_dir:
            if (::mkdir(at(0).c_str(), octal(at(1))) != 0) die("make directory " + at(0));
            break;
        case InitVerb::make_file:
            write_file(at(0), octal(at(1)), decimal(at(2)), decimal(at(3)), at(4));
            break;
        case InitVerb::attach: {
            const int fd = static_cast<int>(decimal(at(0)));
            if (::syscall(SYS_move_mount, fd, "", AT_FDCWD, at(1).c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0) {
                die("attach mount at " + at(1));
            }
            ::close(fd);
            break;
        }
        case InitVerb::enter_network: {
            const int fd = static_cast<int>(decimal(at(0)));
            if (::setns(fd, CLONE_NEWNET) != 0) die("enter network namespace");
            ::close(fd);
            break;
        }
        case InitVerb::change_dir:
            if (::chdir(at(0).c_str()) != 0) die("change directory to " + at(0));
            break;
        case InitVerb::console:
            state.console = listen_on(at(0));
            break;
        case InitVerb::join_cgroup:
            state.cgroups.push_back(at(0));
            break;
        case InitVerb::thaw_at_end:
            state.freezer = at(0);
            break;
        case InitVerb::runtime_log:
            state.log_path = at(0);
            break;
        case InitVerb::pid_file:
            state.pid_path = at(0);
            break;
        case InitVerb::execute:
            state.command = fields;
            break;
        default:
            errno = EINVAL;
            die("plan");
    }
}

std::string read_all(int fd) {
    std::string text;
    std::array<char, 65536> buffer;
    while (true) {
        const ssize_t n = ::read(fd, buffer.data(), buffer.size());
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return text;
        text.append(buffer.data(), static_cast<std::size_t>(n));
    }
}

// After vfork: system calls only, in the parent's memory, where it finds what failed.
[[noreturn]] void become_runtime(State& state, char* const* argv) {
    for (const std::string& path : state.cgroups) {
        const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
        if (fd < 0 || ::write(fd, "0", 1) != 1) {
            state.start_error = errno;
            state.start_step = "join the cgroup";
            ::_exit(127);
        }
        ::close(fd);
    }
    ::syscall(SYS_close_range, 3U, ~0U, 4U /* CLOSE_RANGE_CLOEXEC */);
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::execv(argv[0], argv + 1);
    state.start_error = errno;
    state.start_step = "execute the runtime";
    ::_exit(127);
}

void start_runtime(State& state) {
    std::vector<char*> argv;
    for (std::string& word : state.command) argv.push_back(word.data());
    argv.push_back(nullptr);
    if (argv.size() < 3) {
        errno = EINVAL;
        die("plan");
    }
    const pid_t pid = ::vfork();
    if (pid < 0) die("start the runtime");
    if (pid == 0) become_runtime(state, argv.data());
    if (state.start_error != 0) {
        errno = state.start_error;
        die(state.start_step);
    }
    state.runtime = pid;
    // The runtime has the standard streams now; ours would keep their pipes open.
    const int null_fd = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd < 3; fd++) ::dup2(null_fd, fd);
}

// The runtime connects and sends the master of the pty it made; pass it on as it is.
void forward_terminal(State& state) {
    const int connection = ::accept4(state.console, nullptr, nullptr, SOCK_CLOEXEC);
    ::close(state.console);
    state.console = -1;
    if (connection < 0) return;
    std::array<char, 256> text{};
    iovec data{text.data(), text.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    if (::recvmsg(connection, &message, MSG_CMSG_CLOEXEC) > 0 && message.msg_controllen > 0) {
        text[0] = cooper::run::kTerminal;
        data.iov_len = 1;
        ::sendmsg(cooper::run::kControlFd, &message, MSG_NOSIGNAL);
        int master = -1;
        std::memcpy(&master, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof master);
        ::close(master);
    }
    ::close(connection);
}

// The container's first process; 0 while it is not known yet.
pid_t first_pid(const State& state) {
    const int fd = ::open(state.pid_path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    const std::string text = read_all(fd);
    ::close(fd);
    const auto pid = static_cast<pid_t>(decimal(text));
    return pid > 1 ? pid : 0;
}

bool deliver_signal(const State& state) {
    const pid_t pid = first_pid(state);
    if (pid == 0) return false;
    ::kill(pid, state.pending_signal);
    return true;
}

std::vector<pid_t> children_of(const std::string& process) {
    const int fd = ::open(("/proc/" + process + "/children").c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return {};
    const std::string text = read_all(fd);
    ::close(fd);
    std::vector<pid_t> found;
    for (const char* at = text.c_str(); *at != '\0';) {
        char* end = nullptr;
        const long pid = std::strtol(at, &end, 10);
        if (end == at) break;
        if (pid > 1) found.push_back(static_cast<pid_t>(pid));
        at = *end == ' ' ? end + 1 : end;
    }
    return found;
}

// Without a process namespace the runtime waits for all that the container's first process has left behind; it is a
// reaper of its own, so that they are its children.
void follow_first_process(State& state) {
    if (state.first_process < 0 && !state.first_ended) {
        const pid_t pid = first_pid(state);
        if (pid == 0) return;
        state.first_process = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
        if (state.first_process < 0) state.first_ended = true;
    }
    if (!state.first_ended) return;
    const std::string runtime = std::to_string(state.runtime);
    for (const pid_t pid : children_of(runtime + "/task/" + runtime)) ::kill(pid, SIGKILL);
}

void report_end(const State& state, int status) {
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    std::string text = std::to_string(code);
    text += '\0';
    const int fd = ::open(state.log_path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd >= 0) text += read_all(fd);
    send_text(cooper::run::kExited, text);
}

// True when the runtime itself has ended.
bool reap(const State& state) {
    int status = 0;
    pid_t pid = 0;
    while ((pid = ::waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == state.runtime) {
            report_end(state, status);
            return true;
        }
    }
    return false;
}

void watch(State& state, int signals) {
    while (true) {
        std::array<pollfd, 4> fds{{{cooper::run::kControlFd, POLLIN, 0},
                                   {signals, POLLIN, 0},
                                   {state.console, POLLIN, 0},
                                   {state.first_ended ? -1 : state.first_process, POLLIN, 0}}};
        const bool waits =
            state.pending_signal != 0 || (state.shared && (state.first_process < 0 || state.first_ended));
        if (::poll(fds.data(), fds.size(), waits ? 5 : -1) < 0 && errno != EINTR) return;
        if (fds[3].revents != 0) state.first_ended = true;
        if (state.shared) follow_first_process(state);
        if (fds[0].revents != 0) {
            std::array<char, 64> text{};
            const ssize_t n = ::recv(cooper::run::kControlFd, text.data(), text.size() - 1, MSG_DONTWAIT);
            if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) return;  // cooper is gone
            if (n > 1 && text[0] == cooper::run::kSignal) state.pending_signal = std::atoi(text.data() + 1);
        }
        if (fds[2].revents != 0 && state.console >= 0) forward_terminal(state);
        if (state.pending_signal != 0 && deliver_signal(state)) state.pending_signal = 0;
        if (fds[1].revents != 0) {
            signalfd_siginfo info{};
            while (::read(signals, &info, sizeof info) > 0) {
            }
            if (reap(state)) return;
        }
    }
}

// Frozen processes of cgroup v1 take not even SIGKILL, and a namespace does not end before they have.
void thaw(const State& state) {
    const int fd = ::open(state.freezer.c_str(), O_WRONLY | O_CLOEXEC);
    if (fd < 0) return;
    static_cast<void>(!::write(fd, "THAWED", 6));
    ::close(fd);
}

// Without a process namespace nobody but we end what the step has left: level by level, as each becomes ours.
void end_descendants() {
    while (true) {
        for (const pid_t pid : children_of("thread-self")) ::kill(pid, SIGKILL);
        if (::waitpid(-1, nullptr, 0) < 0 && errno != EINTR) return;
    }
}

int open_handlers() {
    const int fs = static_cast<int>(::syscall(SYS_fsopen, "binfmt_misc", FSOPEN_CLOEXEC));
    if (fs < 0) return -1;
    return ::syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) == 0 ? fs : -1;
}

int try_handlers() {
    // Not by execve: without a user 0 that would cost the new namespace's rights.
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return 1;
    return open_handlers() >= 0 ? 0 : 1;
}

int hook_failed(const std::string& what) {
    std::fprintf(stderr, "%s: %s\n", what.c_str(), std::strerror(errno));
    return 1;
}

// In the namespaces of the container, before its root is entered: the emulators are still to be seen.
int register_handlers(const char* root, char** lines) {
    // Runtimes fail when nobody takes the state that they tell a hook.
    static_cast<void>(read_all(STDIN_FILENO));
    constexpr unsigned kAttributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    const int fs = open_handlers();
    if (fs < 0) return hook_failed("open binfmt_misc");
    const int tree = static_cast<int>(::syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, kAttributes));
    if (tree < 0) return hook_failed("mount binfmt_misc");
    for (; *lines != nullptr; lines++) {
        const int fd = ::openat(tree, "register", O_WRONLY | O_CLOEXEC);
        if (fd < 0) return hook_failed("open binfmt_misc/register");
        const std::size_t size = std::strlen(*lines);
        if (::write(fd, *lines, size) != static_cast<ssize_t>(size))
            return hook_failed(std::string("register ") + *lines);
        ::close(fd);
    }
    mount_attr attributes{};
    attributes.attr_set = MOUNT_ATTR_RDONLY;
    if (::syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attributes, sizeof attributes) != 0)
        return hook_failed("protect binfmt_misc");
    // What the image has in the way of /proc leads nowhere else.
    const int top = ::open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    open_how how{};
    how.flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
    how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS;
    const int place = static_cast<int>(::syscall(SYS_openat2, top, "proc/sys/fs/binfmt_misc", &how, sizeof how));
    if (place < 0) return hook_failed("open /proc/sys/fs/binfmt_misc");
    if (::syscall(SYS_move_mount, tree, "", place, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) != 0)
        return hook_failed("attach binfmt_misc");
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc == 2 && std::strcmp(argv[1], cooper::run::kTryHandlers) == 0) return try_handlers();
    if (argc > 3 && std::strcmp(argv[1], cooper::run::kRegisterHandlers) == 0)
        return register_handlers(argv[2], argv + 3);
    const bool shared = argc == 2 && std::strcmp(argv[1], cooper::run::kSharedProcesses) == 0;
    if (shared) {
        ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    } else if (::getpid() != 1) {
        std::fputs("cooper-init is started by cooper, not by people\n", stderr);
        return 2;
    }
    ::umask(022);
    sigset_t child;
    ::sigemptyset(&child);
    ::sigaddset(&child, SIGCHLD);
    ::sigprocmask(SIG_BLOCK, &child, nullptr);
    const int signals = ::signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals < 0) die("signalfd");
    if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) die("make mounts private");

    State state;
    state.shared = shared;
    const std::string plan = read_all(cooper::run::kPlanFd);
    ::close(cooper::run::kPlanFd);
    std::string_view rest = plan;
    while (auto record = cooper::run::take_record(rest)) carry_out(*record, state);
    start_runtime(state);
    send_text(cooper::run::kStarted, "");
    watch(state, signals);
    thaw(state);
    if (shared) end_descendants();
    return 0;
}
