// `cooper ignore`: what of a build context is sent, what is not, and which line of the ignore file decided.
#include "base/text.hpp"
#include "cli/command.hpp"
#include "codec/path_match.hpp"
#include "engine/context_files.hpp"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <fmt/format.h>
#include <sys/stat.h>

namespace cooper::cli {

namespace {

struct IgnoreFlags {
    std::string context = ".";
    std::string file;
    std::vector<std::string> explain;
    bool list = false;
    bool ignored = false;
};

// A path as the context has it: relative and clean; a host path that lies in the context may be given, too.
std::string in_context(const std::string& path) {
    const std::string rooted = codec::rooted_path(path);
    return rooted.substr(1);
}

class Explainer {
public:
    Explainer(const std::string& context, const engine::IgnoreRules& rules, const codec::PatternMatcher& matcher)
        : context_(context), rules_(rules), matcher_(matcher) {}

    [[nodiscard]] std::string explain(const std::string& path) const {
        if (path.empty()) return ".: sent: it is the context itself\n";
        struct stat st{};
        const bool there = ::lstat((context_ + "/" + path).c_str(), &st) == 0;
        const auto reason = matcher_.explain(path);
        std::string out = fmt::format("{}: {}", path, reason.matched ? "ignored" : "sent");
        if (reason.pattern) {
            const auto& line = rules_.lines.at(*reason.pattern);
            out += fmt::format(": {}:{}: {}", rules_.file, line.line, line.text);
            if (reason.at != path) out += fmt::format(" (matches {})", reason.at);
        } else {
            out +=
                rules_.file.empty() ? ": there is no ignore file" : fmt::format(": no line of {} matches", rules_.file);
        }
        if (!there) out += " (there is no such file)";
        if (there && S_ISSOCK(st.st_mode)) out += " (a socket: never sent)";
        if (there && reason.matched && S_ISDIR(st.st_mode) && matcher_.may_except_below(path)) {
            out += " (what a line with ! takes back below is sent with it)";
        }
        return out + "\n";
    }

private:
    const std::string& context_;
    const engine::IgnoreRules& rules_;
    const codec::PatternMatcher& matcher_;
};

Result<> list(const IgnoreFlags& flags, const engine::IgnoreRules& rules, const Stop& stop) {
    std::uint64_t files = 0;
    std::uint64_t bytes = 0;
    TRY(engine::list_context(
        flags.context, rules, flags.ignored ? engine::ContextFile::ignored : engine::ContextFile::sent,
        [&](const engine::ListedFile& file) {
            if (!file.path.ends_with('/')) ++files;
            bytes += file.size;
            fmt::print("{}\n", file.path);
        },
        stop));
    const std::string from = rules.file.empty() ? "no ignore file" : rules.file;
    if (flags.ignored) {
        fmt::print(stderr, "left out by {}\n", from);
    } else {
        fmt::print(stderr, "{} files, {} ({})\n", files, human_size(bytes), from);
    }
    return {};
}

Action setup_ignore(CLI::App& app) {
    auto flags = std::make_shared<IgnoreFlags>();
    app.add_option("CONTEXT", flags->context, "Directory [.]");
    app.add_option("-f,--file", flags->file, "Dockerfile, for its own ignore file [CONTEXT/Dockerfile]")
        ->type_name("FILE");
    auto* explain = app.add_option("--explain", flags->explain, "Say which line decides about PATH of the context")
                        ->type_name("PATH")
                        ->allow_extra_args(false);
    auto* listing = app.add_flag("--list", flags->list, "Print what would be sent (the default)");
    auto* ignored = app.add_flag("--ignored", flags->ignored, "Print what would not; a directory for all of it");
    listing->excludes(explain)->excludes(ignored);
    ignored->excludes(explain);
    return [flags](Session& session) -> Result<int> {
        const engine::IgnoreRules rules = TRY(engine::find_ignore_rules(flags->context, flags->file));
        if (flags->explain.empty()) {
            TRY(list(*flags, rules, session.stop));
            return 0;
        }
        std::vector<std::string> patterns;
        for (const auto& line : rules.lines) patterns.push_back(line.pattern);
        const codec::PatternMatcher matcher = TRY(codec::PatternMatcher::create(patterns));
        const Explainer explainer(flags->context, rules, matcher);
        for (const auto& path : flags->explain) fmt::print("{}", explainer.explain(in_context(path)));
        return 0;
    };
}

}  // namespace

std::vector<Command> ignore_commands() {
    return {{"ignore", "Show what the ignore file leaves out of a build",
             "  cooper ignore\n"
             "  cooper ignore --explain src/app.log --explain node_modules\n"
             "  cooper ignore --ignored -f docker/api.Dockerfile .\n",
             setup_ignore, false}};
}

}  // namespace cooper::cli
