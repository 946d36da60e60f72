// cooper layers, cooper diff, cooper blame: what is in an image.
#include "base/text.hpp"
#include "cli/command.hpp"
#include "inside/blame.hpp"
#include "inside/compare.hpp"
#include "inside/layers_report.hpp"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <thread>

namespace cooper::cli {

namespace {

struct ContentsFlags {
    std::string first, second, platform, html;
    std::string format = "text";
    std::size_t top = 10;
    bool times = false, exit_code = false;
};

std::size_t threads() { return std::max(1U, std::thread::hardware_concurrency()); }

void add_shared(CLI::App& app, ContentsFlags& flags) {
    app.add_option("--platform", flags.platform, "Platform of an image that has several [this machine's]")
        ->type_name("OS/ARCH");
    app.add_option("--format", flags.format, "text or json [text]")->check(CLI::IsMember({"text", "json"}));
}

Result<inside::Image> open_image(engine::Engine& engine, const ContentsFlags& flags, const std::string& name,
                                 const Stop& stop) {
    std::optional<oci::Platform> platform;
    if (!flags.platform.empty()) platform = TRY(oci::parse_platform(flags.platform));
    return engine.open_image(name, platform, stop);
}

Action setup_layers(CLI::App& app) {
    auto flags = std::make_shared<ContentsFlags>();
    app.add_option("IMAGE", flags->first, "Name or id; oci-layout://DIR[:TAG]; an archive; else asked of its registry")
        ->required();
    add_shared(app, *flags);
    app.add_option("--html", flags->html, "Write a page with a treemap for a browser")->type_name("FILE");
    app.add_option("--top", flags->top, "How many files are named [10]")->type_name("N");
    return [flags](Session& session) -> Result<int> {
        const auto engine = TRY(session.open_engine());
        const inside::Image image = TRY(open_image(*engine, *flags, flags->first, session.stop));
        const auto report = TRY(inside::report_layers(image, flags->top, threads(), session.stop));
        if (!flags->html.empty()) {
            TRY(write_file(flags->html, inside::to_page(*report)));
            return 0;
        }
        fmt::print("{}", flags->format == "json" ? inside::to_json(*report) : inside::to_text(*report));
        return 0;
    };
}

Action setup_diff(CLI::App& app) {
    auto flags = std::make_shared<ContentsFlags>();
    app.add_option("A", flags->first, "Image, as of cooper layers")->required();
    app.add_option("B", flags->second, "Image that it is compared with")->required();
    add_shared(app, *flags);
    app.add_flag("--times", flags->times, "Show files that differ in nothing but their times");
    app.add_flag("--exit-code", flags->exit_code, "Exit with 1 when they differ");
    return [flags](Session& session) -> Result<int> {
        const auto engine = TRY(session.open_engine());
        const inside::Image before = TRY(open_image(*engine, *flags, flags->first, session.stop));
        const inside::Image after = TRY(open_image(*engine, *flags, flags->second, session.stop));
        const inside::Differences differences = TRY(inside::compare(before, after, threads(), session.stop));
        const auto times = flags->times ? inside::Times::show : inside::Times::ignore;
        fmt::print("{}", flags->format == "json" ? inside::to_json(differences) : inside::to_text(differences, times));
        return flags->exit_code && differences.any() ? 1 : 0;
    };
}

Action setup_blame(CLI::App& app) {
    auto flags = std::make_shared<ContentsFlags>();
    app.add_option("IMAGE", flags->first, "Image, as of cooper layers")->required();
    app.add_option("PATH", flags->second, "File or directory in it")->required();
    add_shared(app, *flags);
    return [flags](Session& session) -> Result<int> {
        const auto engine = TRY(session.open_engine());
        const inside::Image image = TRY(open_image(*engine, *flags, flags->first, session.stop));
        const inside::PathHistory blame = TRY(inside::blame(image, flags->second, threads(), session.stop));
        fmt::print("{}", flags->format == "json" ? inside::to_json(blame) : inside::to_text(blame));
        return 0;
    };
}

}  // namespace

std::vector<Command> image_contents_commands() {
    return {
        {"layers", "Show what each layer of an image holds, and what of it is wasted",
         "  cooper layers shop/api\n  cooper layers --html layers.html shop/api\n"
         "  cooper layers --format=json registry.example.com/shop/api:1.2\n",
         setup_layers, false},
        {"diff", "Show in what two images differ",
         "  cooper diff shop/api:1.1 shop/api:1.2\n  cooper diff old.tar shop/api\n", setup_diff, false},
        {"blame", "Show which layers made a file of an image what it is",
         "  cooper blame shop/api /etc/passwd\n  cooper blame shop/api /usr/lib\n", setup_blame, false},
    };
}

}  // namespace cooper::cli
