// What is below `buildctl debug`, and dial-stdio.
#include "base/guarded.hpp"
#include "base/text.hpp"
#include "buildctl/command.hpp"
#include "buildctl/op_text.hpp"
#include "buildctl/output.hpp"
#include "buildctl/tab_writer.hpp"
#include "cli/command.hpp"
#include "client/control.hpp"
#include "codec/go_json.hpp"
#include "sys/fd.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace cooper::buildctl {

namespace {

constexpr std::size_t kMaxDefinition = 256UL << 20U;

// --- workers, info

std::string rule_text(const client::GcRule& rule, std::size_t number) {
    std::string text = fmt::format("GC Policy rule#{}:\n\tAll:\t{}\n", number, rule.all);
    if (!rule.filters.empty()) text += fmt::format("\tFilters:\t{}\n", join(rule.filters, " "));
    if (rule.keep_duration.count() > 0) {
        const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(rule.keep_duration).count();
        text += fmt::format("\tKeep Duration:\t{}h{}m{}s\n", seconds / 3600, seconds / 60 % 60, seconds % 60);
    }
    if (rule.reserved_bytes > 0) text += fmt::format("\tReserved Space:\t{}\n", short_bytes_text(rule.reserved_bytes));
    if (rule.max_used_bytes > 0) text += fmt::format("\tMax Used Space:\t{}\n", short_bytes_text(rule.max_used_bytes));
    if (rule.min_free_bytes > 0) text += fmt::format("\tMin Free Space:\t{}\n", short_bytes_text(rule.min_free_bytes));
    return text;
}

std::string verbose_text(const client::Worker& worker) {
    std::string text =
        fmt::format("ID:\t{}\nPlatforms:\t{}\nBuildKit:\t{} {} {}\nLabels:\n", worker.id, join(worker.platforms, ","),
                    worker.version.package, worker.version.version, worker.version.revision);
    for (const auto& [key, value] : worker.labels) text += fmt::format("\t{}:\t{}\n", key, value);
    for (std::size_t i = 0; i < worker.gc_policy.size(); ++i) text += rule_text(worker.gc_policy[i], i);
    return text + "\n";
}

std::string workers_json(const std::vector<client::Worker>& workers) {
    codec::GoJson json;
    json.begin_array();
    for (const auto& worker : workers) {
        json.begin_object().field("id", worker.id).key("labels").map(worker.labels).key("platforms").begin_array();
        for (const auto& platform : worker.platforms) {
            const auto parts = split(platform, '/');
            json.begin_object().field("architecture", parts.size() > 1 ? parts[1] : "").field("os", parts[0]);
            if (parts.size() > 2) json.field("variant", parts[2]);
            json.end_object();
        }
        json.end_array().key("gcPolicy").begin_array();
        for (const auto& rule : worker.gc_policy) {
            json.begin_object().key("all").boolean(rule.all).key("filter").strings(rule.filters);
            json.key("keepDuration").integer(rule.keep_duration.count());
            json.key("reservedSpace").integer(rule.reserved_bytes);
            json.key("maxUsedSpace").integer(rule.max_used_bytes);
            json.key("minFreeSpace").integer(rule.min_free_bytes).end_object();
        }
        json.end_array().key("buildkitVersion").begin_object();
        json.field("package", worker.version.package).field("version", worker.version.version);
        json.field("revision", worker.version.revision).end_object().end_object();
    }
    json.end_array();
    return std::move(json).take();
}

struct WorkerFlags {
    std::vector<std::string> filters;
    std::string format;
    bool verbose = false;
};

Result<int> workers(const WorkerFlags& flags, const Context& context) {
    const bool as_json = TRY(wants_json(flags.format));
    const auto connection = TRY(context.connect());
    const auto found = TRY(client::list_workers(*connection, flags.filters, context.stop));
    if (as_json) {
        fmt::print("{}\n", workers_json(found));
        return 0;
    }
    std::string text = flags.verbose ? "" : "ID\tPLATFORMS\n";
    for (const auto& worker : found) {
        text += flags.verbose ? verbose_text(worker) : fmt::format("{}\t{}\n", worker.id, join(worker.platforms, ","));
    }
    fmt::print("{}", align_tabs(text));
    return 0;
}

Action setup_workers(CLI::App& app) {
    auto flags = std::make_shared<WorkerFlags>();
    app.add_option("-f,--filter", flags->filters, "Only these: id==…, labels.NAME==…")
        ->type_name("FILTER")
        ->allow_extra_args(false);
    app.add_flag("-v,--verbose", flags->verbose, "With labels and the policy of garbage collection");
    app.add_option("--format", flags->format, "'{{json .}}' prints JSON")->type_name("FORMAT");
    return [flags](const Context& context) { return workers(*flags, context); };
}

Action setup_info(CLI::App& /*app*/) {
    return [](const Context& context) -> Result<int> {
        const auto connection = TRY(context.connect());
        const client::Version version = TRY(client::info(*connection, context.stop));
        fmt::print(
            "{}", align_tabs(fmt::format("BuildKit:\t{} {} {}\n", version.package, version.version, version.revision)));
        return 0;
    };
}

// --- definitions

Result<std::string> read_input(const std::string& path) {
    if (path.empty() || path == "-") {
        return TRY_CONTEXT(sys::read_to_end(STDIN_FILENO, kMaxDefinition), "standard input");
    }
    const sys::Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.valid()) return fail_errno(errno, path);
    return TRY_CONTEXT(sys::read_to_end(file.get(), kMaxDefinition), "{}", path);
}

Action setup_dump_llb(CLI::App& app) {
    auto file = std::make_shared<std::string>();
    auto dot = std::make_shared<bool>(false);
    app.add_flag("--dot", *dot, "A graph for Graphviz");
    app.add_option("FILE", *file, "Definition; standard input without");
    return [file, dot](const Context& /*context*/) -> Result<int> {
        const std::string bytes = TRY(read_input(*file));
        fmt::print("{}", *dot ? TRY(definition_dot(bytes)) : TRY(definition_json(bytes)));
        return 0;
    };
}

// --- history

Action setup_histories(CLI::App& app) {
    auto filters = std::make_shared<std::vector<std::string>>();
    app.add_option("-f,--filter", *filters, "Only these: status==error, ref==…")
        ->type_name("FILTER")
        ->allow_extra_args(false);
    return [filters](const Context& context) -> Result<int> {
        const auto connection = TRY(context.connect());
        std::string text(kHistoryHeader);
        const client::HistoryFilter filter{.filters = *filters};
        TRY(client::list_history(
            *connection, filter, [&](const client::HistoryRecord& record) { text += history_row(record); },
            context.stop));
        fmt::print("{}", align_tabs(text));
        return 0;
    };
}

class StandardOutput final : public ByteSink {
public:
    Result<> write(std::span<const std::byte> data) override { return sys::write_all(STDOUT_FILENO, data); }
};

Result<int> print_trace(const std::string& ref, const Context& context) {
    const auto connection = TRY(context.connect());
    std::optional<client::HistoryRecord> found;
    const client::HistoryFilter filter{.ref = ref};
    TRY(client::list_history(
        *connection, filter, [&](const client::HistoryRecord& record) { found = record; }, context.stop));
    if (!found) return fail(Code::not_found, Blame::user, "ref {} not found", ref);
    if (!found->trace) return fail(Code::not_found, Blame::user, "ref {} does not have trace", ref);
    StandardOutput out;
    TRY(client::read_content(*connection, found->trace->digest, out, context.stop));
    return 0;
}

// The build whose id begins so; without anything, the newest.
Result<std::string> find_build(const auto& connection, const std::string& start, const Stop& stop) {
    std::vector<std::string> found;  // oldest first
    TRY(client::list_history(
        connection, client::HistoryFilter{},
        [&](const client::HistoryRecord& record) {
            const bool known = std::ranges::find(found, record.ref) != found.end();
            if (record.ref.starts_with(start) && !known) found.push_back(record.ref);
        },
        stop));
    if (found.empty())
        return fail(Code::not_found, Blame::user, "{}",
                    start.empty() ? "nothing has been built yet" : "no build " + start);
    if (!start.empty() && found.size() > 1 && std::ranges::find(found, start) == found.end())
        return bad_input("{} builds begin with {}", found.size(), start);
    return found.back();
}

// The steps of a build as its progress tells them, with the reasons of those that ran.
class Reasons final : public ProgressSink {
public:
    void emit(ProgressEvent event) override {
        constexpr std::string_view kRan = "ran: ";
        auto state = state_.lock();
        if (const auto* vertex = std::get_if<VertexEvent>(&event)) {
            Step& step = step_of(*state, vertex->digest);
            step.name = vertex->name;
            step.cached = vertex->cached;
        } else if (const auto* status = std::get_if<StatusEvent>(&event);
                   status != nullptr && status->name.starts_with(kRan)) {
            step_of(*state, status->vertex).reason = status->name.substr(kRan.size());
        }
    }
    // wanted: a number ("3/8", "builder 3/8") or a part of the name; empty: all that ran.
    Result<> print(const std::string& wanted, const std::string& ref) {
        auto state = state_.lock();
        bool any = false;
        std::size_t cached = 0;
        for (const auto& step : *state) {
            if (!step.name.starts_with('[')) continue;
            cached += step.cached ? 1 : 0;
            if (!is_meant(step.name, wanted)) continue;
            if (!step.reason.empty()) fmt::print("{}\n    {}\n", step.name, step.reason);
            if (!wanted.empty() && step.cached) fmt::print("{} did not run in build {}: it was cached\n", wanted, ref);
            any = any || !step.reason.empty() || (!wanted.empty() && step.cached);
        }
        if (any) return {};
        if (wanted.empty()) {
            fmt::print("nothing ran in build {}: {} steps were cached\n", ref, cached);
            return {};
        }
        return fail(Code::not_found, Blame::user, "no step {} ran in build {}", quoted(wanted), ref);
    }

private:
    struct Step {
        Digest digest;
        std::string name, reason;
        bool cached = false;
    };
    static Step& step_of(std::vector<Step>& steps, const Digest& digest) {
        const auto found = std::ranges::find(steps, digest, &Step::digest);
        return found != steps.end() ? *found : steps.emplace_back(Step{.digest = digest});
    }
    static bool is_meant(const std::string& name, const std::string& wanted) {
        const std::string place = name.substr(1, name.find(']') - 1);  // "builder 3/8"
        if (wanted.empty() || wanted == place || place.ends_with(" " + wanted)) return true;
        return !parse_int(wanted) && to_lower(name).find(to_lower(wanted)) != std::string::npos;
    }
    Guarded<std::vector<Step>> state_;
};

Action setup_why(CLI::App& app) {
    struct Flags {
        std::vector<std::string> words;
        std::string build;
    };
    auto flags = std::make_shared<Flags>();
    app.add_option("STEP", flags->words,
                   "Number (\"3/8\", \"builder 3/8\") or a part of the name of a step [all that ran]");
    app.add_option("--build", flags->build, "Id of the build, or its first characters [the newest]")->type_name("ID");
    return [flags](const Context& context) -> Result<int> {
        const auto connection = TRY(context.connect());
        const std::string ref = TRY(find_build(*connection, flags->build, context.stop));
        Reasons reasons;
        // How the build ended is not asked here.
        const auto followed = client::follow(*connection, ref, reasons, context.stop);
        TRY(check_stop(context.stop));
        if (const auto told = reasons.print(join(flags->words, " "), ref); !told)
            return followed ? told.error() : followed.error();
        return 0;
    };
}

Action setup_logs(CLI::App& app) {
    struct Flags {
        std::string ref, progress = "auto";
        bool trace = false;
    };
    auto flags = std::make_shared<Flags>();
    app.add_option("REF", flags->ref, "Id of the build, or its first characters [the newest]");
    app.add_option("--progress", flags->progress, "auto, plain, tty or rawjson [auto]")->type_name("MODE");
    app.add_flag("--trace", flags->trace, "The OpenTelemetry trace instead");
    return [flags](const Context& context) -> Result<int> {
        if (flags->trace) return print_trace(flags->ref, context);
        const auto connection = TRY(context.connect());
        const std::string ref = TRY(find_build(*connection, flags->ref, context.stop));
        const auto display = cli::make_display(TRY(cli::parse_progress_mode(flags->progress)));
        const auto followed = client::follow(*connection, ref, display->sink(), context.stop);
        display->finish();
        TRY(followed);
        return 0;
    };
}

std::string descriptor_text(const client::Descriptor& descriptor) {
    return fmt::format("media_type:{} digest:{} size:{}", quoted(descriptor.media_type), quoted(descriptor.digest),
                       descriptor.size_bytes);
}

Action setup_monitor(CLI::App& app) {
    struct Flags {
        std::string ref;
        bool completed = false;
    };
    auto flags = std::make_shared<Flags>();
    app.add_flag("--completed", flags->completed, "Also builds that have ended");
    app.add_option("--ref", flags->ref, "Only this build")->type_name("REF");
    return [flags](const Context& context) -> Result<int> {
        const auto connection = TRY(context.connect());
        const client::HistoryFilter filter{.active_only = !flags->completed, .ref = flags->ref, .early_exit = false};
        const auto show = [](const client::HistoryRecord& record) {
            fmt::print("event: {} ref:{}\n", record.event, record.ref);
            if (record.logs) fmt::print("  logs: {}\n", descriptor_text(*record.logs));
            if (record.trace) fmt::print("  trace: {}\n", descriptor_text(*record.trace));
            for (const auto& [platform, attestation] : record.attestations) {
                fmt::print("  {}attestation: {}\n", platform.empty() ? "" : "[" + platform + "] ",
                           descriptor_text(attestation));
            }
            std::fflush(stdout);
        };
        TRY(client::list_history(*connection, filter, show, context.stop));
        return 0;
    };
}

Action setup_get(CLI::App& app) {
    auto digest = std::make_shared<std::string>();
    app.add_option("DIGEST", *digest, "Blob of the history")->required();
    return [digest](const Context& context) -> Result<int> {
        TRY(Digest::parse(*digest));
        const auto connection = TRY(context.connect());
        StandardOutput out;
        TRY(client::read_content(*connection, *digest, out, context.stop));
        return 0;
    };
}

Action setup_ctl(CLI::App& app) {
    struct Flags {
        std::string ref;
        bool pin = false, unpin = false, remove = false;
    };
    auto flags = std::make_shared<Flags>();
    app.add_option("REF", flags->ref, "Id of the build")->required();
    app.add_flag("--pin", flags->pin, "Keep its record");
    app.add_flag("--unpin", flags->unpin, "Let its record go when its time comes");
    app.add_flag("--delete", flags->remove, "Remove its record");
    return [flags](const Context& context) -> Result<int> {
        if (flags->pin + flags->unpin + flags->remove != 1) {
            return bad_input("want one of --pin, --unpin and --delete");
        }
        const auto update = flags->pin     ? client::HistoryUpdate::pin
                            : flags->unpin ? client::HistoryUpdate::unpin
                                           : client::HistoryUpdate::remove;
        const auto connection = TRY(context.connect());
        TRY(client::update_history(*connection, flags->ref, update, context.stop));
        return 0;
    };
}

// --- dial-stdio

// Moves what is there; false at the end.
Result<bool> move_some(int from, int to, std::span<std::byte> buffer) {
    const std::size_t n = TRY(sys::read_some(from, buffer));
    if (n == 0) return false;
    TRY(sys::write_all(to, std::span<const std::byte>(buffer).first(n)));
    return true;
}

Result<int> dial_stdio(const Context& context) {
    const sys::Fd socket = TRY(client::connect_socket(context.daemon.address, context.daemon.timeout, context.stop));
    std::vector<std::byte> buffer(64UL << 10U);
    bool input = true;
    while (true) {
        TRY(check_stop(context.stop));
        std::array<pollfd, 2> entries = {pollfd{.fd = socket.get(), .events = POLLIN, .revents = 0},
                                         pollfd{.fd = input ? STDIN_FILENO : -1, .events = POLLIN, .revents = 0}};
        if (::poll(entries.data(), entries.size(), 500) < 0 && errno != EINTR) return fail_errno(errno, "poll");
        if (entries[0].revents != 0 && !TRY(move_some(socket.get(), STDOUT_FILENO, buffer))) return 0;
        if (entries[1].revents != 0 && !TRY(move_some(STDIN_FILENO, socket.get(), buffer))) {
            ::shutdown(socket.get(), SHUT_WR);
            input = false;
        }
    }
}

}  // namespace

std::vector<Command> debug_commands() {
    return {{"workers", "List workers", setup_workers},
            {"info", "Version of the daemon", setup_info},
            {"dump-llb", "Print LLB; needs no daemon", setup_dump_llb},
            {"histories", "List builds", setup_histories},
            {"logs", "Print the progress of a build", setup_logs},
            {"why", "Say why the steps of a build ran", setup_why},
            {"monitor", "Print what happens to builds", setup_monitor},
            {"get", "Print a blob of the history", setup_get},
            {"ctl", "Pin, unpin or remove the record of a build", setup_ctl}};
}

Command dial_stdio_command() {
    return {"dial-stdio", "Connect standard input and output to the daemon",
            [](CLI::App& /*app*/) -> Action { return dial_stdio; }};
}

}  // namespace cooper::buildctl
