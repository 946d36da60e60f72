// cooperd: the program that speaks BuildKit's API. Its name decides which side it is: `buildctl` and `cooper` (for
// builds at a daemon) are clients; any other, `cooperd` and `buildkitd` among them, is the daemon. SIGTERM or SIGINT
// end it: builds that run have a while to finish, then they are cancelled; a second signal cancels them at once.
#include "apps/cooperd/first_process.hpp"
#include "apps/cooperd/options.hpp"
#include "apps/cooperd/service_manager.hpp"
#include "buildctl/buildctl.hpp"
#include "buildctl/remote_build.hpp"
#include "cli/cli.hpp"
#include "sys/namespaces.hpp"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fmt/format.h>
#include <thread>
#include <unistd.h>

namespace cooper::cooperd {
namespace {

constexpr auto kGrace = std::chrono::seconds(10);

void print_error(const Error& error) {
    fmt::print(stderr, "cooperd: {}\n", error.to_string());
    if (!error.hint().empty()) fmt::print(stderr, "  {}\n", error.hint());
}

// A user's daemon is root of a user namespace of its own. One thread so far, as that needs.
Result<> become_root_of_a_namespace() {
    if (::geteuid() == 0) return {};
    ::setenv("COOPER_ROOTLESS", "1", 1);
    TRY(sys::enter_user_namespace(Stop{}));
    return sys::enter_private_mount_namespace();
}

int serve(const Invocation& invocation) {
    if (const auto entered = become_root_of_a_namespace(); !entered) {
        print_error(entered.error());
        return 1;
    }
    // Blocked in all threads, which inherit it; this one waits for them.
    sigset_t ending;
    sigemptyset(&ending);
    for (const int signal : {SIGTERM, SIGINT}) sigaddset(&ending, signal);
    pthread_sigmask(SIG_BLOCK, &ending, nullptr);
    std::signal(SIGPIPE, SIG_IGN);
    log::set_level(invocation.log_level);
    auto server = daemon::Server::start(invocation.options);
    if (!server) {
        print_error(server.error());
        return 1;
    }
    notify_service_manager("READY=1");
    int signal = 0;
    while (sigwait(&ending, &signal) != 0) {
    }
    notify_service_manager("STOPPING=1");
    log::info("ending", {{"grace", fmt::format("{}s", kGrace.count())}});
    std::jthread impatience([&](const std::stop_token& done) {
        while (!done.stop_requested()) {
            const timespec wait{.tv_sec = 0, .tv_nsec = 50'000'000};
            if (sigtimedwait(&ending, nullptr, &wait) > 0) (*server)->cancel_builds();
        }
    });
    (*server)->shutdown(kGrace);
    return 0;
}

}  // namespace
}  // namespace cooper::cooperd

int main(int argc, char** argv) {
    std::string_view name = argc > 0 ? argv[0] : "";
    name.remove_prefix(name.rfind('/') + 1);
    if (name == "buildctl") return cooper::buildctl::main(argc, argv);
    if (name == "cooper") {
        cooper::buildctl::DaemonBuilder builder;
        return cooper::cli::main(argc, argv, &builder);
    }
    const auto invocation = cooper::cooperd::read_command_line(std::vector<std::string>(argv, argv + argc));
    if (!invocation) {
        cooper::cooperd::print_error(invocation.error());
        return 1;
    }
    if (invocation->kind == cooper::cooperd::Invocation::Kind::print) {
        fmt::print("{}", invocation->text);
        return 0;
    }
    if (::getpid() == 1 && ::geteuid() != 0) {
        const auto status = cooper::cooperd::watch_over_daemon(std::vector<std::string>(argv, argv + argc));
        if (status) return *status;
        cooper::cooperd::print_error(status.error());
        return 1;
    }
    return cooper::cooperd::serve(*invocation);
}
