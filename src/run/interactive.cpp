#include "run/interactive.hpp"

#include "sys/terminal.hpp"

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <optional>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <thread>
#include <unistd.h>

namespace cooper::run {
namespace {

constexpr std::array kForwarded{SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH};

sigset_t forwarded_set() {
    sigset_t set;
    ::sigemptyset(&set);
    for (const int number : kForwarded) ::sigaddset(&set, number);
    return set;
}

// Carries stdin and signals to the container, on a thread of its own while the process runs.
class Forwarder {
public:
    Forwarder(const InteractiveOptions& options, bool tty, bool forward_stdin)
        : options_(options), tty_(tty), stdin_open_(tty && forward_stdin) {}
    ~Forwarder() {
        thread_.request_stop();
        const std::uint64_t one = 1;
        if (wake_.valid()) [[maybe_unused]]
            const ssize_t n = ::write(wake_.get(), &one, sizeof one);
    }

    Result<> prepare() {
        const sigset_t set = forwarded_set();
        signals_ = sys::Fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
        wake_ = sys::Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
        if (!signals_.valid() || !wake_.valid()) return fail_errno(errno, "prepare signal forwarding");
        return {};
    }
    void start(Streams::Control& control) {
        control_ = &control;
        if (tty_) resize();
        thread_ = std::jthread([this](const Stop& stop) noexcept { forward(stop); });
    }

private:
    void resize() {
        if (const auto size = sys::window_size(options_.stdin_fd)) {
            static_cast<void>(sys::set_window_size(control_->tty_master(), *size));
        }
    }
    void forward(const Stop& stop);
    void take_signals();
    void take_input();

    const InteractiveOptions& options_;
    const bool tty_;
    bool stdin_open_;
    Streams::Control* control_ = nullptr;
    sys::Fd signals_;
    sys::Fd wake_;
    std::jthread thread_;  // last: ends first
};

void Forwarder::take_signals() {
    signalfd_siginfo info{};
    while (::read(signals_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
        if (info.ssi_signo == SIGWINCH) {
            if (tty_) resize();
        } else {
            control_->signal(static_cast<int>(info.ssi_signo));
        }
    }
}

void Forwarder::take_input() {
    std::array<std::byte, 4096> buffer;
    const auto n = sys::read_some(options_.stdin_fd, buffer);
    if (!n || *n == 0) {
        stdin_open_ = false;
        // The end of file of a terminal is a character.
        constexpr char kEndOfTransmission = 4;
        [[maybe_unused]] const ssize_t sent = ::write(control_->tty_master(), &kEndOfTransmission, 1);
        return;
    }
    std::span<const std::byte> rest(buffer.data(), *n);
    while (!rest.empty()) {
        const ssize_t written = ::write(control_->tty_master(), rest.data(), rest.size());
        if (written > 0) {
            rest = rest.subspan(static_cast<std::size_t>(written));
            continue;
        }
        if (errno != EAGAIN && errno != EINTR) return;
        std::array<pollfd, 2> fds{{{control_->tty_master(), POLLOUT, 0}, {wake_.get(), POLLIN, 0}}};
        ::poll(fds.data(), fds.size(), -1);
        if (fds[1].revents != 0) return;
    }
}

void Forwarder::forward(const Stop& stop) {
    while (!stop.stop_requested()) {
        std::array<pollfd, 3> fds{
            {{wake_.get(), POLLIN, 0}, {signals_.get(), POLLIN, 0}, {stdin_open_ ? options_.stdin_fd : -1, POLLIN, 0}}};
        if (::poll(fds.data(), fds.size(), -1) < 0 && errno != EINTR) return;
        if (fds[1].revents != 0) take_signals();
        if (fds[2].revents != 0) take_input();
    }
}

}  // namespace

void block_forwarded_signals() {
    const sigset_t set = forwarded_set();
    ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

Result<Exit> run_interactive(Executor& executor, const ProcessSpec& spec, const InteractiveOptions& options,
                             const Stop& stop) {
    block_forwarded_signals();
    const bool forward_stdin = spec.stdin_mode == StdinMode::forward;
    std::optional<sys::RawMode> raw;
    if (spec.tty && forward_stdin && sys::is_terminal(options.stdin_fd)) {
        raw.emplace(TRY(sys::RawMode::enter(options.stdin_fd)));
    }
    Streams streams;
    if (spec.tty) {
        streams.output = [&options](int, std::string_view chunk) {
            static_cast<void>(sys::write_all(options.stdout_fd, chunk));
        };
    } else {
        // Without a terminal the process gets our own descriptors: nothing is copied.
        if (forward_stdin) streams.stdin_fd = options.stdin_fd;
        streams.stdout_fd = options.stdout_fd;
        streams.stderr_fd = options.stderr_fd;
    }
    std::optional<Forwarder> forwarder;
    forwarder.emplace(options, spec.tty, forward_stdin);
    TRY(forwarder->prepare());
    streams.started = [&](Streams::Control& control) {
        if (options.on_ports && !control.ports().empty()) options.on_ports(control.ports());
        forwarder->start(control);
    };
    streams.finished = [&forwarder] { forwarder.reset(); };
    streams.pausable = options.pausable;
    return executor.run(spec, streams, stop);
}

}  // namespace cooper::run
