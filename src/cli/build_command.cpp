#include "base/text.hpp"
#include "cachestore/open.hpp"
#include "cli/build_call.hpp"
#include "cli/build_flags.hpp"
#include "cli/command.hpp"
#include "cli/verify_reproducible.hpp"
#include "codec/path_match.hpp"
#include "sys/fd.hpp"
#include "sys/temp_dir.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdio>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

namespace cooper::cli {

namespace {

constexpr std::string_view kAllStages = "*";
constexpr std::string_view kStore = "store";

struct BuildFlags {
    std::vector<std::string> tags, build_args, labels, secrets, ssh, contexts, add_hosts, outputs, allow, ulimits,
        no_cache_filter, platforms, cache_from, cache_to;
    std::string context_modes;
    std::string cache_budget;
    std::string source_policy_file, file, target, network = "default", iidfile, metadata_file, progress, context,
                                                  shm_size, cgroup_parent, memory, memory_swap, max_size;
    std::map<std::string, std::string> limits;  // by their frontend options
    bool squash_waste = false, verify_reproducible = false, offline = false, frozen = false, no_cache = false,
         pull = false, push = false, quiet = false, ignored = false;
    std::size_t jobs = 0;
    std::string provenance, sbom;
    std::vector<std::string> attests;
    std::string load;  // empty = not given, kStore without a value
    std::string call = "build";
    bool check = false;
    std::string expect_cached;  // empty = not given, kAllStages without a value
};

bool is_archive(std::string_view start) {
    using namespace std::string_view_literals;
    for (const auto magic : {"\x1f\x8b"sv, "BZh"sv,
                             "\xfd"
                             "7zXZ"sv,
                             "\x28\xb5\x2f\xfd"sv}) {
        if (start.starts_with(magic)) return true;
    }
    return start.size() > 262 && start.substr(257, 5) == "ustar";
}

// Standard input is a Dockerfile or a tar. A tar is put aside in an unlinked file; a Dockerfile is not read further
// than one may go.
Result<> take_stdin(engine::BuildRequest& request, sys::Fd& spool) {
    std::string start;
    std::array<std::byte, 512> buffer{};
    while (start.size() < buffer.size()) {
        const std::size_t n = TRY(sys::read_some(STDIN_FILENO, std::span(buffer).first(buffer.size() - start.size())));
        if (n == 0) break;
        start += as_text(std::span(buffer).first(n));
    }
    if (start.empty())
        return bad_input("nothing on standard input").with_hint("pipe a Dockerfile or a tar of the context into it");
    if (!is_archive(start)) {
        request.context.kind = engine::ContextSpec::Kind::empty;
        request.dockerfile_text =
            TRY_CONTEXT(read_dockerfile(STDIN_FILENO, std::move(start)), "Dockerfile on standard input");
        return {};
    }
    const char* tmp = std::getenv("TMPDIR");
    spool = sys::Fd(::open(tmp != nullptr && *tmp != '\0' ? tmp : "/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    if (!spool.valid()) return fail_errno(errno, "temporary file for standard input");
    sys::FdSource input(sys::Fd(::dup(STDIN_FILENO)));
    sys::FdSink output(TRY(spool.duplicate()));
    TRY(sys::write_all(spool.get(), start));
    TRY(copy_all(input, output));
    ::lseek(spool.get(), 0, SEEK_SET);
    request.context.kind = engine::ContextSpec::Kind::tar_stream;
    request.context.tar_fd = spool.get();
    return {};
}

Result<> set_context(const BuildFlags& flags, engine::BuildRequest& request, sys::Fd& spool) {
    const std::string& context = flags.context;
    if (context == "-") {
        if (flags.file == "-") return bad_input("the Dockerfile and the context cannot both be standard input");
        TRY(take_stdin(request, spool));
        if (request.context.kind == engine::ContextSpec::Kind::empty && !flags.file.empty()) {
            return bad_input("-f {} has no meaning when the Dockerfile comes from standard input", flags.file);
        }
    } else if (is_git_url(context)) {
        request.context = {engine::ContextSpec::Kind::git, context, -1};
    } else if (is_http_url(context)) {
        request.context = {engine::ContextSpec::Kind::http, context, -1};
    } else {
        struct stat st{};
        if (::stat(context.c_str(), &st) != 0) {
            return fail_errno(errno, fmt::format("build context {}", quoted(context)))
                .with_hint("the last argument is a directory, a git or http URL, or '-' for standard input");
        }
        if (!S_ISDIR(st.st_mode)) {
            return bad_input("build context {} is not a directory", quoted(context))
                .with_hint(fmt::format("to build that Dockerfile write: cooper build -f {} .", context));
        }
        request.context = {engine::ContextSpec::Kind::directory, context, -1};
    }
    if (flags.file == "-") {
        request.dockerfile_text = TRY_CONTEXT(read_dockerfile(STDIN_FILENO, ""), "Dockerfile on standard input");
    } else {
        request.dockerfile = flags.file;
    }
    return {};
}

constexpr std::size_t kMaxPolicy = 1U << 20U;

// A policy that cannot be read must not become none.
Result<std::string> read_policy(const std::string& path) {
    std::string text = TRY(read_whole(path, kMaxPolicy));
    if (text.empty()) return bad_input("{} is empty", path).with_hint("a policy without rules is {}");
    return text;
}

// cooper.lock of a directory holds for its builds, unless newer images are asked for.
Result<> set_lock(const BuildFlags& flags, engine::BuildRequest& request) {
    request.frozen = flags.frozen;
    if (flags.pull && (flags.frozen || flags.offline))
        return bad_input("--pull asks for newer images, {} forbids it", flags.frozen ? "--frozen" : "--offline");
    if (flags.pull || request.context.kind != engine::ContextSpec::Kind::directory) return {};
    auto text = read_whole(lock_path(request.context.text), kMaxLockFile);
    if (!text && text.error().code() == Code::not_found) {
        if (!flags.frozen) return {};
        return text.error().with_hint(fmt::format("write it with cooper lock {}", request.context.text));
    }
    request.lock_json = TRY(std::move(text));
    return {};
}

// --max-size and --squash-waste are attributes of the outputs, so that they hold at a daemon as well.
Result<> set_size(const BuildFlags& flags, engine::BuildRequest& request) {
    if (flags.max_size.empty() && !flags.squash_waste) return {};
    // The image that is kept anyway: one with a name, or the result of a build without outputs.
    const auto is_image = [](const auto& spec) { return spec.type == "image"; };
    const bool nothing_else = std::all_of(request.exports.begin(), request.exports.end(),
                                          [](const auto& spec) { return spec.attrs.contains("on-failure"); });
    const bool named = !flags.tags.empty() && std::none_of(request.exports.begin(), request.exports.end(), is_image);
    if (nothing_else || named) request.exports.insert(request.exports.begin(), {"image", {}, ""});
    bool any_image = false;
    for (auto& spec : request.exports) {
        if (spec.attrs.contains("on-failure")) continue;
        if (!flags.max_size.empty()) spec.attrs["max-size"] = flags.max_size;
        if (spec.type == "local" || spec.type == "tar" || spec.type == "cacheonly") continue;
        any_image = true;
        if (flags.squash_waste) spec.attrs["squash-waste"] = "true";
    }
    if (flags.squash_waste && !any_image) {
        return bad_input("--squash-waste is for images, and the result becomes none").with_hint("add -t NAME");
    }
    return {};
}

bool hands_over(const BuildFlags& flags) { return !flags.load.empty() && flags.load != kStore; }

Result<engine::BuildRequest> to_request(const BuildFlags& flags) {
    engine::BuildRequest request;
    request.target = flags.target;
    request.tags = flags.tags;
    request.no_cache = flags.no_cache;
    for (const auto& one : flags.no_cache_filter) {
        for (auto& stage : split(one, ',')) request.no_cache_filter.push_back(std::move(stage));
    }
    request.pull = flags.pull;
    request.git_modes = flags.context_modes == "git";
    if (!flags.expect_cached.empty())
        request.expect_cached = flags.expect_cached == kAllStages ? std::string() : flags.expect_cached;
    for (const auto& one : flags.allow) {
        // What a device is called may hold a comma.
        const bool whole = one.starts_with("device=");
        for (auto& right : whole ? std::vector{one} : split(one, ',')) request.allow.push_back(std::move(right));
    }
    request.ulimits = flags.ulimits;
    std::string policy = flags.source_policy_file;
    if (const char* env = std::getenv("EXPERIMENTAL_BUILDKIT_SOURCE_POLICY"); policy.empty() && env != nullptr)
        policy = env;
    if (!policy.empty()) request.source_policy_json = TRY_CONTEXT(read_policy(policy), "source policy");
    request.cgroup_parent = flags.cgroup_parent;
    for (const auto& one : flags.build_args) TRY(parse_build_arg(one, request.build_args));
    for (const auto& one : flags.labels) {
        const auto [key, value] = cut(one, '=');
        request.labels[std::string(key)] = std::string(value.value_or(""));
    }
    for (const auto& one : flags.secrets) request.secrets.push_back(TRY(parse_secret(one)));
    for (const auto& one : flags.ssh) request.ssh.push_back(TRY(parse_ssh(one)));
    for (const auto& one : flags.outputs) request.exports.push_back(TRY(parse_export(one)));
    TRY(check_destinations(request.exports));
    for (const auto& one : flags.cache_from) request.cache_imports.push_back(TRY(parse_cache(one, CacheWay::from)));
    if (!flags.cache_budget.empty())
        TRY_CONTEXT(cachestore::budget_of({"", {{"budget", flags.cache_budget}}}), "--cache-budget");
    for (const auto& one : flags.cache_to) {
        request.cache_exports.push_back(TRY(parse_cache(one, CacheWay::to)));
        engine::CacheSpec& cache = request.cache_exports.back();
        if (!flags.cache_budget.empty()) cache.attrs.try_emplace("budget", flags.cache_budget);
        TRY_CONTEXT(cachestore::check_export_attributes({cache.type, cache.attrs}), "--cache-to {}", quoted(one));
        // BuildKit takes any other word for "min".
        if (const auto mode = cache.attrs.find("mode");
            mode != cache.attrs.end() && mode->second != "min" && mode->second != "max") {
            return bad_input("--cache-to {}: mode={}: want min or max", quoted(one), quoted(mode->second));
        }
    }
    for (const auto& one : flags.add_hosts) request.add_hosts.push_back(TRY(parse_add_host(one)));
    for (const auto& one : flags.contexts) TRY(parse_build_context(one, request.named_contexts));
    for (const auto& one : flags.platforms) TRY(parse_platforms(one, request.platforms));
    for (const auto& one : flags.attests) TRY(parse_attest(one, request.attestations));
    if (!flags.provenance.empty()) TRY(parse_attest_of("provenance", flags.provenance, request.attestations));
    if (!flags.sbom.empty()) TRY(parse_attest_of("sbom", flags.sbom, request.attestations));
    if (flags.network == "host") {
        request.network = engine::NetworkMode::host;
    } else if (flags.network == "none") {
        request.network = engine::NetworkMode::none;
    } else if (flags.network != "default" && flags.network != "sandbox") {
        return bad_input("--network {}: want default, none or host", quoted(flags.network));
    }
    for (const auto& [name, value] : flags.limits) {
        if (!value.empty()) request.limits[name] = value;
    }
    if (!flags.memory.empty()) request.limits["memory"] = std::to_string(TRY(parse_memory(flags.memory)));
    if (!flags.memory_swap.empty()) {
        request.limits["memswap"] =
            flags.memory_swap == "-1" ? flags.memory_swap : std::to_string(TRY(parse_memory(flags.memory_swap)));
    }
    if (!flags.shm_size.empty()) request.shm_size_bytes = TRY(parse_memory(flags.shm_size));
    if (flags.push) {
        if (flags.tags.empty()) return bad_input("--push needs a name").with_hint("add -t REGISTRY/NAME:TAG");
        const auto image = std::find_if(request.exports.begin(), request.exports.end(),
                                        [](const auto& e) { return e.type == "image"; });
        if (image != request.exports.end()) {
            image->attrs["push"] = "true";
        } else {
            request.exports.push_back({"image", {{"push", "true"}}, ""});
        }
    }
    if (hands_over(flags)) {
        if (flags.load != "docker" && flags.load != "podman" && flags.load != "containerd")
            return bad_input("--load={}: want docker, podman or containerd", quoted(flags.load));
        const bool kept = std::ranges::any_of(request.exports, [](const auto& e) { return e.type == "image"; });
        if (!kept && request.tags.empty()) request.exports.push_back({"image", {}, ""});
    } else if (!flags.load.empty() && request.exports.empty()) {
        request.exports.push_back({"image", {}, ""});
    }
    TRY(set_size(flags, request));
    return request;
}

std::string metadata_json(const engine::BuildResponse& response) {
    std::string text = "{";
    for (const auto& [key, value] : response.metadata)
        text += fmt::format("{}\n  \"{}\": {}", text.size() > 1 ? "," : "", key, value);
    return text + "\n}\n";
}

bool is_unwritable(const Error& error) {
    const auto* number = error.find_detail<Errno>();
    if (number == nullptr) return false;
    return number->value == EACCES || number->value == EPERM || number->value == EROFS || number->value == ENOENT;
}

// A question changes nothing, so it is answered to those, too, who may not write the state.
Result<std::unique_ptr<engine::Engine>> open_for_call(const Session& session, engine::Config config,
                                                      sys::TempDir& passing) {
    const auto root = engine::choose_root(session.global.root, config);
    if (root) {
        auto engine = engine::Engine::open(*root, config);
        if (engine || !is_unwritable(engine.error())) return engine;
    }
    const char* tmp = std::getenv("TMPDIR");
    passing = TRY(sys::TempDir::create(tmp != nullptr && *tmp != '\0' ? tmp : "/tmp", "cooper-call-"));
    return engine::Engine::open(passing.path(), std::move(config));
}

CalledFile called_file(const BuildFlags& flags, const engine::BuildRequest& request) {
    CalledFile file;
    if (!flags.file.empty() && flags.file != "-") file.shown = flags.file;
    file.path = file.shown.empty() ? "Dockerfile" : file.shown;
    if (file.shown.empty() && request.context.kind == engine::ContextSpec::Kind::directory) {
        file.path = codec::join_path(request.context.text, "Dockerfile");
    }
    file.path = codec::clean_path(file.path);
    return file;
}

// By a daemon when one is named, else by an engine of this process.
Result<engine::BuildResponse> run_build(const engine::BuildRequest& request, const Session& session,
                                        const std::function<Result<std::unique_ptr<engine::Engine>>()>& open,
                                        ProgressMode mode, bool offline) {
    if (!session.global.builder.empty() && session.remote != nullptr) {
        if (offline) return bad_input("--offline is for builds without --builder");
        const auto display = make_display(mode);
        auto result = session.remote->build({session.global.builder, session.global.tls_dir}, request, display->sink(),
                                            session.stop);
        display->finish();
        return result;
    }
    const auto engine = TRY(open());
    const auto display = make_display(mode);
    auto result = engine->build(request, display->sink(), session.stop);
    display->finish();
    return result;
}

Result<int> answer(const BuildFlags& flags, const BuildCall& call, engine::BuildRequest request, ProgressMode progress,
                   Session& session) {
    request.call = call.request;
    sys::TempDir passing;  // when there is no state that may be written
    const auto open = [&]() -> Result<std::unique_ptr<engine::Engine>> {
        engine::Config config = TRY(session.config());
        config.offline = flags.offline;
        return open_for_call(session, std::move(config), passing);
    };
    const engine::BuildResponse response = TRY(run_build(request, session, open, progress, flags.offline));
    if (!flags.metadata_file.empty()) TRY(write_file(flags.metadata_file, metadata_json(response)));
    return print_answer(call, response.answer, called_file(flags, request));
}

Result<int> build(const BuildFlags& flags, Session& session) {
    const BuildCall call = TRY(parse_call(flags.check ? "check" : flags.call));
    engine::BuildRequest request = TRY(to_request(flags));
    sys::Fd spool;
    TRY(set_context(flags, request, spool));
    TRY(set_lock(flags, request));
    std::string mode = flags.progress;
    if (const char* env = std::getenv("BUILDKIT_PROGRESS"); mode.empty() && env != nullptr) mode = env;
    if (hands_over(flags) && !session.global.builder.empty())
        return bad_input("--load={} hands over what is built here, not by a --builder", flags.load)
            .with_hint(fmt::format("pipe it: -o type=docker,dest=- … | {} load", flags.load));
    const ProgressMode progress = flags.quiet ? ProgressMode::quiet : TRY(parse_progress_mode(mode));
    if (!call.request.empty()) return answer(flags, call, std::move(request), progress, session);
    if (flags.verify_reproducible) {
        if (!session.global.builder.empty() || !flags.tags.empty() || flags.push) {
            return bad_input(
                "--verify-reproducible keeps and sends nothing, and builds here: it goes without -t, "
                "--push and --builder");
        }
        engine::Config config = TRY(session.config());
        if (flags.jobs > 0) config.jobs = flags.jobs;
        config.offline = flags.offline;
        const std::string root = TRY(engine::choose_root(session.global.root, config));
        return verify_reproducible(std::move(request), config, root, progress, session);
    }
    const auto open = [&]() -> Result<std::unique_ptr<engine::Engine>> {
        engine::Config config = TRY(session.config());
        if (flags.jobs > 0) config.jobs = flags.jobs;
        config.offline = flags.offline;
        const std::string root = TRY(engine::choose_root(session.global.root, config));
        return engine::Engine::open(root, std::move(config));
    };
    const engine::BuildResponse response = TRY(run_build(request, session, open, progress, flags.offline));
    const std::string id = response.image_id ? response.image_id->to_string() : "";
    if (!flags.iidfile.empty()) TRY(write_file(flags.iidfile, id));
    if (!flags.metadata_file.empty()) TRY(write_file(flags.metadata_file, metadata_json(response)));
    if (hands_over(flags)) {
        const auto engine = TRY(open());
        engine::Engine::HandOverRequest handing;
        handing.names = flags.tags.empty() ? std::vector{id} : flags.tags;
        handing.to = flags.load;
        if (session.remote != nullptr) handing.dial = session.remote->dialer();
        for (const auto& row : TRY(engine->hand_over_images(handing, session.stop))) {
            if (progress != ProgressMode::quiet) fmt::print(stderr, "{}", hand_over_line(row));
        }
    }
    if (progress == ProgressMode::quiet && !id.empty()) fmt::print("{}\n", id);
    return 0;
}

// Shows a flag that may have a value as "--flag[=…]" instead of with the value that it has alone.
class FlagsWithValues final : public CLI::Formatter {
public:
    explicit FlagsWithValues(const CLI::Formatter& usual) : CLI::Formatter(usual) {}
    std::string make_option_name(const CLI::Option* option, bool positional) const override {
        std::string name = CLI::Formatter::make_option_name(option, positional);
        if (const auto at = name.find("{*}"); at != std::string::npos) name.replace(at, 3, "[=STAGE,…]");
        if (const auto at = name.find("{store}"); at != std::string::npos) name.replace(at, 7, "[=ENGINE]");
        return name;
    }
};

Action setup_build(CLI::App& app) {
    if (const auto* usual = dynamic_cast<const CLI::Formatter*>(app.get_formatter().get()))
        app.formatter(std::make_shared<FlagsWithValues>(*usual));
    auto flags = std::make_shared<BuildFlags>();
    app.add_option("-t,--tag", flags->tags, "Name of the image (repeatable)")
        ->type_name("NAME[:TAG]")
        ->allow_extra_args(false);
    app.add_option("-f,--file", flags->file, "Dockerfile [CONTEXT/Dockerfile]; - reads it from standard input")
        ->type_name("FILE");
    app.add_option("--target", flags->target, "Stage to build [the last]")->type_name("STAGE");
    app.add_option("--build-arg", flags->build_args, "Value of an ARG; NAME alone takes it from the environment")
        ->type_name("NAME[=VALUE]")
        ->allow_extra_args(false);
    app.add_option("-o,--output", flags->outputs,
                   "Where the result goes: type=image|registry|oci|docker|local|tar[,dest=…][,key=value], or a folder")
        ->type_name("SPEC")
        ->allow_extra_args(false);
    app.add_option("--max-size", flags->max_size, "Fail, and name the culprits, when the layers hold more (200MB)")
        ->type_name("SIZE");
    app.add_flag("--squash-waste", flags->squash_waste,
                 "Store nothing twice and nothing in vain above the base image; the files are the same");
    app.add_flag("--push", flags->push, "Push the image: short for -o type=registry");
    // The value in braces is that of the flag alone, kStore.
    app.add_flag("--load{store}", flags->load,
                 "Hand the image over to docker, podman or containerd; alone: keep it here, what -t does by itself");
    app.add_option("--platform", flags->platforms, "Platform of the result [this machine's]")
        ->type_name("OS/ARCH")
        ->allow_extra_args(false);
    app.add_flag("--check", flags->check, "Check the Dockerfile, build nothing: short for --call=check");
    app.add_option("--call", flags->call,
                   "Ask instead of building: check, outline or targets[,format=json|sarif][,ignorestatus=true]")
        ->type_name("QUESTION");
    app.add_option("--cache-from", flags->cache_from,
                   "Use a cache: an image, or type=registry, local, s3, gha, azblob with attributes")
        ->type_name("SPEC")
        ->allow_extra_args(false);
    app.add_option("--cache-to", flags->cache_to,
                   "Export the cache: inline, or type=registry, local, s3, gha, azblob with attributes")
        ->type_name("SPEC")
        ->allow_extra_args(false);
    app.add_option("--cache-budget", flags->cache_budget,
                   "Bound of what each --cache-to holds, or of the time it takes")
        ->type_name("SIZE|DURATION");
    // The value in braces is that of the flag alone, kAllStages.
    app.add_flag("--expect-cached{*}", flags->expect_cached,
                 "Fail, and say why, when a step [of these stages] is not in the cache");
    app.add_option("--context-modes", flags->context_modes,
                   "Modes of local files: files, as they are, or git, as git records them: 0644 and 0755 [files]")
        ->check(CLI::IsMember({"files", "git"}))
        ->type_name("WHICH");
    app.add_flag("--no-cache", flags->no_cache, "Run every step again");
    app.add_flag("--verify-reproducible", flags->verify_reproducible,
                 "Build twice, each time without cache, keep nothing, and name the first file that differs");
    app.add_option("--no-cache-filter", flags->no_cache_filter, "Run the steps of these stages again")
        ->type_name("STAGE")
        ->allow_extra_args(false);
    app.add_flag("--pull", flags->pull, "Ask the registry for newer base images");
    app.add_flag("--frozen", flags->frozen, "Remote sources must be in cooper.lock, or be named by digest or commit");
    app.add_flag("--offline", flags->offline, "Use what is here; neither the build nor its steps have a network");
    app.add_option("--secret", flags->secrets,
                   "Secret for RUN --mount=type=secret: id=NAME,src=FILE or id=NAME,env=VARIABLE")
        ->type_name("SPEC")
        ->allow_extra_args(false);
    app.add_option("--ssh", flags->ssh, "Agent or keys for RUN --mount=type=ssh: default or ID=SOCKET|KEY")
        ->type_name("SPEC")
        ->allow_extra_args(false);
    app.add_option("--build-context", flags->contexts,
                   "Further context: NAME=DIR|URL|docker-image://REF|oci-layout://DIR")
        ->type_name("NAME=VALUE")
        ->allow_extra_args(false);
    app.add_option("--add-host", flags->add_hosts, "Line of /etc/hosts for RUN; host-gateway is this machine")
        ->type_name("HOST:IP")
        ->allow_extra_args(false);
    app.add_option("--network", flags->network,
                   "Network of RUN: default, none or host (host needs --allow network.host)")
        ->type_name("MODE");
    app.add_option("--allow", flags->allow, "Grant network.host, security.insecure or device[=NAME]")
        ->type_name("ENTITLEMENT")
        ->allow_extra_args(false);
    app.add_option("--source-policy-file", flags->source_policy_file,
                   "Which sources may be used, and what instead, as JSON [$EXPERIMENTAL_BUILDKIT_SOURCE_POLICY]")
        ->type_name("FILE");
    app.add_option("--provenance", flags->provenance,
                   "Say in the image how it was made: true, false or mode=min|max[,version=v1|v0.2][,…] [false]")
        ->type_name("SPEC");
    app.add_option("--sbom", flags->sbom,
                   "Say in the image what is in it: true, false, format=spdx|cyclonedx or generator=IMAGE [false]")
        ->type_name("SPEC");
    app.add_option("--attest", flags->attests, "The same as type=provenance,… or type=sbom,…")
        ->type_name("SPEC")
        ->allow_extra_args(false);
    app.add_option("--label", flags->labels, "Label of the image")->type_name("KEY=VALUE")->allow_extra_args(false);
    app.add_option("--iidfile", flags->iidfile, "Write the image id to this file")->type_name("FILE");
    app.add_option("--metadata-file", flags->metadata_file, "Write what was built as JSON to this file")
        ->type_name("FILE");
    app.add_option("--progress", flags->progress, "auto, tty, plain, quiet or rawjson [$BUILDKIT_PROGRESS, auto]")
        ->type_name("MODE");
    app.add_flag("-q,--quiet", flags->quiet, "Print only the image id");
    app.add_option("--shm-size", flags->shm_size, "Size of /dev/shm in RUN")->type_name("BYTES");
    app.add_option("--ulimit", flags->ulimits, "Limit in RUN: NAME=SOFT[:HARD]")
        ->type_name("LIMIT")
        ->allow_extra_args(false);
    app.add_option("--cgroup-parent", flags->cgroup_parent, "Parent cgroup of RUN")->type_name("NAME");
    app.add_option("-m,--memory", flags->memory, "Memory of RUN")->type_name("BYTES");
    app.add_option("--memory-swap", flags->memory_swap, "Memory and swap of RUN together; -1 is without end")
        ->type_name("BYTES");
    app.add_option("-c,--cpu-shares", flags->limits["cpushares"], "Share of the processors for RUN [1024]")
        ->type_name("N");
    app.add_option("--cpu-period", flags->limits["cpuperiod"], "Period of --cpu-quota [100000]")->type_name("US");
    app.add_option("--cpu-quota", flags->limits["cpuquota"], "Processor time for RUN in each period")->type_name("US");
    app.add_option("--cpuset-cpus", flags->limits["cpusetcpus"], "Processors for RUN: 0-2,4")->type_name("LIST");
    app.add_option("--cpuset-mems", flags->limits["cpusetmems"], "Memory nodes for RUN: 0-1")->type_name("LIST");
    app.add_option("-j,--jobs", flags->jobs, "Steps that may run at the same time [cores]")->type_name("N");
    app.add_option("CONTEXT", flags->context, "Directory, git or http URL, or - for standard input")->required();
    // Flags that docker build accepts and that change nothing here.
    for (const char* name : {"--rm", "--force-rm", "--compress"}) app.add_flag(name, flags->ignored, "")->group("");
    return [flags](Session& session) { return build(*flags, session); };
}

}  // namespace

std::vector<Command> build_commands() {
    return {{"build", "Build an image from a Dockerfile",
             "  cooper build -t shop/api .\n"
             "  cooper build --target test --build-arg VERSION=1.2 .\n"
             "  cooper build -o type=oci,dest=image.tar https://example.com/app.git#main\n"
             "  cooper build --secret id=token,env=TOKEN --ssh default -t app .\n"
             "  echo 'FROM alpine' | cooper build -t tiny -\n"
             "  cooper build --expect-cached=deps .\n"
             "  cooper build --check .\n"
             "  cooper build --call=check,format=sarif . > checks.sarif\n",
             setup_build, false}};
}

}  // namespace cooper::cli
