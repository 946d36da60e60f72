#include "engine/local_job.hpp"

#include "base/text.hpp"
#include "codec/sha256.hpp"
#include "dockerfile/frontend.hpp"
#include "dockerfile/frontend_options.hpp"
#include "dockerfile/parse.hpp"
#include "engine/archive_time.hpp"
#include "engine/context_size.hpp"
#include "engine/entitlements.hpp"
#include "engine/noted_op.hpp"
#include "llb/cache_digest.hpp"
#include "ops/container.hpp"
#include "ops/exec_op.hpp"
#include "ops/file_op.hpp"
#include "ops/merge_op.hpp"
#include "ops/shared_op.hpp"
#include "ops/source_op.hpp"
#include "ops/unpack.hpp"

#include <algorithm>
#include <array>
#include <fcntl.h>
#include <sys/stat.h>

namespace cooper::engine {

oci::Platform to_oci(const llb::Platform& platform) {
    oci::Platform out;
    out.os = platform.os;
    out.architecture = platform.architecture;
    out.variant = platform.variant;
    out.os_version = platform.os_version;
    out.os_features = platform.os_features;
    return out;
}

llb::Platform to_llb(const oci::Platform& platform) {
    llb::Platform out;
    out.os = platform.os;
    out.architecture = platform.architecture;
    out.variant = platform.variant;
    out.os_version = platform.os_version;
    out.os_features = platform.os_features;
    return out;
}

LocalJob::LocalJob(LocalEngine& engine, std::shared_ptr<store::Store> store, JobOptions options, ProgressSink& progress)
    : engine_(engine),
      presence_(engine, store->use()),
      options_(std::move(options)),
      progress_(progress),
      step_clock_(progress),
      started_(engine.clock_.now()),
      workshop_(std::make_shared<Workshop>(engine, std::move(store), options_.session, options_.find_session,
                                           options_.own_credentials ? &engine.credentials_ : nullptr)),
      notes_(std::make_shared<StepNotes>(*engine.store_, options_.ref, options_.project)),
      job_(engine.solver().start_job({.progress = step_clock_, .cache = solver::CachePolicy::use})) {
    if (options_.git_modes) workshop_->use_git_modes();
}

LocalJob::~LocalJob() = default;

LocalJob::Presence::~Presence() {
    // What cannot be let go of now is let go of after the next build.
    static_cast<void>(engine_.store_->drop_unpinned());
    --*engine_.live_jobs_.lock();
}

const Clock& LocalJob::clock() const { return engine_.clock_; }

// --- results ---

Result<> LocalJob::check_entitlements(llb::NetMode network, llb::SecurityMode security, const std::string& step) const {
    const Entitlements rights = TRY(Entitlements::parse(options_.entitlements));
    return rights.check(network, security, step);
}

Result<run::DeviceEdits> LocalJob::devices_of(const llb::ExecOp& exec, const std::string& step) const {
    if (exec.cdi_devices.empty()) return run::DeviceEdits{};
    const Entitlements rights = TRY(Entitlements::parse(options_.entitlements));
    const run::CdiDevices known = run::CdiDevices::load(engine_.config_.cdi_spec_dirs);
    const std::vector<std::string> names = TRY(rights.devices(exec.cdi_devices, known, step));
    return known.edits(names);
}

namespace {

constexpr std::size_t kMaxDefinition = 64U << 20U;  // of a build operation
constexpr int kMaxRebuilds = 8;                     // of one build, because of layers that a cache had lost

run::Resources to_run(const std::optional<llb::LinuxResources>& resources) {
    if (!resources) return {};
    return {.memory_bytes = resources->memory_bytes,
            .memory_swap_bytes = resources->memory_swap_bytes,
            .cpu_shares = resources->cpu_shares,
            .cpu_period_us = resources->cpu_period_us,
            .cpu_quota_us = resources->cpu_quota_us,
            .cpuset_cpus = resources->cpuset_cpus,
            .cpuset_mems = resources->cpuset_mems};
}

}  // namespace

Result<std::shared_ptr<solver::Op>> LocalJob::to_op(const std::shared_ptr<const Plan>& plan, std::size_t index) {
    const llb::LoadedVertex& vertex = plan->graph.vertices[index];
    if (!vertex.locations.empty()) {
        const auto& place = vertex.locations.front();
        places_.lock()->try_emplace(vertex.name, fmt::format("{}:{}", place.file, place.first_line));
    }
    ops::Environment& environment = workshop_->environment();
    const oci::Platform platform =
        oci::normalize(vertex.op.platform ? to_oci(*vertex.op.platform) : oci::host_platform());
    std::shared_ptr<solver::Op> op;
    if (const auto* source = std::get_if<llb::SourceOp>(&vertex.op.body)) {
        op = TRY(ops::make_source_op(environment, {vertex.digest, *source, platform}));
    } else {
        llb::OpCacheInfo cache = TRY(llb::cache_info(vertex.op, to_llb(platform)));
        if (const auto* exec = std::get_if<llb::ExecOp>(&vertex.op.body)) {
            TRY(check_entitlements(exec->network, exec->security, vertex.name));
            llb::ExecOp runs = *exec;
            if (engine_.config_.offline) {
                if (runs.network == llb::NetMode::host)
                    return bad_input("offline: {} wants the network of the host", vertex.name);
                runs.network = llb::NetMode::none;
            }
            add_secret_keys(*exec, cache);
            run::DeviceEdits devices = TRY(devices_of(*exec, vertex.name));
            op = std::make_shared<ops::ExecOp>(
                environment,
                ops::ExecParts{std::move(runs), std::move(cache), vertex.name, vertex.metadata.ignore_cache,
                               platform.architecture, to_run(vertex.metadata.linux_resources), std::move(devices)});
        } else if (const auto* file = std::get_if<llb::FileOp>(&vertex.op.body)) {
            op = std::make_shared<ops::FileOp>(environment, *file, std::move(cache), vertex.name);
        } else if (const auto* merge = std::get_if<llb::MergeOp>(&vertex.op.body)) {
            op = std::make_shared<ops::MergeOp>(environment, *merge, std::move(cache), vertex.name);
        } else if (const auto* diff = std::get_if<llb::DiffOp>(&vertex.op.body)) {
            op = std::make_shared<ops::DiffOp>(environment, *diff, std::move(cache), vertex.name);
        } else if (const auto* passthrough = std::get_if<llb::PassthroughOp>(&vertex.op.body)) {
            op = std::make_shared<ops::PassthroughOp>(*passthrough, std::move(cache));
        } else if (const auto* build = std::get_if<llb::BuildOp>(&vertex.op.body)) {
            op = build_op(vertex, *build, std::move(cache));
        } else {
            return bad_input("an operation of no kind: {}", vertex.name);
        }
    }
    const bool is_exec = std::holds_alternative<llb::ExecOp>(vertex.op.body);
    op = std::make_shared<NotedOp>(
        NotedOp::Parts{.op = std::move(op),
                       .notes = notes_,
                       .plan = plan,
                       .index = index,
                       .environment = environment,
                       .platform = to_llb(platform),
                       .secret_keys = is_exec ? secret_keys_of(std::get<llb::ExecOp>(vertex.op.body))
                                              : std::map<std::string, std::string>()});
    return std::make_shared<ops::SharedOp>(std::move(op), workshop_);
}

// A step that uses such a secret has another key with each of its values.
void LocalJob::add_secret_keys(const llb::ExecOp& exec, llb::OpCacheInfo& cache) const {
    std::string text = "cooper.secrets.v0:" + cache.digest.to_string();
    const std::size_t plain = text.size();
    for (const auto& [id, key] : secret_keys_of(exec)) text += "\n" + id + "=" + key;
    if (text.size() > plain) cache.digest = codec::sha256_of(text);
}

std::map<std::string, std::string> LocalJob::secret_keys_of(const llb::ExecOp& exec) const {
    std::map<std::string, std::string> keys;
    if (options_.secret_keys.empty()) return keys;
    std::set<std::string> ids;
    for (const auto& mount : exec.mounts) {
        if (mount.type == llb::MountType::secret && mount.secret) ids.insert(mount.secret->id);
    }
    for (const auto& variable : exec.secret_env) ids.insert(variable.id);
    for (const auto& [id, key] : options_.secret_keys) {
        if (ids.contains(id)) keys.emplace(id, key);
    }
    return keys;
}

std::shared_ptr<solver::Op> LocalJob::build_op(const llb::LoadedVertex& vertex, const llb::BuildOp& op,
                                               llb::OpCacheInfo cache) {
    const auto read = [this](const solver::SharedResult& input, const std::string& path, VertexProgress& progress,
                             const Stop& stop) -> Result<std::optional<std::string>> {
        const auto tree = TRY(workshop_->trees().tree(input, progress, stop));
        return tree->read_file("/" + path, kMaxDefinition);
    };
    const auto nested = [this, digest = vertex.digest](const llb::Definition& definition,
                                                       const Stop& stop) -> Result<solver::SharedResult> {
        return build(TRY(load(definition, {}, digest, stop)), stop);
    };
    return std::make_shared<BuildOp>(op, std::move(cache), read, nested);
}

Result<solver::Output> LocalJob::to_vertices(const std::shared_ptr<const Plan>& plan, const std::string& scope) {
    const llb::Graph& graph = plan->graph;
    std::vector<std::shared_ptr<const solver::Vertex>> vertices;
    vertices.reserve(graph.vertices.size());
    for (const auto& loaded : graph.vertices) {
        solver::Vertex::Parts parts;
        parts.digest = loaded.digest;
        parts.name = loaded.name;
        parts.options.scope = scope;
        for (const auto& input : loaded.inputs) {
            parts.inputs.push_back({vertices[input.vertex], static_cast<std::uint32_t>(input.output)});
            // What is made of one client's files is that client's.
            if (parts.options.scope.empty()) parts.options.scope = vertices[input.vertex]->options().scope;
        }
        if (const auto* source = std::get_if<llb::SourceOp>(&loaded.op.body)) {
            const bool named = source->attrs.contains("local.session") || source->attrs.contains("oci.session");
            const bool of_client =
                source->identifier.starts_with("local://") || source->identifier.starts_with("oci-layout://");
            if (of_client && !named && scope.empty())
                parts.options.scope = session().id().empty() ? options_.ref : session().id();
        }
        // It works with this job, so no other job may wait for it.
        if (std::holds_alternative<llb::BuildOp>(loaded.op.body))
            parts.options.scope = fmt::format("{} of {}", scope, options_.ref);
        parts.options.ignore_cache = loaded.metadata.ignore_cache;
        parts.options.description = loaded.metadata.description;
        if (const auto& group = loaded.metadata.progress_group) {
            parts.options.group = ProgressGroup{group->id, group->name, group->weak};
        }
        std::int64_t outputs = 1;
        if (const auto* exec = std::get_if<llb::ExecOp>(&loaded.op.body)) {
            for (const auto& mount : exec->mounts) outputs = std::max(outputs, mount.output + 1);
        } else if (const auto* file = std::get_if<llb::FileOp>(&loaded.op.body)) {
            for (const auto& action : file->actions) outputs = std::max(outputs, action.output + 1);
        } else if (const auto* passthrough = std::get_if<llb::PassthroughOp>(&loaded.op.body)) {
            outputs = std::max<std::int64_t>(outputs, static_cast<std::int64_t>(passthrough->outputs.size()));
        }
        parts.outputs = static_cast<std::uint32_t>(outputs);
        parts.op = TRY(to_op(plan, vertices.size()));
        vertices.push_back(solver::Vertex::create(std::move(parts)));
    }
    return solver::Output{vertices[graph.target->vertex], static_cast<std::uint32_t>(graph.target->output)};
}

// --- policies ---

class LocalJob::Facts final : public SourceFacts {
public:
    explicit Facts(LocalJob& job) : job_(job) {}
    Result<frontend::ResolvedImage> image(const std::string& reference, const llb::Platform& platform,
                                          frontend::ResolveMode mode, Stop stop) override {
        return job_.ask_image_config(reference, platform, mode, "resolve image config for " + reference, stop);
    }
    Result<SourceMeta> other(const llb::SourceOp& source, Stop stop) override {
        return job_.ask_source(source, "", stop);
    }

private:
    LocalJob& job_;
};

Result<bool> LocalJob::permit(llb::SourceOp& source, const std::optional<llb::Platform>& platform,
                              const sourcepolicy::Policies& more, const Stop& stop) {
    bool changed = TRY(options_.policies.apply(source));
    changed = TRY(more.apply(source)) || changed;
    if (options_.judge == nullptr) return changed;
    Facts facts(*this);
    return TRY(options_.judge->judge(source, platform ? *platform : to_llb(oci::host_platform()), facts, stop)) ||
           changed;
}

Result<ResultRef> LocalJob::load(const llb::Definition& given, const sourcepolicy::Policies& more,
                                 const std::optional<Digest>& parent, const Stop& stop) {
    if (given.is_scratch()) return ResultRef{};
    const bool free = options_.policies.empty() && more.empty() && options_.judge == nullptr;
    const llb::Definition definition =
        free ? given
             : TRY(sourcepolicy::change_sources(
                   given, [&](llb::SourceOp& source, const std::optional<llb::Platform>& platform) {
                       return permit(source, platform, more, stop);
                   }));
    auto plan = std::make_shared<Plan>();
    plan->graph = TRY(llb::load(definition));
    if (!plan->graph.target) return ResultRef{};
    TRY(build_order_.add(plan->graph, parent));
    plan->definition = definition;
    // What this build may not run others may.
    solver::Output output = TRY(to_vertices(plan, notes_->expects() ? options_.ref + " expects" : ""));
    auto result = std::make_shared<const LazyResult>(std::move(plan), std::move(output));
    if (wants_cache_of_failure()) asked_for_.lock()->push_back(result);
    return result;
}

namespace {

// Where in which file the step that failed was written.
Error explain(Error error, const LazyResult& result, const std::optional<Digest>& failed) {
    if (error.is_cancelled() || !failed) return error;
    const llb::LoadedVertex* vertex = result.graph().find(*failed);
    if (vertex == nullptr) return error;
    error = error.with_context("failed to solve");
    if (error.find_detail<FailedVertex>() == nullptr) error = error.with_detail(FailedVertex{failed->to_string()});
    const auto& source = result.definition().source;
    if (!source || error.find_detail<Excerpt>() != nullptr) return error;
    const auto located = source->locations.find(failed->to_string());
    if (located == source->locations.end()) return error;
    for (const auto& location : located->second) {
        if (location.source_index < 0 || static_cast<std::size_t>(location.source_index) >= source->infos.size())
            continue;
        if (location.ranges.empty()) continue;
        const auto& info = source->infos[static_cast<std::size_t>(location.source_index)];
        error =
            error.with_detail(SourceText{info.filename, info.language, std::make_shared<const std::string>(info.data)});
        return dockerfile::with_excerpt(std::move(error), info.filename, info.data,
                                        {location.ranges.front().start.line, location.ranges.front().end.line});
    }
    return error;
}

}  // namespace

Result<solver::SharedResult> LocalJob::build(const ResultRef& ref, const Stop& stop) {
    if (ref == nullptr) return solver::SharedResult{};
    auto result = job_->build(output_of(ref), stop);
    if (!result && workshop_->take_lost_layers()) return build_again(ref, stop);
    if (!result) return explain(result.error(), *ref, job_->failed_vertex());
    return result;
}

// The cache had promised what it does not have. Nobody may notice but by the time it takes.
Result<solver::SharedResult> LocalJob::build_again(const ResultRef& ref, const Stop& stop) {
    if (ref == nullptr) return solver::SharedResult{};
    if (rebuilds_ == kMaxRebuilds)
        return fail(Code::data_loss, Blame::world, "the cache has lost too much").with_hint("build with --no-cache");
    const std::string scope = fmt::format("{} again {}", options_.ref, ++rebuilds_);
    solver::Output output = TRY(to_vertices(ref->plan(), scope));
    rebuilt_.lock()->insert_or_assign(ref, output);
    return build(ref, stop);
}

solver::Output LocalJob::output_of(const ResultRef& ref) {
    auto rebuilt = rebuilt_.lock();
    const auto found = rebuilt->find(ref);
    return found == rebuilt->end() ? ref->output() : found->second;
}

Result<> LocalJob::evaluate(const ResultRef& ref, Stop stop) {
    TRY(build(ref, stop));
    return {};
}

Result<snapshot::TreeRef> LocalJob::tree(const ResultRef& ref, Stop stop) {
    const auto result = TRY(build(ref, stop));
    NullProgress silent;
    VertexProgress progress(silent, Digest{}, engine_.clock_);
    return workshop_->trees().tree(result, progress, stop);
}

llb::Definition LocalJob::definition(const ResultRef& ref) const {
    return ref == nullptr ? llb::Definition{} : ref->definition();
}

Result<FrontendResult> LocalJob::solve(const SolveCall& call, Stop stop) {
    if (call.definition && !call.frontend.empty()) {
        return bad_input("invalid request: both a definition and the frontend {}", quoted(call.frontend));
    }
    TRY(check_cache_exports());
    import_caches(options_.cache_imports, stop);
    import_caches(call.cache_imports, stop);
    notes_->add_options(call.options);
    const auto expected = call.options.find("expect-cached");
    if (expected != call.options.end()) notes_->expect(parse_expectation(expected->second));
    FrontendResult result;
    if (call.definition) {
        result.ref = TRY(load(*call.definition, call.policies, stop));
    } else if (call.frontend == "dockerfile.v0") {
        result = TRY(call_dockerfile(call, stop));
    } else if (call.frontend == "gateway.v0") {
        result = TRY(call_image(call, stop));
    } else if (!call.frontend.empty()) {
        return fail(Code::not_found, Blame::user, "invalid frontend: {}", call.frontend)
            .with_hint("dockerfile.v0 and gateway.v0 are served");
    }
    note_asked(call, result);
    if (expected != call.options.end()) {
        std::set<std::string> stages;
        const auto add = [&](const ResultRef& ref) {
            if (ref == nullptr) return;
            for (const auto& vertex : ref->graph().vertices) {
                const why::Place place = why::place_of(vertex.name);
                if (place.number > 0 && !place.stage.empty()) stages.insert(to_lower(place.stage));
            }
        };
        add(result.ref);
        for (const auto& [platform, ref] : result.refs) add(ref);
        // Steps of a build of one stage do not name it.
        if (stages.empty() && result.ref != nullptr) stages = stage_names(*result.ref->plan());
        TRY(notes_->check_stages(stages));
    }
    if (call.evaluate) {
        TRY(build(result.ref, stop));
        for (const auto& [platform, ref] : result.refs) TRY(build(ref, stop));
    }
    return result;
}

Result<FrontendResult> LocalJob::call_dockerfile(const SolveCall& call, const Stop& stop) {
    std::vector<CacheSpec> caches;
    for (auto& cache : TRY(dockerfile::cache_imports_of(call.options)))
        caches.push_back({std::move(cache.type), std::move(cache.attrs)});
    import_caches(caches, stop);
    const auto warn = [this](WarningEvent warning) { progress_.emit(std::move(warning)); };
    dockerfile::FrontendAnswer answer =
        TRY(dockerfile::run_frontend({call.options, call.inputs, warn, session().id()}, *this, stop));
    if (answer.forward) {
        SolveCall forwarded = call;
        forwarded.frontend = "gateway.v0";
        forwarded.options["source"] = answer.forward->image;
        forwarded.options["cmdline"] = answer.forward->command_line;
        auto result = call_image(forwarded, stop);
        if (!result) return dockerfile::forward_failed(result.error(), *answer.forward);
        return result;
    }
    FrontendResult result;
    result.single = answer.single;
    result.metadata = std::move(answer.metadata);
    for (const auto& [platform, definition] : answer.platforms) {
        const ResultRef ref = TRY(load(definition, {}, stop));
        std::vector<Scan> scans;
        for (const auto& scan : answer.scans[platform])
            scans.push_back({scan.name, TRY(load(scan.definition, {}, stop))});
        if (!scans.empty()) scans_.lock()->insert_or_assign(ref, std::move(scans));
        if (answer.single) {
            result.ref = ref;
        } else {
            result.refs[platform] = ref;
        }
    }
    return result;
}

Result<FrontendResult> LocalJob::call_image(const SolveCall& call, const Stop& stop) {
    const auto source = call.options.find("source");
    if (source == call.options.end() || source->second.empty()) {
        return bad_input("gateway.v0 wants to know the image of the frontend: option \"source\"");
    }
    if (dockerfile::is_own_frontend(source->second) && !call.options.contains("context:" + source->second)) {
        SolveCall own = call;
        own.frontend = "dockerfile.v0";
        if (!own.options.contains("cmdline")) own.options["cmdline"] = source->second;
        return call_dockerfile(own, stop);
    }
    if (options_.frontends == nullptr) {
        return fail(Code::failed_precondition, Blame::user, "the frontend {} is a program of its own", source->second)
            .with_hint("cooperd runs it: cooper --builder ADDRESS build …");
    }
    return options_.frontends->run(*this, source->second, call, stop);
}

// --- the frontend's questions ---

Result<frontend::ResolvedImage> LocalJob::resolve_image_config(const std::string& reference,
                                                               const llb::Platform& platform,
                                                               frontend::ResolveMode mode, const std::string& log_name,
                                                               Stop stop) {
    // Stages of one base ask once.
    const std::string key = fmt::format("{}\n{}\n{}\n{}", reference, oci::format_platform(to_oci(platform)),
                                        static_cast<int>(mode), log_name);
    {
        auto resolved = resolved_.lock();
        if (const auto [at, mine] = resolved->try_emplace(key); !mine) {
            if (!resolved.wait(stop, [&] { return at->second.has_value(); })) return cancelled();
            return *at->second;
        }
    }
    auto found = permitted_image_config(reference, platform, mode, log_name, stop);
    resolved_.lock()->at(key) = found;
    resolved_.notify_all();
    return found;
}

Result<frontend::ResolvedImage> LocalJob::permitted_image_config(const std::string& reference,
                                                                 const llb::Platform& platform,
                                                                 frontend::ResolveMode mode,
                                                                 const std::string& log_name, const Stop& stop) {
    static constexpr std::string_view kScheme = "docker-image://";
    llb::SourceOp source{.identifier = std::string(kScheme) + reference, .attrs = {}};
    if (!TRY_CONTEXT(permit(source, platform, {}, stop), "could not resolve image due to policy"))
        return ask_image_config(reference, platform, mode, log_name, stop);
    if (!source.identifier.starts_with(kScheme)) {
        return bad_input("a policy makes {} of the image {}", quoted(source.identifier), reference)
            .with_hint("where an image is wanted, a policy can name another image only");
    }
    return ask_image_config(source.identifier.substr(kScheme.size()), platform, mode, log_name, stop);
}

Result<frontend::ResolvedImage> LocalJob::ask_image_config(const std::string& reference, const llb::Platform& platform,
                                                           frontend::ResolveMode mode, const std::string& log_name,
                                                           const Stop& stop) {
    source::ImageRequest request{.reference = TRY(oci::Reference::parse_normalized(reference)),
                                 .platform = to_oci(platform)};
    request.mode = mode == frontend::ResolveMode::pull    ? source::ImageResolve::pull
                   : mode == frontend::ResolveMode::local ? source::ImageResolve::local
                                                          : source::ImageResolve::standard;
    Activity activity(progress_, engine_.clock_, log_name);
    auto image = workshop_->images().resolve(request, &activity.progress(), stop);
    if (!image) {
        activity.fail(image.error());
        return image.error();
    }
    activity.done();
    frontend::ResolvedImage out;
    out.reference = request.reference.without_digest().canonical();
    if (request.reference.tag().empty() && !request.reference.digest().empty())
        out.reference = request.reference.canonical();
    out.digest = image->target.digest;
    out.config_json = image->config_json;
    return out;
}

Result<frontend::ResolvedImage> LocalJob::resolve_oci_layout(const frontend::OciLayout& layout,
                                                             const llb::Platform& platform, const std::string& log_name,
                                                             Stop stop) {
    Activity activity(progress_, engine_.clock_, log_name);
    const auto import = [&]() -> Result<frontend::ResolvedImage> {
        llb::SourceOp source{.identifier = "oci-layout://" + layout.reference,
                             .attrs = {{"oci.store", layout.store_id}, {"oci.session", layout.session_id}}};
        TRY(permit(source, platform, {}, stop));
        source::ImageRequest request{.reference = TRY(oci::Reference::parse_normalized(layout.reference)),
                                     .platform = to_oci(platform)};
        const auto origin = TRY(workshop_->layout_origin(layout.store_id, layout.session_id, stop));
        const auto image = TRY(workshop_->images().import(request, *origin, &activity.progress(), stop));
        frontend::ResolvedImage out;
        out.reference = layout.reference;
        out.digest = image.target.digest;
        out.config_json = image.config_json;
        return out;
    };
    auto out = import();
    if (out) {
        activity.done();
    } else {
        activity.fail(out.error());
    }
    return out;
}

namespace {

// The first limit_bytes of a file.
Result<std::string> start_of(int fd, std::size_t limit_bytes) {
    std::string text;
    std::array<std::byte, 1U << 16U> buffer;
    while (text.size() < limit_bytes) {
        const std::size_t wanted = std::min(buffer.size(), limit_bytes - text.size());
        const std::size_t n = TRY(sys::read_some(fd, std::span(buffer).first(wanted)));
        if (n == 0) break;
        text += as_text(std::span(buffer).first(n));
    }
    return text;
}

Result<std::string> start_of(const sys::RootedDir& root, const std::string& path, std::size_t limit_bytes) {
    const sys::Fd file = TRY(root.open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY, sys::Follow::yes, 0));
    struct stat st{};
    if (::fstat(file.get(), &st) != 0) return fail_errno(errno, path);
    if (!S_ISREG(st.st_mode)) return bad_input("not a regular file: {}", path);
    return TRY_CONTEXT(start_of(file.get(), limit_bytes), "{}", path);
}

Result<std::optional<std::string>> start_of(const snapshot::Tree& tree, const std::string& path,
                                            std::size_t limit_bytes) {
    const auto found = TRY(tree.find(path, snapshot::FollowLast::yes));
    if (!found || found->node.kind != snapshot::Kind::file) return std::optional<std::string>();
    const sys::Fd file = TRY(found->parent->open_file(found->name, found->node));
    return std::optional<std::string>(TRY_CONTEXT(start_of(file.get(), limit_bytes), "{}", path));
}

}  // namespace

Result<std::vector<std::optional<std::string>>> LocalJob::read_local_files(const std::string& local_name,
                                                                           const std::vector<std::string>& paths,
                                                                           std::size_t limit_bytes,
                                                                           const std::string& log_name, Stop stop) {
    Activity activity(progress_, engine_.clock_, log_name);
    std::vector<std::optional<std::string>> texts;
    const auto read = [&]() -> Result<> {
        if (const store::Chain* chain = workshop_->local_chain(local_name)) {
            const auto tree = TRY(workshop_->trees().tree(ops::make_result(*chain), activity.progress(), stop));
            for (const auto& path : paths) texts.push_back(TRY(start_of(*tree, path, limit_bytes)));
            return {};
        }
        session::LocalRequest request;
        request.name = local_name;
        request.include = paths;
        request.follow_paths = paths;
        request.shared_key = "file:" + local_name;
        const auto files = session().local_files(request, activity.progress(), stop);
        if (!files && files.error().code() == Code::not_found) {
            texts.resize(paths.size());
            return {};
        }
        if (!files) return files.error();
        const auto root = TRY_CONTEXT(sys::RootedDir::open_host((*files)->host_path()), "build context");
        std::int64_t total = 0;
        for (const auto& path : paths) {
            auto text = start_of(root, path, limit_bytes);
            if (!text && text.error().code() != Code::not_found) return text.error();
            if (text) total += static_cast<std::int64_t>(text->size());
            texts.push_back(text ? std::optional(std::move(*text)) : std::nullopt);
        }
        // A session of this process transfers nothing, and says nothing of it.
        if (session().id().empty()) {
            const std::string what = "transferring " + local_name;
            activity.progress().status(what, what + ":", total, 0, true);
        }
        return {};
    };
    const Result<> done = read();
    if (!done) {
        activity.fail(done.error());
        return done.error();
    }
    activity.done();
    return texts;
}

Result<std::optional<std::string>> LocalJob::read_file_of(const llb::Definition& definition, const std::string& path,
                                                          std::size_t limit_bytes, Stop stop) {
    const auto result = TRY(build(TRY(load(definition, {}, stop)), stop));
    Activity activity(progress_, engine_.clock_, "[internal] read " + path);
    const auto tree = TRY(workshop_->trees().tree(result, activity.progress(), stop));
    auto text = start_of(*tree, path, limit_bytes);
    activity.done();
    return text;
}

Result<std::optional<frontend::ContextStat>> LocalJob::stat_of(const llb::Definition& definition,
                                                               const std::string& path, Stop stop) {
    const auto files = TRY(tree(TRY(load(definition, {}, stop)), stop));
    const auto found = TRY(files->find(path, snapshot::FollowLast::yes));
    if (!found) return std::optional<frontend::ContextStat>{};
    return std::optional<frontend::ContextStat>(
        frontend::ContextStat{found->node.kind == snapshot::Kind::directory, found->node.size});
}

Result<std::optional<frontend::ContextSize>> LocalJob::measure_local(const std::string& local_name, Stop stop) {
    // A client's files would have to be fetched first.
    if (!session().id().empty() || workshop_->local_chain(local_name) != nullptr) return std::nullopt;
    session::LocalRequest request;
    request.name = local_name;
    NullProgress silent;
    VertexProgress progress(silent, Digest{}, engine_.clock_);
    const auto files = TRY(session().local_files(request, progress, stop));
    return TRY(measure_directory(files->host_path(), stop));
}

Result<std::optional<std::int64_t>> LocalJob::time_of(const llb::Definition& definition, const std::string& log_name,
                                                      Stop stop) {
    std::optional<std::int64_t> none;
    if (definition.is_scratch()) return none;
    const llb::Graph graph = TRY(llb::load(definition));
    const llb::SourceOp* source = nullptr;
    for (const llb::LoadedVertex& vertex : graph.vertices) {
        const auto* one = std::get_if<llb::SourceOp>(&vertex.op.body);
        if (one != nullptr && source != nullptr) return none;
        if (one != nullptr) source = one;
    }
    if (source == nullptr) return none;
    llb::SourceOp permitted = *source;
    TRY(permit(permitted, std::nullopt, {}, stop));
    Activity activity(progress_, engine_.clock_, log_name);
    auto seconds = time_of_source(permitted, activity.progress(), stop);
    if (seconds) {
        activity.done();
    } else {
        activity.fail(seconds.error());
    }
    return seconds;
}

Result<std::optional<std::int64_t>> LocalJob::time_of_source(const llb::SourceOp& source, VertexProgress& progress,
                                                             const Stop& stop) {
    const std::string& id = source.identifier;
    if (id.starts_with("git://")) {
        const source::GitRequest request = TRY(source::git_request(id, source.attrs));
        const auto pin = TRY(workshop_->git().pin(request, session(), &progress, stop));
        return std::optional(TRY(workshop_->git().commit_time(request, pin, session(), &progress, stop)));
    }
    if (!id.starts_with("http://") && !id.starts_with("https://")) return std::optional<std::int64_t>();
    const source::HttpRequest request = TRY(source::http_request(id, source.attrs));
    const auto pin = TRY(workshop_->http().pin(request, session(), &progress, stop));
    if (pin.modified_s) return pin.modified_s;
    const store::Chain chain = TRY(workshop_->http().fetch(request, pin, session(), &progress, stop));
    const auto tree = TRY(workshop_->trees().tree(ops::make_result(chain), progress, stop));
    const auto found = TRY(tree->find(pin.filename, snapshot::FollowLast::no));
    if (!found || found->node.kind != snapshot::Kind::file) return std::optional<std::int64_t>();
    return TRY_CONTEXT(newest_file_s(TRY(found->parent->open_file(found->name, found->node)), stop), "{}", id);
}

Result<std::string> LocalJob::peek_http(const std::string& url, std::size_t limit_bytes, Stop stop) {
    llb::SourceOp source{.identifier = url, .attrs = {}};
    TRY(permit(source, std::nullopt, {}, stop));
    return workshop_->http().peek(TRY(source::http_request(source.identifier, source.attrs)), session(), limit_bytes,
                                  stop);
}

Result<SourceMeta> LocalJob::resolve_source(const llb::SourceOp& given, const std::string& log_name, Stop stop) {
    llb::SourceOp source = given;
    TRY(permit(source, std::nullopt, {}, stop));
    return ask_source(source, log_name, stop);
}

Result<SourceMeta> LocalJob::ask_source(const llb::SourceOp& source, const std::string& log_name, const Stop& stop) {
    const std::string& id = source.identifier;
    Activity activity(progress_, engine_.clock_, log_name.empty() ? "resolve " + id : log_name);
    const auto ask = [&]() -> Result<SourceMeta> {
        SourceMeta meta;
        if (id.starts_with("git://")) {
            const auto pin = TRY(workshop_->git().pin(TRY(source::git_request(id, source.attrs)), session(),
                                                      &activity.progress(), stop));
            meta.checksum = pin.object;
            meta.ref = pin.ref;
            if (pin.commit != pin.object) meta.commit = pin.commit;
            return meta;
        }
        if (id.starts_with("http://") || id.starts_with("https://")) {
            const auto pin = TRY(workshop_->http().pin(TRY(source::http_request(id, source.attrs)), session(),
                                                       &activity.progress(), stop));
            meta.checksum = pin.digest.to_string();
            meta.filename = pin.filename;
            return meta;
        }
        return bad_input("unsupported source scheme: {}", quoted(id));
    };
    auto meta = ask();
    if (meta) {
        activity.done();
    } else {
        activity.fail(meta.error());
    }
    return meta;
}

// --- containers ---

class LocalJob::JobContainer final : public Container {
public:
    JobContainer(LocalJob& job, std::unique_ptr<ops::Container> container, ContainerSpec spec)
        : job_(job), container_(std::move(container)), spec_(std::move(spec)) {}

    Result<ExitStatus> run(const ContainerProcess& process, Stop stop) override {
        TRY(job_.check_entitlements(spec_.network, process.security, join(process.meta.args, " ")));
        llb::ExecOp exec;
        exec.meta = process.meta;
        if (exec.meta.extra_hosts.empty()) exec.meta.extra_hosts = spec_.extra_hosts;
        if (exec.meta.hostname.empty()) exec.meta.hostname = spec_.hostname;
        exec.network = spec_.network;
        exec.security = process.security;
        exec.secret_env = process.secret_env;
        return container_->run(exec, process.streams, process.tty ? ops::Terminal::yes : ops::Terminal::no, stop);
    }
    Result<snapshot::TreeRef> tree(std::size_t mount, Stop /*stop*/) override { return container_->tree(mount); }

private:
    LocalJob& job_;
    std::unique_ptr<ops::Container> container_;
    ContainerSpec spec_;
};

Result<std::unique_ptr<Container>> LocalJob::start_container(ContainerSpec spec, Stop stop) {
    std::vector<llb::Mount> mounts;
    std::vector<solver::SharedResult> inputs;
    for (const auto& mount : spec.mounts) {
        mounts.push_back(mount.llb);
        mounts.back().output = llb::kSkipOutput;
        mounts.back().input = -1;
        if (mount.ref == nullptr) continue;
        mounts.back().input = static_cast<std::int64_t>(inputs.size());
        inputs.push_back(TRY(build(mount.ref, stop)));
    }
    auto container = TRY(ops::Container::create(workshop_->environment(), std::move(mounts), std::move(inputs), stop));
    return std::unique_ptr<Container>(std::make_unique<JobContainer>(*this, std::move(container), std::move(spec)));
}

// --- contexts ---

Result<> LocalJob::unpack_tar_context(int tar_fd, const Stop& stop) {
    Activity activity(progress_, engine_.clock_, "[internal] load remote build context");
    store::Store& store = workshop_->store();
    const auto unpack = [&]() -> Result<store::Chain> {
        // The archive is a file of a tree of its own, so that one piece of code unpacks all archives.
        store::LayerDraft spool = TRY(store.begin_layer());
        {
            const auto builder = TRY(snapshot::LayerBuilder::create({}, TRY(spool.open())));
            const auto root = TRY(builder->root());
            const sys::Fd copy(::fcntl(tar_fd, F_DUPFD_CLOEXEC, 3));
            TRY(root->put_file("context.tar", copy.get(),
                               snapshot::Meta{.mode = 0600, .mtime_ns = std::nullopt, .xattrs = {}}));
            TRY(builder->finish());
        }
        std::vector<snapshot::LayerDir> layers;
        layers.push_back({0, TRY(spool.open())});
        const auto source = TRY(snapshot::ChainView::create(std::move(layers), snapshot::ChainView::TopLayer::in_work));
        store::LayerDraft draft = TRY(store.begin_layer());
        const auto builder = TRY(snapshot::LayerBuilder::create({}, TRY(draft.open())));
        if (!TRY(ops::unpack_if_archive(*source, "/context.tar", "/", layer::Owner{}, *builder, stop))) {
            return bad_input("standard input is neither a Dockerfile nor a tar of a build context");
        }
        TRY(builder->finish());
        store::LayerInfo info;
        info.description = "build context from standard input";
        info.record_type = "source.local";
        info.size_bytes = builder->written().bytes;
        return store::Chain{{TRY(std::move(draft).commit(info))}};
    };
    auto chain = unpack();
    if (!chain) {
        activity.fail(chain.error());
        return chain.error();
    }
    activity.done();
    workshop_->add_local("context", *chain);
    workshop_->add_local("dockerfile", *chain);
    return {};
}

Result<std::unique_ptr<BuildJob>> LocalEngine::start_job(JobOptions options, ProgressSink& progress) {
    auto store = TRY(store_->branch("build " + options.ref));
    return std::unique_ptr<BuildJob>(std::make_unique<LocalJob>(*this, std::move(store), std::move(options), progress));
}

}  // namespace cooper::engine
