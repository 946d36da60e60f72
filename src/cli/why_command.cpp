// cooper why: the steps of a build that ran, each with its one reason.
#include "base/clock.hpp"
#include "base/text.hpp"
#include "cli/command.hpp"
#include "why/cause.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <fmt/format.h>

namespace cooper::cli {

namespace {

struct WhyFlags {
    std::vector<std::string> words;
    std::string build;
    std::string format = "text";
};

// "3/8", "builder 3/8", "3", a part of the name.
bool is_meant(const why::Miss& miss, const std::string& wanted) {
    const std::string place = fmt::format("{}/{}", miss.number, miss.count);
    if (miss.number > 0) {
        if (wanted == place || wanted == miss.stage + " " + place || wanted == std::to_string(miss.number) ||
            wanted == fmt::format("{} {}", miss.stage, miss.number)) {
            return true;
        }
    }
    if (parse_int(wanted)) return false;
    return to_lower(miss.step).find(to_lower(wanted)) != std::string::npos;
}

// The step of the log that this is about, with how it ended; empty when there is none.
std::string ending_in_log(const std::string& log, const std::string& wanted) {
    std::string step;
    for (const auto& line : split(log, '\n')) {
        const auto [number, text] = cut(line, ' ');
        if (!text || !number.starts_with('#')) continue;
        if (text->starts_with('[') && to_lower(*text).find(to_lower(wanted)) != std::string::npos) {
            step = std::string(number);
        } else if (!step.empty() && number == step && *text == "CACHED") {
            return "it was cached";
        }
    }
    return {};
}

Result<int> why(const WhyFlags& flags, Session& session) {
    const auto engine = TRY(session.open_engine());
    engine::WhyAnswer answer = TRY(engine->why(flags.build));
    const std::string wanted = join(flags.words, " ");
    if (!wanted.empty()) std::erase_if(answer.misses, [&](const auto& miss) { return !is_meant(miss, wanted); });
    if (flags.format == "json") {
        fmt::print("[");
        for (std::size_t i = 0; i < answer.misses.size(); ++i)
            fmt::print("{}\n  {}", i == 0 ? "" : ",", why::to_json(answer.misses[i]));
        fmt::print("{}]\n", answer.misses.empty() ? "" : "\n");
        return 0;
    }
    if (answer.misses.empty() && wanted.empty()) {
        fmt::print("nothing ran in build {}: all of {} steps were cached\n", answer.ref, answer.steps);
        return 0;
    }
    if (answer.misses.empty()) {
        const auto log = engine->build_log(answer.ref);
        const std::string ending = log ? ending_in_log(*log, wanted) : std::string();
        if (ending.empty()) {
            return fail(Code::not_found, Blame::user, "no step {} ran in build {}", quoted(wanted), answer.ref)
                .with_hint("cooper why shows those that ran");
        }
        fmt::print("{} did not run in build {}: {}\n", wanted, answer.ref, ending);
        return 0;
    }
    for (const auto& miss : answer.misses) {
        fmt::print("{}\n    {}\n", miss.step, why::to_text(miss, SystemClock().now()));
        if (miss.compared_with.empty() || wanted.empty() || !miss.cache.empty()) continue;
        fmt::print("    compared with the build of {}\n", miss.compared_with);
    }
    return 0;
}

Action setup_why(CLI::App& app) {
    auto flags = std::make_shared<WhyFlags>();
    app.add_option("STEP", flags->words,
                   "Number (\"3/8\", \"builder 3/8\") or a part of the name of a step [all that ran]");
    app.add_option("--build", flags->build, "Id of a build, or its first characters [the newest]")->type_name("ID");
    app.add_option("--format", flags->format, "text or json [text]")->check(CLI::IsMember({"text", "json"}));
    return [flags](Session& session) { return why(*flags, session); };
}

}  // namespace

std::vector<Command> why_commands() {
    return {{"why", "Say why the steps of a build ran",
             "  cooper why\n  cooper why builder 3/8\n  cooper why pip install\n  cooper why --format=json\n",
             setup_why, false}};
}

}  // namespace cooper::cli
