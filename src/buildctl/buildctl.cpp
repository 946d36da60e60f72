#include "buildctl/buildctl.hpp"

#include "base/log.hpp"
#include "buildctl/command.hpp"
#include "buildctl/job.hpp"
#include "cli/command.hpp"
#include "client/control.hpp"

#include <CLI/CLI.hpp>
#include <csignal>
#include <fmt/format.h>
#include <pthread.h>
#include <thread>
#include <unistd.h>

namespace cooper::buildctl {

namespace {

// SIGINT and SIGTERM become a stop request; a second one ends the program at once. Made before other threads.
class Signals {
public:
    explicit Signals(StopSource& source) {
        sigemptyset(&set_);
        for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&set_, signal);
        pthread_sigmask(SIG_BLOCK, &set_, nullptr);
        std::signal(SIGPIPE, SIG_IGN);
        thread_ = std::jthread([this, &source](const std::stop_token& end) {
            while (!end.stop_requested()) {
                const timespec wait{.tv_sec = 0, .tv_nsec = 100'000'000};
                if (sigtimedwait(&set_, nullptr, &wait) < 0) continue;
                if (source.stop_requested()) ::_exit(130);
                source.request_stop();
            }
        });
    }

private:
    sigset_t set_{};
    std::jthread thread_;
};

struct Globals {
    std::string address;
    std::string server_name, ca, certificate, key, directory;
    int timeout_seconds = 5;
    bool debug = false;
    bool wait = false;
};

void add_globals(CLI::App& app, Globals& globals) {
    globals.address = client::default_address();
    app.add_flag("--debug", globals.debug, "Print what happens inside on standard error");
    app.add_option("--addr", globals.address, "Address of the daemon [$BUILDKIT_HOST, its own socket]")
        ->type_name("ADDRESS");
    app.add_option("--tlsservername", globals.server_name, "Name in the daemon's certificate")->type_name("NAME");
    app.add_option("--tlscacert", globals.ca, "Certificates that the daemon's is checked against")->type_name("FILE");
    app.add_option("--tlscert", globals.certificate, "Certificate of this client")->type_name("FILE");
    app.add_option("--tlskey", globals.key, "Its key")->type_name("FILE");
    app.add_option("--tlsdir", globals.directory, "Folder with ca.pem, cert.pem and key.pem")->type_name("DIR");
    app.add_option("--timeout", globals.timeout_seconds, "Seconds to wait for a connection")->type_name("SECONDS");
    app.add_flag("--wait", globals.wait, "Wait until the daemon answers");
}

Result<Context> to_context(const Globals& globals, const Stop& stop) {
    Context context{.daemon = {.address = globals.address, .tls = tls_of_directory(globals.directory)}, .stop = stop};
    client::TlsFiles& tls = context.daemon.tls;
    const bool files = !globals.ca.empty() || !globals.certificate.empty() || !globals.key.empty();
    if (files && !globals.directory.empty())
        return bad_input("--tlsdir and --tlscacert, --tlscert, --tlskey exclude each other");
    if (!globals.ca.empty()) tls.ca = globals.ca;
    if (!globals.certificate.empty()) tls.certificate = globals.certificate;
    if (!globals.key.empty()) tls.key = globals.key;
    tls.server_name = globals.server_name;
    if (globals.timeout_seconds <= 0)
        return bad_input("--timeout {}: want a number of seconds", globals.timeout_seconds);
    context.daemon.timeout = std::chrono::seconds(globals.timeout_seconds);
    context.wait = globals.wait;
    return context;
}

int report(const Result<int>& result, const Stop& stop) {
    if (result) return *result;
    if (stop.stop_requested()) {
        fmt::print(stderr, "error: canceled\n");
        return 130;
    }
    cli::print_error(result.error());
    return 1;
}

}  // namespace

Result<std::unique_ptr<client::Connection>> Context::connect() const {
    while (true) {
        auto connection = client::Connection::open(daemon, stop);
        if (!wait) return connection;
        if (connection && client::info(**connection, stop)) return connection;
        TRY(check_stop(stop));
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
}

int main(int argc, char** argv) {
    StopSource source;
    const Signals signals(source);
    Globals globals;
    CLI::App app("Client of a BuildKit daemon", "buildctl");
    app.set_help_flag("-h,--help", "Show this help");
    app.set_version_flag("-v,--version", std::string("buildctl github.com/moby/buildkit cooper-") + COOPER_VERSION);
    app.require_subcommand(1);
    add_globals(app, globals);
    Action action;
    const auto add = [&](CLI::App& parent, const Command& command) {
        CLI::App* sub = parent.add_subcommand(command.name, command.summary);
        sub->callback([&action, chosen = command.setup(*sub)] { action = chosen; });
    };
    add(app, build_command());
    for (const auto& command : store_commands()) add(app, command);
    CLI::App* debug = app.add_subcommand("debug", "Look into the daemon");
    debug->require_subcommand(1);
    for (const auto& command : debug_commands()) add(*debug, command);
    add(app, dial_stdio_command());
    try {
        app.parse(argc, argv);
    } catch (const CLI::Success& asked) {
        return app.exit(asked);
    } catch (const CLI::ParseError& error) {
        fmt::print(stderr, "error: {}\nsee 'buildctl --help'\n", error.what());
        return 1;
    }
    if (globals.debug) log::set_level(log::Level::debug);
    const auto context = to_context(globals, source.get_token());
    if (!context) return report(context.error(), Stop());
    return report(action(*context), source.get_token());
}

}  // namespace cooper::buildctl
