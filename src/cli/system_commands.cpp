#include "base/text.hpp"
#include "cli/build_flags.hpp"
#include "cli/command.hpp"
#include "sys/fd.hpp"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <iostream>
#include <termios.h>
#include <unistd.h>

namespace cooper::cli {

namespace {

struct Flags {
    std::vector<std::string> filters;
    std::string keep_storage, host, user, password, ref;
    bool all = false, force = false, verbose = false, password_stdin = false, why_kept = false, dry_run = false;
};

std::string shortened(const std::string& text, std::size_t limit) {
    return text.size() > limit ? text.substr(0, limit - 3) + "..." : text;
}

Result<int> print_why_kept(Session& session) {
    const auto engine = TRY(session.open_engine());
    std::vector<std::vector<std::string>> rows = {{"ID", "SIZE", "KEPT BY", "FREED BY", "DESCRIPTION"}};
    std::uint64_t total = 0;
    for (const auto& row : TRY(engine->why_kept())) {
        total += row.usage.size_bytes;
        rows.push_back({row.usage.id, human_size(row.usage.size_bytes), join(row.by, "; "), join(row.freed_by, "; "),
                        shortened(row.usage.description, 60)});
    }
    print_table(rows);
    fmt::print("Total:\t{}\n", human_size(total));
    return 0;
}

Action setup_du(CLI::App& app) {
    auto flags = std::make_shared<Flags>();
    app.add_flag("-v,--verbose", flags->verbose, "Every field of every record");
    app.add_flag("--why-kept", flags->why_kept, "What holds each record, and what would free it");
    return [flags](Session& session) -> Result<int> {
        if (flags->why_kept) return print_why_kept(session);
        const auto engine = TRY(session.open_engine());
        std::uint64_t total = 0;
        std::uint64_t reclaimable = 0;
        std::vector<std::vector<std::string>> rows = {{"ID", "RECLAIMABLE", "SIZE", "LAST ACCESSED", "DESCRIPTION"}};
        for (const auto& row : TRY(engine->disk_usage())) {
            total += row.size_bytes;
            if (!row.in_use) reclaimable += row.size_bytes;
            const std::string last = row.last_used ? ago(*row.last_used) : "";
            if (flags->verbose) {
                fmt::print(
                    "ID:\t\t{}\nType:\t\t{}\nReclaimable:\t{}\nShared:\t\t{}\nSize:\t\t{}\nUsage count:\t{}\n"
                    "Last used:\t{}\nDescription:\t{}\n\n",
                    row.id, row.record_type, !row.in_use, row.shared, human_size(row.size_bytes), row.usage_count, last,
                    row.description);
            } else {
                rows.push_back({row.id, row.in_use ? "false" : "true", human_size(row.size_bytes), last,
                                shortened(row.description, 60)});
            }
        }
        if (!flags->verbose) print_table(rows);
        fmt::print("Reclaimable:\t{}\nTotal:\t\t{}\n", human_size(reclaimable), human_size(total));
        return 0;
    };
}

Action setup_prune(CLI::App& app) {
    auto flags = std::make_shared<Flags>();
    app.add_flag("-a,--all", flags->all, "Everything that no image needs, not only what is unreferenced");
    app.add_option("--filter", flags->filters, "until=24h, type==exec.cachemount, id==…")
        ->type_name("FILTER")
        ->allow_extra_args(false);
    app.add_option("--keep-storage,--reserved-space", flags->keep_storage,
                   "Keep this much: what is made again at the least cost goes first")
        ->type_name("BYTES");
    app.add_flag("--dry-run", flags->dry_run, "Only say what would be removed");
    app.add_flag("-f,--force", flags->force, "Do not ask");
    return [flags](Session& session) -> Result<int> {
        engine::PruneRequest request{
            .all = flags->all, .dry_run = flags->dry_run, .filters = flags->filters, .keep_storage_bytes = 0};
        if (!flags->keep_storage.empty())
            request.keep_storage_bytes = static_cast<std::uint64_t>(TRY(parse_memory(flags->keep_storage)));
        if (!flags->force && !flags->dry_run && ::isatty(STDIN_FILENO) == 1) {
            fmt::print("WARNING! This will remove {}. Are you sure you want to continue? [y/N] ",
                       flags->all ? "all build cache that no image uses" : "all dangling build cache");
            std::string answer;
            std::getline(std::cin, answer);
            if (to_lower(answer) != "y" && to_lower(answer) != "yes") return 1;
        }
        const auto engine = TRY(session.open_engine());
        const auto response = TRY(engine->prune(request));
        std::vector<std::vector<std::string>> rows = {{"ID", "SIZE", "DESCRIPTION"}};
        for (const auto& row : response.removed) rows.push_back({row.id, human_size(row.size_bytes), row.description});
        if (rows.size() > 1) print_table(rows);
        fmt::print("Total:\t{}\n", human_size(response.freed_bytes));
        return 0;
    };
}

Action setup_version(CLI::App& /*app*/) {
    return [](Session& /*session*/) -> Result<int> {
        fmt::print("cooper version {}\nbuilder: BuildKit compatible (LLB)\n", COOPER_VERSION);
        return 0;
    };
}

Action setup_info(CLI::App& /*app*/) {
    return [](Session& session) -> Result<int> {
        const auto engine = TRY(session.open_engine());
        for (const auto& row : TRY(engine->info())) fmt::print("{:<20}{}\n", row.key + ":", row.value);
        return 0;
    };
}

Action setup_logs(CLI::App& app) {
    auto flags = std::make_shared<Flags>();
    app.add_option("BUILD", flags->ref, "Id of a build, or its first characters [the newest]");
    app.add_flag("-l,--list", flags->all, "List the builds");
    return [flags](Session& session) -> Result<int> {
        const auto engine = TRY(session.open_engine());
        if (!flags->all) {
            fmt::print("{}", TRY(engine->build_log(flags->ref)));
            return 0;
        }
        std::vector<std::vector<std::string>> rows = {
            {"BUILD", "STARTED", "DURATION", "STEPS", "CACHED", "STATUS", "WHAT"}};
        for (const auto& row : TRY(engine->list_builds())) {
            const double took = row.completed ? std::chrono::duration<double>(*row.completed - row.started).count() : 0;
            rows.push_back({row.ref, ago(row.started), row.completed ? fmt::format("{:.1f}s", took) : "",
                            std::to_string(row.steps), std::to_string(row.cached_steps),
                            !row.completed      ? "unfinished"
                            : row.error.empty() ? "done"
                                                : "failed",
                            row.description});
        }
        print_table(rows);
        return 0;
    };
}

Result<std::string> ask_password() {
    if (::isatty(STDIN_FILENO) != 1) {
        return bad_input("no terminal to ask for a password").with_hint("use --password-stdin");
    }
    termios old{};
    ::tcgetattr(STDIN_FILENO, &old);
    termios silent = old;
    silent.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    ::tcsetattr(STDIN_FILENO, TCSANOW, &silent);
    fmt::print("Password: ");
    std::fflush(stdout);
    std::string password;
    std::getline(std::cin, password);
    ::tcsetattr(STDIN_FILENO, TCSANOW, &old);
    fmt::print("\n");
    return password;
}

Action setup_login(CLI::App& app) {
    auto flags = std::make_shared<Flags>();
    app.add_option("-u,--username", flags->user, "User name")->type_name("NAME");
    app.add_option("-p,--password", flags->password, "Password (visible to others on this machine)")->type_name("TEXT");
    app.add_flag("--password-stdin", flags->password_stdin, "Read the password from standard input");
    app.add_option("REGISTRY", flags->host, "Registry [docker.io]");
    return [flags](Session& session) -> Result<int> {
        if (flags->user.empty()) return bad_input("login needs a user name").with_hint("cooper login -u NAME REGISTRY");
        std::string password = flags->password;
        if (flags->password_stdin) {
            password = TRY(sys::read_to_end(STDIN_FILENO, 64 << 10));
            while (password.ends_with('\n') || password.ends_with('\r')) password.pop_back();
        } else if (password.empty()) {
            password = TRY(ask_password());
        }
        const auto engine = TRY(session.open_engine());
        TRY(engine->login(flags->host.empty() ? "docker.io" : flags->host, flags->user, password, session.stop));
        fmt::print("Login Succeeded\n");
        return 0;
    };
}

Action setup_logout(CLI::App& app) {
    auto flags = std::make_shared<Flags>();
    app.add_option("REGISTRY", flags->host, "Registry [docker.io]");
    return [flags](Session& session) -> Result<int> {
        const auto engine = TRY(session.open_engine());
        TRY(engine->logout(flags->host.empty() ? "docker.io" : flags->host));
        fmt::print("Removed login credentials\n");
        return 0;
    };
}

}  // namespace

std::vector<Command> system_commands() {
    return {
        {"logs", "Show the log of a build", "  cooper logs\n  cooper logs --list\n", setup_logs, false},
        {"du", "Show what takes up space", "  cooper du\n  cooper du --why-kept\n", setup_du, false},
        {"prune", "Remove build cache", "  cooper prune --dry-run\n  cooper prune -a --filter until=48h -f\n",
         setup_prune, false},
        {"login", "Store credentials of a registry", "  cooper login -u me registry.example.com\n", setup_login, false},
        {"logout", "Forget credentials of a registry", "  cooper logout registry.example.com\n", setup_logout, false},
        {"info", "Show what this machine offers", "  cooper info\n", setup_info, false},
        {"version", "Show the version", "  cooper version\n", setup_version, false},
    };
}

}  // namespace cooper::cli
