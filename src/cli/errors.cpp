#include "base/text.hpp"
#include "cli/command.hpp"
#include "dockerfile/source_text.hpp"

#include <algorithm>
#include <fmt/format.h>
#include <unistd.h>

namespace cooper::cli {

namespace {

// The lines of the mistake: as they come, or cut out of the file that a daemon sent along.
std::string excerpt_text(const Error& error) {
    if (const auto* excerpt = error.find_detail<Excerpt>()) return excerpt->text;
    const auto* source = error.find_detail<SourceText>();
    if (source == nullptr || source->text == nullptr) return {};
    std::vector<SourceRange> ranges;
    for (const auto& detail : error.details()) {
        const auto* range = std::get_if<SourceRange>(&detail);
        if (range == nullptr || range->file != source->file || range->first_line <= 0) continue;
        ranges.push_back(*range);
        ranges.back().last_line = std::max(range->first_line, range->last_line);
    }
    return dockerfile::excerpt(source->file, *source->text, ranges);
}

}  // namespace

void print_error(const Error& error) {
    const bool color = ::isatty(STDERR_FILENO) == 1 && std::getenv("NO_COLOR") == nullptr;
    std::string text;
    if (const auto* tail = error.find_detail<LogTail>(); tail != nullptr && !tail->text.empty()) {
        text += fmt::format("------\n > {}:\n", tail->step);
        for (const auto& line : split(trim(tail->text), '\n')) text += line + "\n";
        text += "------\n";
    }
    text += excerpt_text(error);
    text += color ? "\x1b[1;31merror:\x1b[0m " : "error: ";
    // A message of several lines names several mistakes, each below the first.
    for (const char c : error.to_string()) text.append(c == '\n' ? "\n       " : std::string(1, c));
    text += "\n";
    if (!error.hint().empty()) text += (color ? "\x1b[36mhint:\x1b[0m " : "hint: ") + error.hint() + "\n";
    fmt::print(stderr, "{}", text);
}

void print_table(const std::vector<std::vector<std::string>>& rows) {
    std::vector<std::size_t> widths;
    for (const auto& row : rows) {
        widths.resize(std::max(widths.size(), row.size()));
        for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    }
    for (const auto& row : rows) {
        std::string line;
        for (std::size_t i = 0; i < row.size(); ++i) {
            line += i + 1 == row.size() ? row[i] : fmt::format("{:<{}}   ", row[i], widths[i]);
        }
        fmt::print("{}\n", line);
    }
}

std::string ago(Timestamp time) {
    if (time == Timestamp{}) return "N/A";
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(SystemClock().now() - time).count();
    const auto about = [](std::int64_t n, std::string_view unit) {
        return n == 1 ? fmt::format("1 {} ago", unit) : fmt::format("{} {}s ago", n, unit);
    };
    if (seconds < 1) return "just now";
    if (seconds < 60) return about(seconds, "second");
    if (seconds < 3600) return about(seconds / 60, "minute");
    if (seconds < 2 * 86400) return about(seconds / 3600, "hour");
    if (seconds < 14 * 86400) return about(seconds / 86400, "day");
    if (seconds < 60 * 86400) return about(seconds / (7 * 86400), "week");
    if (seconds < 730LL * 86400) return about(seconds / (30 * 86400), "month");
    return about(seconds / (365LL * 86400), "year");
}

Result<engine::Config> Session::config() const {
    const bool named = !global.config_file.empty();
    auto config = engine::load_config(named ? global.config_file : "/etc/cooper/cooper.toml");
    if (!config && !named && config.error().code() == Code::not_found) config = engine::Config{};
    if (config && config->provenance_env_dir.empty()) config->provenance_env_dir = engine::default_provenance_env_dir();
    return config;
}

Result<std::unique_ptr<engine::Engine>> Session::open_engine() const {
    engine::Config configuration = TRY(config());
    const std::string root = TRY(engine::choose_root(global.root, configuration));
    return engine::Engine::open(root, std::move(configuration));
}

std::vector<Command> all_commands() {
    std::vector<Command> commands;
    for (auto make : {build_commands, dockerfile_commands, ignore_commands, lock_commands, cache_commands, run_commands,
                      image_commands, image_contents_commands, system_commands, why_commands, completion_commands}) {
        for (auto& command : make()) commands.push_back(std::move(command));
    }
    return commands;
}

}  // namespace cooper::cli
