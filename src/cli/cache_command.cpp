// `cooper cache`: the directories of RUN --mount=type=cache.
#include "base/text.hpp"
#include "cli/command.hpp"

#include <CLI/CLI.hpp>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

namespace cooper::cli {

namespace {

struct CacheFlags {
    std::string action, file;
    std::vector<std::string> ids;
};

Result<int> list(engine::Engine& engine) {
    std::vector<std::vector<std::string>> rows = {{"ID", "SIZE", "USES", "LAST USED", "DESCRIPTION"}};
    std::uint64_t total = 0;
    for (const auto& mount : TRY(engine.cache_mounts())) {
        total += mount.size_bytes;
        rows.push_back({mount.id, human_size(mount.size_bytes), std::to_string(mount.usage_count), ago(mount.last_used),
                        mount.description});
    }
    print_table(rows);
    fmt::print("Total:\t{}\n", human_size(total));
    return 0;
}

Result<int> write_out(engine::Engine& engine, const CacheFlags& flags, const Stop& stop) {
    if (flags.file.empty() || flags.file == "-") {
        if (::isatty(STDOUT_FILENO) == 1) {
            return bad_input("an archive is no text for a terminal").with_hint("write -o FILE, or redirect");
        }
        TRY(engine.export_cache_mount(flags.ids.front(), STDOUT_FILENO, stop));
        return 0;
    }
    sys::Fd file(::open(flags.file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!file.valid()) return fail_errno(errno, flags.file);
    TRY(engine.export_cache_mount(flags.ids.front(), file.get(), stop));
    TRY(std::move(file).close());
    return 0;
}

Result<int> read_in(engine::Engine& engine, const CacheFlags& flags, const Stop& stop) {
    if (flags.file.empty() || flags.file == "-") {
        if (::isatty(STDIN_FILENO) == 1) return bad_input("no archive").with_hint("write -i FILE, or redirect");
        TRY(engine.import_cache_mount(flags.ids.front(), STDIN_FILENO, stop));
        return 0;
    }
    const sys::Fd file(::open(flags.file.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.valid()) return fail_errno(errno, flags.file);
    TRY(engine.import_cache_mount(flags.ids.front(), file.get(), stop));
    return 0;
}

Result<int> run(const CacheFlags& flags, Session& session) {
    const std::string& action = flags.action;
    const bool one = action == "export" || action == "import";
    if (one && flags.ids.size() != 1) return bad_input("cooper cache {} takes the id of one mount", action);
    if (action == "rm" && flags.ids.empty()) return bad_input("cooper cache rm takes ids");
    const auto engine = TRY(session.open_engine());
    if (action == "export") return write_out(*engine, flags, session.stop);
    if (action == "import") return read_in(*engine, flags, session.stop);
    if (action == "rm") {
        for (const auto& id : flags.ids) TRY(engine->remove_cache_mount(id, session.stop));
        return 0;
    }
    if (!flags.ids.empty()) return bad_input("cooper cache {} takes no ids", action);
    return list(*engine);
}

Action setup_cache(CLI::App& app) {
    auto flags = std::make_shared<CacheFlags>();
    app.add_option("ACTION", flags->action, "ls (or du), rm, export, import")
        ->required()
        ->check(CLI::IsMember({"ls", "du", "rm", "export", "import"}))
        ->type_name("");
    app.add_option("ID", flags->ids, "Ids of mounts: the target where RUN names none")->type_name("");
    app.add_option("-o,--output,-i,--input", flags->file, "The tar of export or import [standard output, input]")
        ->type_name("FILE");
    return [flags](Session& session) { return run(*flags, session); };
}

}  // namespace

std::vector<Command> cache_commands() {
    return {{"cache", "List, remove and carry the directories of RUN --mount=type=cache",
             "  cooper cache ls\n  cooper cache export /root/.cache/pip -o pip.tar\n"
             "  cooper cache import /root/.cache/pip -i pip.tar\n  cooper cache rm /root/.cache/pip\n",
             setup_cache}};
}

}  // namespace cooper::cli
