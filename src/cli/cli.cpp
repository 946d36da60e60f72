#include "cli/cli.hpp"

#include "base/log.hpp"
#include "base/text.hpp"
#include "cli/command.hpp"
#include "run/interactive.hpp"
#include "sys/namespaces.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fmt/format.h>
#include <pthread.h>
#include <thread>
#include <unistd.h>

namespace cooper::cli {

namespace {

// SIGINT, SIGTERM and SIGHUP become a stop request; a second one ends the program at once.
class Signals {
public:
    Signals() {
        sigemptyset(&set_);
        for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&set_, signal);
        pthread_sigmask(SIG_BLOCK, &set_, nullptr);
        std::signal(SIGPIPE, SIG_IGN);
    }
    // `run` reads the signals itself, to hand them to the container: it takes them from a descriptor.
    // A shell starts its background jobs with SIGINT ignored; a container wants to hear it all the same.
    static void leave_to_container() {
        run::block_forwarded_signals();
        for (const int signal : {SIGINT, SIGQUIT}) std::signal(signal, SIG_DFL);
    }
    void start(StopSource& source) {
        thread_ = std::jthread([this, &source](const std::stop_token& end) {
            bool asked = false;
            while (!end.stop_requested()) {
                timespec wait{.tv_sec = 0, .tv_nsec = 200'000'000};
                if (sigtimedwait(&set_, nullptr, &wait) < 0) continue;
                if (end.stop_requested()) return;
                if (asked) ::_exit(130);
                asked = true;
                source.request_stop();
            }
        });
        handle_ = thread_.native_handle();
    }
    ~Signals() {
        if (!thread_.joinable()) return;
        thread_.request_stop();
        // Wakes sigtimedwait: a blocked signal sent to that thread is returned by it.
        pthread_kill(handle_, SIGHUP);
    }

private:
    sigset_t set_{};
    pthread_t handle_{};
    std::jthread thread_;
};

std::string closest_option(const CLI::App& app, const std::string& word) {
    std::vector<std::string> names;
    for (const CLI::Option* option : app.get_options()) {
        for (const auto& name : option->get_lnames()) names.push_back("--" + name);
    }
    return nearest(word.substr(0, word.find('=')), names).value_or("");
}

// Whether a command makes or removes files that belong to several users.
bool works_on_files(std::string_view command) {
    static const std::array<std::string_view, 13> kCommands = {
        "build", "lock", "cache", "run", "load", "pull", "push", "save", "prune", "du", "layers", "diff", "blame"};
    return std::find(kCommands.begin(), kCommands.end(), command) != kCommands.end();
}

// `cooper build --check` and `--call=…` write nothing that has an owner.
bool is_question(int argc, char** argv) {
    for (int i = 1; i < argc; ++i) {
        const std::string_view word = argv[i];
        if (word == "--check" || (word.starts_with("--call=") && word != "--call=build")) return true;
        if (word == "--call" && i + 1 < argc && std::string_view(argv[i + 1]) != "build") return true;
    }
    return false;
}

int usage_error(const CLI::App& app, const std::string& what) {
    fmt::print(stderr, "error: {}\n", what);
    fmt::print(stderr, "see '{} --help'\n", app.get_name());
    return 2;
}

void add_globals(CLI::App& app, GlobalOptions& global) {
    app.add_option("--root", global.root, "State directory [$COOPER_ROOT, /var/lib/cooper]")->type_name("DIR");
    app.add_option("--config", global.config_file, "Configuration file [/etc/cooper/cooper.toml]")->type_name("FILE");
    app.add_option("--builder", global.builder, "Build at this daemon [$BUILDKIT_HOST, none]")->type_name("ADDRESS");
    app.add_option("--tlsdir", global.tls_dir, "ca.pem, cert.pem and key.pem for --builder tcp://…")->type_name("DIR");
    app.add_flag("-D,--debug", global.debug, "Print what happens inside on standard error");
}

void print_help(const std::vector<Command>& commands) {
    fmt::print(
        "cooper builds container images from Dockerfiles. No daemon needed.\n\n"
        "Usage: cooper [--root DIR] [--config FILE] COMMAND [OPTIONS]\n\nCommands:\n");
    for (const auto& command : commands) {
        if (!command.hidden) fmt::print("  {:<12}{}\n", command.name, command.summary);
    }
    fmt::print(
        "\nGlobal options:\n"
        "  --root DIR      State directory [$COOPER_ROOT, else /var/lib/cooper for root]\n"
        "  --config FILE   Configuration [/etc/cooper/cooper.toml]\n"
        "  --builder ADDR  Build at a daemon: unix://PATH, tcp://HOST:PORT, … [$BUILDKIT_HOST]\n"
        "  --tlsdir DIR    ca.pem, cert.pem and key.pem for that\n"
        "  -D, --debug     Print what happens inside on standard error\n\n"
        "Examples:\n"
        "  cooper build -t shop/api .\n"
        "  cooper run --rm -p 8080:80 shop/api\n"
        "  cooper images\n\n"
        "Run 'cooper COMMAND --help' for the options of a command.\n");
}

// Index of the command word in argv, skipping global options and their values.
int command_index(int argc, char** argv) {
    for (int i = 1; i < argc; ++i) {
        const std::string_view word = argv[i];
        if (word == "--root" || word == "--config" || word == "--builder" || word == "--tlsdir") {
            ++i;
        } else if (!word.starts_with('-')) {
            return i;
        }
    }
    return argc;
}

// Whether a build is for a daemon: known before anything is parsed, as another program must then do it.
bool names_daemon(const std::vector<char*>& words) {
    const char* host = std::getenv("BUILDKIT_HOST");
    if (host != nullptr && *host != '\0') return true;
    return std::any_of(words.begin() + 1, words.end(), [](const char* word) {
        const std::string_view text = word;
        return text == "--builder" || text.starts_with("--builder=");
    });
}

// Whether images go into containerd, whose API is gRPC: another program must then do it.
bool names_containerd(const std::string& command, const std::vector<char*>& words) {
    const std::string_view flag = command == "save" ? "--containerd" : command == "build" ? "--load=containerd" : "";
    return !flag.empty() && std::any_of(words.begin() + 1, words.end(), [&](const char* word) { return word == flag; });
}

// A state directory that is named is looked into, whatever daemon there may be.
bool names_root(const std::vector<char*>& words) {
    const char* root = std::getenv("COOPER_ROOT");
    if (root != nullptr && *root != '\0') return true;
    return std::any_of(words.begin() + 1, words.end(), [](const char* word) {
        const std::string_view text = word;
        return text == "--root" || text.starts_with("--root=");
    });
}

// What a daemon built it tells itself: `cooper why` and `cooper logs` are its client's `debug why` and `debug logs`.
Error ask_daemon(const std::string& command, const std::vector<char*>& words, int at) {
    static std::vector<std::string> made;
    made = {"buildctl"};
    std::vector<std::string> rest;
    bool list = false;
    for (std::size_t i = 1; i < words.size(); ++i) {
        const std::string word = words[i];
        if (static_cast<int>(i) == at) continue;
        if (word == "--builder" && i + 1 < words.size()) {
            made.emplace_back("--addr");
            made.emplace_back(words[++i]);
        } else if (word.starts_with("--builder=")) {
            made.push_back("--addr=" + word.substr(10));
        } else if (command == "logs" && (word == "-l" || word == "--list")) {
            list = true;
        } else {
            rest.push_back(word);
        }
    }
    made.emplace_back("debug");
    made.push_back(list ? "histories" : command);
    if (command == "logs" && !list) made.emplace_back("--progress=plain");
    made.insert(made.end(), rest.begin(), rest.end());
    std::vector<char*> arguments;
    for (auto& word : made) arguments.push_back(word.data());
    return become_client("buildctl", std::move(arguments));
}

bool takes_value(const CLI::App& app, const std::string& name) {
    const CLI::Option* option = app.get_option_no_throw(name);
    return option != nullptr && option->get_items_expected_min() > 0;
}

// The first word that is an option for nobody here: behind "--", or a word of the program that is to be run.
int end_of_options(const CLI::App& app, int argc, char** argv, int at) {
    for (int i = 1; i < argc; ++i) {
        const std::string word = argv[i];
        if (i == at) continue;
        if (word == "--") return i;
        if (word == "-" || !word.starts_with('-')) {
            if (app.get_positionals_at_end()) return i;
        } else if (word.starts_with("--")) {
            if (takes_value(app, word)) ++i;
        } else {
            // "-it", "-eNAME=VALUE", "-e NAME=VALUE"
            std::size_t letter = 1;
            while (letter < word.size() && !takes_value(app, std::string("-") + word[letter])) ++letter;
            if (letter + 1 == word.size()) ++i;
        }
    }
    return argc;
}

int run_command(const Command& command, int argc, char** argv, int at, StopSource& source, RemoteBuilder* remote) {
    GlobalOptions global;
    CLI::App app(command.summary, "cooper " + command.name);
    app.set_help_flag("-h,--help", "Show this help");
    add_globals(app, global);
    const Action action = command.setup(app);
    if (!command.examples.empty()) app.footer("Examples:\n" + command.examples);
    std::vector<std::string> words;  // CLI11 wants them reversed
    const int end = end_of_options(app, argc, argv, at);
    for (int i = argc - 1; i >= 1; --i) {
        if (i == at) continue;
        std::string word = argv[i];
        // "--sbom=" is an empty value; CLI11 would take the next word for it.
        if (i < end && word.starts_with("--") && word.find('=') == word.size() - 1) {
            word.pop_back();
            if (takes_value(app, word)) {
                words.emplace_back();
            } else {
                word += '=';
            }
        }
        words.push_back(std::move(word));
    }
    try {
        app.parse(std::move(words));
    } catch (const CLI::CallForHelp&) {
        fmt::print("{}", app.help());
        return 0;
    } catch (const CLI::ExtrasError& error) {
        std::string what = error.what();
        for (const auto& word : app.remaining()) {
            if (!word.starts_with('-')) continue;
            const std::string near = closest_option(app, word);
            what = fmt::format("unknown flag: {}{}", word, near.empty() ? "" : fmt::format(", did you mean {}?", near));
            break;
        }
        return usage_error(app, what);
    } catch (const CLI::ParseError& error) {
        return usage_error(app, error.what());
    }
    if (global.debug) log::set_level(log::Level::debug);
    if (const char* host = std::getenv("BUILDKIT_HOST"); global.builder.empty() && host != nullptr) {
        global.builder = host;
    }
    Session session{global, source.get_token(), remote};
    const Result<int> result = action(session);
    if (result) return *result;
    if (result.error().is_cancelled() || source.stop_requested()) {
        fmt::print(stderr, "canceled\n");
        return 130;
    }
    print_error(result.error());
    if (command.name != "run") return 1;
    // 126 and 127: the container was there, its program was not.
    const auto* status = result.error().find_detail<ExitStatus>();
    return status != nullptr && status->code != 0 ? status->code : 125;
}

}  // namespace

int main(int argc, char** argv, RemoteBuilder* remote) {
    const std::vector<Command> commands = all_commands();
    const int at = command_index(argc, argv);
    if (at == argc) {
        const bool version =
            argc > 1 && (std::string_view(argv[1]) == "--version" || std::string_view(argv[1]) == "-v");
        if (version) {
            fmt::print("cooper version {}\n", COOPER_VERSION);
            return 0;
        }
        const bool asked =
            argc > 1 && (std::string_view(argv[argc - 1]) == "--help" || std::string_view(argv[argc - 1]) == "-h");
        print_help(commands);
        return asked ? 0 : 2;
    }
    std::string name = argv[at];
    std::vector<char*> words(argv, argv + argc);
    // `cooper builder prune`, `cooper buildx build`, `cooper image ls`: docker's groups are accepted.
    static const std::array<std::string_view, 3> kGroups = {"builder", "buildx", "image"};
    if (std::find(kGroups.begin(), kGroups.end(), name) != kGroups.end() && at + 1 < argc) {
        const bool buildx = name == "buildx";
        words.erase(words.begin() + at);
        name = words[static_cast<std::size_t>(at)];
        if (buildx && (name == "create" || name == "use")) {
            // Scripts make a builder before they build. There is none to make.
            fmt::print("cooper\n");
            fmt::print(stderr, "cooper builds by itself: there is no builder to make or to choose\n");
            return 0;
        }
        if (name == "ls") name = "images";
        if (name == "rm") name = "rmi";
    }
    if (name == "help") {
        print_help(commands);
        return 0;
    }
    if (name == "buildctl") {
        words.erase(words.begin() + 1, words.begin() + at + 1);
        print_error(become_client("buildctl", std::move(words)));
        return 1;
    }
    const auto found = std::find_if(commands.begin(), commands.end(), [&](const auto& c) { return c.name == name; });
    if (found == commands.end()) {
        std::vector<std::string> names;
        for (const auto& command : commands) names.push_back(command.name);
        const auto near = nearest(name, names);
        fmt::print(stderr, "error: cooper has no command {}{}\nsee 'cooper --help'\n", quoted(name),
                   near ? fmt::format(", did you mean {}?", *near) : "");
        return 2;
    }
    if ((name == "why" || name == "logs") && names_daemon(words) && !names_root(words)) {
        print_error(ask_daemon(name, words, at));
        return 1;
    }
    const bool at_daemon = name == "build" && names_daemon(words);
    if ((at_daemon || names_containerd(name, words)) && remote == nullptr) {
        print_error(become_client("cooper", std::vector<char*>(argv, argv + argc)));
        return 1;
    }
    if (::geteuid() != 0 && works_on_files(name) && !at_daemon && !(name == "build" && is_question(argc, argv))) {
        // A user builds as root of a user namespace of his own. One thread so far, as that needs.
        ::setenv("COOPER_ROOTLESS", "1", 1);
        auto entered = sys::enter_user_namespace(Stop{});
        if (entered) entered = sys::enter_private_mount_namespace();
        if (!entered) {
            print_error(entered.error());
            return name == "run" ? 125 : 1;
        }
    }
    Signals signals;
    StopSource source;
    if (name == "run") {
        Signals::leave_to_container();
    } else {
        signals.start(source);
    }
    return run_command(*found, static_cast<int>(words.size()), words.data(), at, source, remote);
}

}  // namespace cooper::cli
