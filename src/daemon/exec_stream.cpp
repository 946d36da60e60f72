#include "daemon/detail/exec_stream.hpp"

#include "base/text.hpp"
#include "llb/marshal.hpp"
#include "rpc/status.hpp"

#include <array>
#include <csignal>
#include <deque>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <thread>
#include <unistd.h>

namespace cooper::daemon::detail {

namespace {

namespace wire = moby::buildkit::v1::frontend;

constexpr std::size_t kMaxProcesses = 64;
// What a process has not read yet of what the client sent.
constexpr std::size_t kMaxPendingInput = 16U << 20U;

std::optional<int> signal_number(std::string_view name) {
    struct Known {
        std::string_view name;
        int number;
    };
    static constexpr std::array kKnown = {
        Known{"ABRT", SIGABRT}, Known{"ALRM", SIGALRM}, Known{"CONT", SIGCONT}, Known{"HUP", SIGHUP},
        Known{"INT", SIGINT},   Known{"KILL", SIGKILL}, Known{"PIPE", SIGPIPE}, Known{"QUIT", SIGQUIT},
        Known{"STOP", SIGSTOP}, Known{"TERM", SIGTERM}, Known{"TSTP", SIGTSTP}, Known{"TTIN", SIGTTIN},
        Known{"TTOU", SIGTTOU}, Known{"USR1", SIGUSR1}, Known{"USR2", SIGUSR2}, Known{"WINCH", SIGWINCH},
    };
    if (name.starts_with("SIG")) name.remove_prefix(3);
    for (const auto& one : kKnown) {
        if (one.name == name) return one.number;
    }
    return std::nullopt;
}

// The rest of an ExecOp, through the one door for its bytes.
Result<llb::ExecOp> exec_of(const wire::InitMessage& init) {
    pb::Op op;
    *op.mutable_exec()->mutable_meta() = init.meta();
    op.mutable_exec()->set_security(init.security());
    *op.mutable_exec()->mutable_secretenv() = init.secretenv();
    const llb::Op parsed = TRY(llb::parse_op(op.SerializeAsString()));
    const auto* exec = std::get_if<llb::ExecOp>(&parsed.body);
    if (exec == nullptr || exec->meta.args.empty()) return bad_input("a process needs arguments");
    return *exec;
}

}  // namespace

class ExecStream::Process {
public:
    Process(ExecStream& owner, std::string id) : owner_(owner), id_(std::move(id)) {}
    ~Process() { stop_.request_stop(); }

    Result<> start(std::shared_ptr<LiveContainer> container, const wire::InitMessage& init, const Stop& stop) {
        const llb::ExecOp exec = TRY(exec_of(init));
        process_.meta = exec.meta;
        process_.security = exec.security;
        process_.secret_env = exec.secret_env;
        process_.tty = init.tty();
        reads_ = std::ranges::find(init.fds(), 0U) != init.fds().end();
        if (reads_ && !process_.tty) {
            std::array<int, 2> ends{};
            if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno(errno, "pipe");
            stdin_read_ = sys::Fd(ends[0]);
            input_.lock()->fd = ends[1];
            stdin_write_ = sys::Fd(ends[1]);
            process_.streams.stdin_fd = stdin_read_.get();
        }
        process_.streams.output = [this](int stream, std::string_view text) {
            wire::ExecMessage message;
            message.mutable_file()->set_fd(static_cast<std::uint32_t>(stream));
            message.mutable_file()->set_data(text.data(), text.size());
            send(std::move(message));
        };
        process_.streams.started = [this](run::Streams::Control& control) {
            auto input = input_.lock();
            input->control = &control;
            if (process_.tty) input->fd = control.tty_master();
            input_.notify_all();
        };
        process_.streams.finished = [this] {
            auto input = input_.lock();
            input->control = nullptr;
            if (process_.tty) input->fd = -1;
            input->closed = true;
            input_.notify_all();
        };
        wire::ExecMessage started;
        started.mutable_started();
        send(std::move(started));
        container_ = std::move(container);
        feeder_ = std::jthread([this] { feed(); });
        runner_ = std::jthread([this, stop] { run(stop); });
        return {};
    }

    void take(const wire::ExecMessage& message) {
        switch (message.Input_case()) {
            case wire::ExecMessage::kFile: {
                auto input = input_.lock();
                if (message.file().fd() != 0 || input->ended) return;
                if (input->pending.size() + message.file().data().size() > kMaxPendingInput) {
                    // It does not read; what comes now is lost to it.
                    input->ended = true;
                } else {
                    input->pending += message.file().data();
                    if (message.file().eof()) input->ended = true;
                }
                input_.notify_all();
                return;
            }
            case wire::ExecMessage::kSignal: {
                const auto number = signal_number(message.signal().name());
                auto input = input_.lock();
                if (number && input->control != nullptr) input->control->signal(*number);
                return;
            }
            case wire::ExecMessage::kResize: {
                auto input = input_.lock();
                if (!process_.tty || input->control == nullptr) return;
                winsize size{};
                size.ws_row = static_cast<unsigned short>(message.resize().rows());
                size.ws_col = static_cast<unsigned short>(message.resize().cols());
                static_cast<void>(::ioctl(input->control->tty_master(), TIOCSWINSZ, &size));
                return;
            }
            default:
                return;
        }
    }

    void cancel() { stop_.request_stop(); }
    void join() {
        if (runner_.joinable()) runner_.join();
    }

private:
    struct Input {
        std::string pending;
        int fd = -1;          // where input goes: a pipe or the terminal
        bool ended = false;   // the client sends no more
        bool closed = false;  // the process is over
        run::Streams::Control* control = nullptr;
    };

    void send(wire::ExecMessage message) {
        message.set_processid(id_);
        owner_.send(message);
    }

    void feed() {
        while (true) {
            std::string chunk;
            int fd = -1;
            {
                auto input = input_.lock();
                input.wait(
                    [&] { return input->closed || (input->fd >= 0 && (!input->pending.empty() || input->ended)); });
                if (input->closed) return;
                if (input->pending.empty()) {
                    // A terminal has its own sign for the end.
                    if (process_.tty) {
                        static_cast<void>(::write(input->fd, "\x04", 1));
                    } else {
                        input->fd = -1;
                        stdin_write_ = sys::Fd();
                    }
                    return;
                }
                chunk.swap(input->pending);
                // The terminal is the executor's: it may go as soon as the lock is let go.
                fd = ::fcntl(input->fd, F_DUPFD_CLOEXEC, 3);
            }
            const sys::Fd out(fd);
            if (!out.valid() || !sys::write_all(out.get(), chunk)) return;
        }
    }

    void run(const Stop& stop) {
        const std::stop_callback of_call(stop, [this] { stop_.request_stop(); });
        const auto exit = container_->run(process_, stop_.get_token());
        {
            auto input = input_.lock();
            input->closed = true;
        }
        input_.notify_all();
        // A writer that waits for a reader gets its answer.
        stdin_read_ = sys::Fd();
        feeder_.join();
        for (const std::uint32_t fd : {1U, 2U}) {
            wire::ExecMessage end;
            end.mutable_file()->set_fd(fd);
            end.mutable_file()->set_eof(true);
            send(std::move(end));
        }
        wire::ExecMessage message;
        if (exit) {
            message.mutable_exit()->set_code(static_cast<std::uint32_t>(exit->code));
            if (exit->code != 0) {
                rpc::to_message(fail(Code::unknown, Blame::user, "exit code: {}", exit->code).with_detail(*exit), {},
                                *message.mutable_exit()->mutable_error());
            }
        } else {
            const auto* status = exit.error().find_detail<ExitStatus>();
            message.mutable_exit()->set_code(status != nullptr ? static_cast<std::uint32_t>(status->code) : 255);
            rpc::to_message(exit.error(), {}, *message.mutable_exit()->mutable_error());
        }
        send(std::move(message));
        wire::ExecMessage done;
        done.mutable_done();
        send(std::move(done));
    }

    ExecStream& owner_;
    std::string id_;
    engine::ContainerProcess process_;
    bool reads_ = false;
    std::shared_ptr<LiveContainer> container_;
    StopSource stop_;
    Guarded<Input> input_;
    sys::Fd stdin_read_;
    sys::Fd stdin_write_;
    std::jthread feeder_;
    std::jthread runner_;
};

ExecStream::ExecStream(Conversation& conversation, ExecMessages& messages)
    : conversation_(conversation), messages_(messages) {}

ExecStream::~ExecStream() = default;

void ExecStream::send(const wire::ExecMessage& message) {
    auto writing = writing_.lock();
    static_cast<void>(messages_.Write(message));
}

Result<> ExecStream::begin(const std::string& id, const wire::InitMessage& init, const Stop& stop) {
    if (processes_.contains(id))
        return fail(Code::already_exists, Blame::user, "there is a process {} already", quoted(id));
    if (processes_.size() >= kMaxProcesses)
        return fail(Code::resource_exhausted, Blame::user, "more than {} processes in one call", kMaxProcesses);
    auto process = std::make_unique<Process>(*this, id);
    TRY(process->start(TRY(conversation_.find_container(init.containerid())), init, stop));
    processes_.emplace(id, std::move(process));
    return {};
}

Result<> ExecStream::serve(const Stop& stop) {
    wire::ExecMessage message;
    Result<> result;
    while (result && messages_.Read(&message)) {
        const std::string& id = message.processid();
        if (message.has_init()) {
            result = begin(id, message.init(), stop);
        } else if (const auto found = processes_.find(id); found != processes_.end()) {
            found->second->take(message);
        } else {
            result = fail(Code::not_found, Blame::user, "no process {} was started", quoted(id));
        }
    }
    if (!result || stop.stop_requested()) {
        for (auto& [id, process] : processes_) process->cancel();
    }
    for (auto& [id, process] : processes_) process->join();
    return result;
}

}  // namespace cooper::daemon::detail
