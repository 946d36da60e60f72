#include "cli/verify_reproducible.hpp"

#include "base/text.hpp"
#include "cli/image_difference.hpp"
#include "oci/reference.hpp"
#include "sys/fd.hpp"
#include "sys/process.hpp"
#include "sys/temp_dir.hpp"

#include <algorithm>
#include <cstdlib>
#include <set>
#include <sys/stat.h>
#include <thread>

namespace cooper::cli {
namespace {

// What decides about the bytes of an image; where it goes does not.
engine::ExportSpec layout_of(const engine::BuildRequest& request, const std::string& dest) {
    engine::ExportSpec spec{.type = "oci", .attrs = {}, .dest = dest};
    for (const auto& wanted : request.exports) {
        for (const auto& [key, value] : wanted.attrs) {
            if (key == "rewrite-timestamp" || key == "source-date-epoch" || key.starts_with("annotation"))
                spec.attrs[key] = value;
        }
    }
    spec.attrs["tar"] = "false";
    spec.attrs["compression"] = "uncompressed";
    return spec;
}

// The images of sources that the first state has and no registry may have.
Result<> carry_bases(engine::Engine& from, engine::Engine& to, const sourcepolicy::Lock& lock, const Stop& stop) {
    constexpr std::string_view kScheme = "docker-image://";
    std::set<std::string> here;
    for (const auto& row : TRY(from.list_images())) here.insert(row.name);
    std::vector<std::string> names;
    for (const auto& [identifier, pin] : lock.sources) {
        if (!identifier.starts_with(kScheme)) continue;
        const auto reference = oci::Reference::parse_normalized(identifier.substr(kScheme.size()));
        if (reference && (here.contains(reference->familiar()) || here.contains(reference->canonical())))
            names.push_back(reference->canonical());
    }
    if (names.empty()) return {};
    sys::Pipe pipe = TRY(sys::make_pipe());
    Result<> saved;
    {
        const std::jthread writer([&] {
            saved = from.save_images(names, pipe.write_end.get(), stop);
            pipe.write_end = sys::Fd();
        });
        TRY(to.load_images(pipe.read_end.get(), stop));
    }
    return saved;
}

// Times are told in seconds: the second build begins in another one.
Result<> wait_for_another_second(const Stop& stop) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(1100);
    while (std::chrono::steady_clock::now() < until) {
        TRY(check_stop(stop));
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return {};
}

Result<engine::BuildResponse> build_into(engine::Engine& engine, engine::BuildRequest request, const std::string& dest,
                                         ProgressMode progress, const Stop& stop) {
    request.exports = {layout_of(request, dest)};
    const auto display = make_display(progress);
    auto response = engine.build(request, display->sink(), stop);
    display->finish();
    return response;
}

}  // namespace

Result<int> verify_reproducible(engine::BuildRequest request, const engine::Config& config, const std::string& root,
                                ProgressMode progress, const Session& session) {
    if (request.context.kind == engine::ContextSpec::Kind::tar_stream) {
        return bad_input("--verify-reproducible builds twice, and a context from standard input can be read once")
            .with_hint("unpack it into a directory");
    }
    request.no_cache = true;
    request.tags.clear();
    request.cache_imports.clear();
    request.cache_exports.clear();
    const char* tmp = std::getenv("TMPDIR");
    const sys::TempDir work =
        TRY(sys::TempDir::create(tmp != nullptr && *tmp != '\0' ? tmp : "/var/tmp", "cooper-verify-"));
    engine::BuildResponse first;
    const auto other = TRY_CONTEXT(engine::Engine::open(work.path() + "/state", config), "state of the second build");
    {
        const auto engine = TRY(engine::Engine::open(root, config));
        {
            const auto display = make_display(ProgressMode::quiet);
            const auto lock = TRY(engine->lock_sources(request, display->sink(), session.stop));
            display->finish();
            TRY_CONTEXT(carry_bases(*engine, *other, lock, session.stop), "take base images along");
        }
        first =
            TRY_CONTEXT(build_into(*engine, request, work.path() + "/first", progress, session.stop), "first build");
    }
    TRY(wait_for_another_second(session.stop));
    const engine::BuildResponse second =
        TRY_CONTEXT(build_into(*other, request, work.path() + "/second", progress, session.stop), "second build");
    const auto one = TRY(work.dir().open_dir("first"));
    const auto two = TRY(work.dir().open_dir("second"));
    const auto found = TRY(first_difference(one, two, session.stop));
    if (!found) {
        fmt::print("reproducible: {}\n", first.target ? first.target->digest.to_string() : "nothing was made");
        return 0;
    }
    fmt::print(stderr, "not reproducible: {}, then {}\n", first.target ? first.target->digest.to_string() : "nothing",
               second.target ? second.target->digest.to_string() : "nothing");
    fmt::print(stderr, "first difference{}: {}\n", found->platform.empty() ? "" : " (" + found->platform + ")",
               found->what);
    if (const auto step = first.steps.find(found->layer); step != first.steps.end())
        fmt::print(stderr, "made by: {}\n", step->second);
    if (found->of_time) {
        fmt::print(stderr,
                   "hint: only times differ: --build-arg SOURCE_DATE_EPOCH=SECONDS (or 'context') fixes those of the "
                   "image, and -o type=image,rewrite-timestamp=true those of its files\n");
    }
    return 1;
}

}  // namespace cooper::cli
