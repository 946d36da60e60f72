// `cooper lock`: what the names of remote sources mean today, kept in cooper.lock.
#include "base/text.hpp"
#include "cli/build_flags.hpp"
#include "cli/command.hpp"
#include "codec/path_match.hpp"
#include "sourcepolicy/lock.hpp"

#include <CLI/CLI.hpp>
#include <array>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

namespace cooper::cli {

Result<std::string> read_whole(const std::string& path, std::size_t limit_bytes) {
    const sys::Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    if (!file.valid()) return fail_errno(errno, path);
    std::string text;
    std::array<std::byte, 1U << 14U> buffer{};
    while (text.size() <= limit_bytes) {
        const std::size_t n = TRY_CONTEXT(sys::read_some(file.get(), buffer), "{}", path);
        if (n == 0) return text;
        text += as_text(std::span(buffer).first(n));
    }
    return bad_input("{} is larger than {} bytes", path, limit_bytes);
}

Result<> write_file(const std::string& path, std::string_view text) {
    sys::Fd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (!file.valid()) return fail_errno(errno, path);
    TRY_CONTEXT(sys::write_all(file.get(), text), "{}", path);
    return std::move(file).close();
}

std::string lock_path(const std::string& context) { return codec::join_path(context, sourcepolicy::kLockFile); }

namespace {

struct LockFlags {
    std::string context = ".";
    std::string file, target;
    std::vector<std::string> build_args, contexts, platforms;
    bool check = false;
};

Result<engine::BuildRequest> to_request(const LockFlags& flags) {
    engine::BuildRequest request;
    struct stat st{};
    if (::stat(flags.context.c_str(), &st) != 0 || !S_ISDIR(st.st_mode)) {
        return bad_input("{} is not a directory", quoted(flags.context))
            .with_hint("cooper lock takes the directory of a build context");
    }
    request.context = {engine::ContextSpec::Kind::directory, flags.context, -1};
    request.dockerfile = flags.file;
    request.target = flags.target;
    for (const auto& one : flags.build_args) TRY(parse_build_arg(one, request.build_args));
    for (const auto& one : flags.contexts) TRY(parse_build_context(one, request.named_contexts));
    for (const auto& one : flags.platforms) TRY(parse_platforms(one, request.platforms));
    return request;
}

// What changed, as people read it in a terminal.
std::size_t print_changes(const sourcepolicy::Lock& before, const sourcepolicy::Lock& now) {
    std::size_t changes = 0;
    for (const auto& [identifier, pin] : now.sources) {
        const auto old = before.sources.find(identifier);
        if (old != before.sources.end() && old->second == pin) continue;
        ++changes;
        if (old == before.sources.end()) {
            fmt::print("new      {} {}\n", identifier, pin);
        } else {
            fmt::print("changed  {} {} -> {}\n", identifier, old->second, pin);
        }
    }
    for (const auto& [identifier, pin] : before.sources) {
        if (now.sources.contains(identifier)) continue;
        ++changes;
        fmt::print("gone     {}\n", identifier);
    }
    return changes;
}

Result<int> lock(const LockFlags& flags, Session& session) {
    const engine::BuildRequest request = TRY(to_request(flags));
    const std::string path = lock_path(flags.context);
    sourcepolicy::Lock before;
    const auto text = read_whole(path, kMaxLockFile);
    if (!text && text.error().code() != Code::not_found) return text.error();
    if (text) {
        auto parsed = sourcepolicy::parse_lock(*text);
        // A broken one is written again, and is no answer to --check.
        if (!parsed && flags.check) return parsed.error();
        if (parsed) before = std::move(*parsed);
    }
    const auto engine = TRY(session.open_engine());
    const auto display = make_display(ProgressMode::quiet);
    auto found = engine->lock_sources(request, display->sink(), session.stop);
    display->finish();
    const sourcepolicy::Lock now = TRY(std::move(found));
    const std::size_t changes = print_changes(before, now);
    if (flags.check) {
        if (changes == 0 && text) fmt::print("{} is up to date: {} sources\n", path, now.sources.size());
        return changes == 0 && text ? 0 : 1;
    }
    TRY(write_file(path, sourcepolicy::print_lock(now)));
    fmt::print("{}: {} sources\n", path, now.sources.size());
    return 0;
}

Action setup_lock(CLI::App& app) {
    auto flags = std::make_shared<LockFlags>();
    app.add_option("-f,--file", flags->file, "Dockerfile [CONTEXT/Dockerfile]")->type_name("FILE");
    app.add_option("--target", flags->target, "Only what this stage needs [all stages]")->type_name("STAGE");
    app.add_option("--build-arg", flags->build_args, "Value of an ARG, as for the build")
        ->type_name("NAME[=VALUE]")
        ->allow_extra_args(false);
    app.add_option("--build-context", flags->contexts, "Further context, as for the build")
        ->type_name("NAME=VALUE")
        ->allow_extra_args(false);
    app.add_option("--platform", flags->platforms, "Platform of the build [this machine's]")
        ->type_name("OS/ARCH")
        ->allow_extra_args(false);
    app.add_flag("--check", flags->check, "Write nothing; exit status 1 when something is not as it was locked");
    app.add_option("CONTEXT", flags->context, "Directory of the build context [.]")->type_name("DIR");
    return [flags](Session& session) { return lock(*flags, session); };
}

}  // namespace

std::vector<Command> lock_commands() {
    return {{"lock", "Write down what the names of base images and downloads mean, in cooper.lock",
             "  cooper lock .\n  cooper build --frozen .\n  cooper lock --check .\n", setup_lock}};
}

}  // namespace cooper::cli
