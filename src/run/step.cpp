#include "run/step.hpp"

#include "base/defer.hpp"
#include "base/text.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

namespace cooper::run {
namespace {

struct SocketPair {
    sys::Fd ours;
    sys::Fd theirs;
};

Result<SocketPair> make_control() {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
        return fail_errno(errno, "socketpair");
    SocketPair pair;
    pair.ours = sys::Fd(ends[0]);
    pair.theirs = sys::Fd(ends[1]);
    return pair;
}

// The plan holds secrets: memory only, and sealed away with the descriptor.
Result<sys::Fd> make_plan_file(const InitPlan& plan) {
    sys::Fd fd(::memfd_create("cooper-plan", MFD_CLOEXEC));
    if (!fd.valid()) return fail_errno(errno, "memfd");
    TRY(sys::write_all(fd.get(), plan.bytes()));
    if (::lseek(fd.get(), 0, SEEK_SET) != 0) return fail_errno(errno, "seek");
    return fd;
}

}  // namespace

Result<> Step::start(const std::string& init_program, const Bundle& bundle, const ProcessSpec& spec) {
    SocketPair control = TRY(make_control());
    const sys::Fd plan = TRY(make_plan_file(bundle.plan()));
    sys::SpawnSpec spawn;
    spawn.program = init_program;
    spawn.args = {"cooper-init"};
    spawn.env = std::vector<std::string>{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"};
    spawn.clone_flags = CLONE_NEWNS | (processes_ == Processes::own ? CLONE_NEWPID : 0);
    if (processes_ == Processes::shared) spawn.args.emplace_back(kSharedProcesses);
    // Out of the terminal's reach: Ctrl-C is for us, and we decide what becomes of the step.
    spawn.session = sys::SpawnSpec::Session::own;
    spawn.fds = {{kControlFd, control.theirs.get()}, {kPlanFd, plan.get()}};
    int next = kFirstMountFd;
    for (const sys::Fd& fd : bundle.fds()) spawn.fds.push_back({next++, fd.get()});

    std::vector<sys::Fd> write_ends;
    const auto add_output = [&](int stream, int given) -> Result<> {
        if (given >= 0) {
            spawn.fds.push_back({stream, given});
            return {};
        }
        sys::Pipe pipe = TRY(sys::make_pipe());
        ::fcntl(pipe.read_end.get(), F_SETFL, O_NONBLOCK);
        spawn.fds.push_back({stream, pipe.write_end.get()});
        write_ends.push_back(std::move(pipe.write_end));
        outputs_.push_back({std::move(pipe.read_end), stream});
        return {};
    };
    if (streams_.stdin_fd >= 0 && !spec.tty) spawn.fds.push_back({0, streams_.stdin_fd});
    TRY(add_output(1, spec.tty ? -1 : streams_.stdout_fd));
    TRY(add_output(2, spec.tty ? -1 : streams_.stderr_fd));
    tty_ = spec.tty;
    child_ = TRY(sys::Child::spawn(spawn));
    control_ = std::move(control.ours);
    return {};
}

void Step::signal(int signal_number) {
    const std::string message = kSignal + std::to_string(signal_number);
    ::send(control_.get(), message.data(), message.size(), MSG_NOSIGNAL);
}

void Step::announce() {
    if (announced_) return;
    announced_ = true;
    if (streams_.started) streams_.started(*this);
}

void Step::take_message(std::string_view message) {
    if (message.empty()) return;
    const std::string_view text = message.substr(1);
    switch (message.front()) {
        case kStarted:
            if (!tty_) announce();
            break;
        case kFailed:
            failure_ = text;
            break;
        case kExited: {
            const auto [code, log] = cut(text, '\0');
            end_.code = static_cast<int>(parse_int(code).value_or(125));
            end_.runtime_log = std::string(log.value_or(""));
            ended_ = true;
            break;
        }
        default:
            break;
    }
}

void Step::read_control() {
    while (true) {
        std::array<char, 16384> text;
        alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> ancillary{};
        iovec data{text.data(), text.size()};
        msghdr message{};
        message.msg_iov = &data;
        message.msg_iovlen = 1;
        message.msg_control = ancillary.data();
        message.msg_controllen = ancillary.size();
        const ssize_t n = ::recvmsg(control_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n <= 0) return;
        const cmsghdr* header = CMSG_FIRSTHDR(&message);
        if (header != nullptr && header->cmsg_type == SCM_RIGHTS) {
            int fd = -1;
            std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
            ::fcntl(fd, F_SETFL, O_NONBLOCK);
            terminal_ = sys::Fd(fd);
            if (auto copy = terminal_.duplicate()) outputs_.push_back({std::move(*copy), 1});
            announce();
        }
        take_message(std::string_view(text.data(), static_cast<std::size_t>(n)));
    }
}

bool Step::read_output(Output& output) {
    std::array<std::byte, 65536> buffer;
    while (true) {
        const ssize_t n = ::read(output.fd.get(), buffer.data(), buffer.size());
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno == EAGAIN;  // EIO: the other side of a pty is gone
        if (n == 0) return false;
        if (streams_.output) {
            streams_.output(output.stream, as_text(std::span(buffer).first(static_cast<std::size_t>(n))));
        }
    }
}

Result<> Step::pump(const Stop& stop) {
    const sys::Fd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!wake.valid()) return fail_errno(errno, "eventfd");
    const std::stop_callback on_stop(stop, [&wake] {
        const std::uint64_t one = 1;
        [[maybe_unused]] const ssize_t n = ::write(wake.get(), &one, sizeof one);
    });
    bool killed = false;
    while (true) {
        std::vector<pollfd> fds{{child_.pidfd(), POLLIN, 0},
                                {control_open_ ? control_.get() : -1, POLLIN, 0},
                                {killed ? -1 : wake.get(), POLLIN, 0}};
        for (const Output& output : outputs_) fds.push_back({output.fd.get(), POLLIN, 0});
        if (::poll(fds.data(), fds.size(), -1) < 0 && errno != EINTR) return fail_errno(errno, "poll");
        for (std::size_t i = outputs_.size(); i-- > 0;) {
            if (fds[i + 3].revents != 0 && !read_output(outputs_[i])) {
                outputs_.erase(outputs_.begin() + static_cast<std::ptrdiff_t>(i));
            }
        }
        if (fds[1].revents != 0) {
            read_control();
            // At its end the socket would be readable for ever.
            if ((fds[1].revents & POLLHUP) != 0) control_open_ = false;
        }
        if (fds[2].revents != 0) {
            killed = true;
            freezer_.kill();
            if (processes_ == Processes::own) {
                TRY(child_.signal(SIGKILL));
            } else {
                // The kernel would end nobody else with it; told to, it ends all that came of it.
                ::shutdown(control_.get(), SHUT_WR);
            }
        }
        if (fds[0].revents != 0) break;
    }
    // All writers are gone; what they wrote is still in the pipes.
    read_control();
    for (Output& output : outputs_) read_output(output);
    if (killed) return cancelled();
    return {};
}

Result<StepEnd> Step::run(const std::string& init_program, const Bundle& bundle, const ProcessSpec& spec,
                          const Stop& stop) {
    TRY(check_stop(stop));
    const bool pausable = streams_.pausable && freezer_.works();
    if (pausable) streams_.pausable(this);
    const Defer unreachable([&] {
        if (pausable) streams_.pausable(nullptr);
    });
    TRY(start(init_program, bundle, spec));
    const Result<> pumped = pump(stop);
    if (announced_ && streams_.finished) streams_.finished();
    freezer_.end();
    const ExitStatus init = child_.kill_and_wait();
    if (!pumped) return pumped.error();
    if (!failure_.empty()) {
        return fail(Code::failed_precondition, Blame::world, "start container: {}", failure_);
    }
    if (!ended_) {
        return fail(Code::internal, Blame::world, "the container's supervisor ended with status {}", init.code);
    }
    return end_;
}

}  // namespace cooper::run
