#include "engine/build.hpp"

#include "base/text.hpp"
#include "dockerfile/convert_context.hpp"
#include "dockerfile/parse.hpp"
#include "dockerfile/subrequest.hpp"
#include "dockerfile/to_llb.hpp"
#include "exporter/archive.hpp"
#include "exporter/file_tree.hpp"
#include "exporter/options.hpp"
#include "exporter/push.hpp"
#include "layer/archive.hpp"
#include "llb/cache_digest.hpp"
#include "llb/marshal.hpp"
#include "ops/exec_op.hpp"
#include "ops/file_op.hpp"
#include "ops/merge_op.hpp"
#include "ops/source_op.hpp"
#include "ops/unpack.hpp"
#include "source/oci_layout.hpp"

#include <algorithm>
#include <array>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

namespace cooper::engine {

namespace {

std::size_t cores() { return std::max(1U, std::thread::hardware_concurrency()); }

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

std::vector<std::string> json_strings(const std::map<std::string, std::string>& attributes, const std::string& key) {
    std::vector<std::string> out;
    const auto found = attributes.find(key);
    if (found == attributes.end()) return out;
    const auto parsed = nlohmann::json::parse(found->second, nullptr, false);
    if (!parsed.is_array()) return out;
    for (const auto& item : parsed) {
        if (item.is_string()) out.push_back(item.get<std::string>());
    }
    return out;
}

std::string json_quoted(std::string_view text) {
    return nlohmann::json(std::string(text)).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

Result<llb::Ulimit> parse_ulimit(const std::string& text) {
    const auto [name, value] = cut(text, '=');
    const auto [soft, hard] = cut(value.value_or(""), ':');
    const auto soft_number = parse_int(soft);
    const auto hard_number = hard ? parse_int(*hard) : soft_number;
    if (name.empty() || !soft_number || !hard_number)
        return bad_input("invalid --ulimit {}: want NAME=SOFT[:HARD]", quoted(text));
    if (*hard_number != -1 && *soft_number > *hard_number) {
        return bad_input("--ulimit {}: the soft limit is above the hard one", quoted(text));
    }
    return llb::Ulimit{std::string(name), *soft_number, *hard_number};
}

std::string dir_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    if (slash == std::string::npos) return ".";
    return slash == 0 ? "/" : path.substr(0, slash);
}

std::string base_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    return slash == std::string::npos ? path : path.substr(slash + 1);
}

}  // namespace

struct Build::Planned {
    dockerfile::BuildPlan plan;
};

Result<> Build::prepare_session() {
    std::map<std::string, session::LocalSecret> secrets;
    for (const auto& secret : request_.secrets) secrets[secret.id] = {secret.file, secret.env};
    std::map<std::string, std::vector<std::string>> ssh;
    for (const auto& one : request_.ssh) ssh[one.id] = one.paths;
    const std::string scratch = ssh.empty() ? std::string() : TRY(engine_.store_->scratch_dir());
    session_ = TRY(session::LocalSession::create(std::move(secrets), std::move(ssh), scratch));
    return {};
}

Result<> Build::prepare_environment() {
    environment_ = std::make_unique<ops::Environment>(ops::Environment{
        .store = *engine_.store_,
        .trees = engine_.trees_,
        .session = *session_,
        .clock = engine_.clock_,
        .executor = [this] { return engine_.executor(); },
        .images = engine_.images_,
        .http = engine_.http_source_,
        .git = engine_.git_source_,
        .local = [this](const std::string& name,
                        const std::map<std::string, std::string>& attributes) { return open_local(name, attributes); },
        .oci_layout = [this](const std::string& id) -> Result<std::string> {
            const auto found = layouts_.find(id);
            if (found == layouts_.end()) return bad_input("there is no OCI layout {}", quoted(id));
            return found->second;
        },
        .threads = cores()});
    const std::size_t jobs = engine_.config_.jobs > 0 ? engine_.config_.jobs : cores();
    solver_ = std::make_unique<solver::Solver>(
        solver::SolverOptions{.cpu_jobs = jobs, .io_jobs = std::max<std::size_t>(8, jobs), .exec_jobs = jobs},
        engine_.solver_cache_, engine_.solver_results_, engine_.clock_);
    job_ = solver_->start_job({.progress = progress_, .cache = solver::CachePolicy::use});
    return {};
}

// --- contexts ---

Result<> Build::prepare_context() {
    const ContextSpec& context = request_.context;
    switch (context.kind) {
        case ContextSpec::Kind::directory: {
            locals_["context"] = {context.text, std::nullopt};
            std::string file = request_.dockerfile;
            if (file.empty()) {
                dockerfile_name_ = "Dockerfile";
                locals_["dockerfile"] = {context.text, std::nullopt};
                break;
            }
            struct stat st{};
            if (!file.starts_with('/') && ::stat(file.c_str(), &st) != 0) {
                const std::string inside = context.text + "/" + file;
                if (::stat(inside.c_str(), &st) == 0) file = inside;
            }
            dockerfile_name_ = base_of(file);
            locals_["dockerfile"] = {dir_of(file), std::nullopt};
            break;
        }
        case ContextSpec::Kind::empty: {
            const std::string empty = TRY(engine_.store_->scratch_dir());
            locals_["context"] = {empty, std::nullopt};
            locals_["dockerfile"] = {empty, std::nullopt};
            dockerfile_name_ = "Dockerfile";
            break;
        }
        case ContextSpec::Kind::tar_stream:
            dockerfile_name_ = request_.dockerfile.empty() ? "Dockerfile" : request_.dockerfile;
            TRY(unpack_tar_context());
            break;
        case ContextSpec::Kind::git:
        case ContextSpec::Kind::http:
            dockerfile_name_ = request_.dockerfile.empty() ? "Dockerfile" : request_.dockerfile;
            break;
    }
    return prepare_named_contexts();
}

Result<> Build::unpack_tar_context() {
    Activity activity(progress_, engine_.clock_, "[internal] load remote build context");
    const auto unpack = [&]() -> Result<store::Chain> {
        // The archive is a file of a tree of its own, so that one piece of code unpacks all archives.
        store::LayerDraft spool = TRY(engine_.store_->begin_layer());
        {
            const auto builder = TRY(snapshot::LayerBuilder::create({}, TRY(spool.open())));
            const auto root = TRY(builder->root());
            const sys::Fd copy(::fcntl(request_.context.tar_fd, F_DUPFD_CLOEXEC, 3));
            TRY(root->put_file("context.tar", copy.get(),
                               snapshot::Meta{.mode = 0600, .mtime_ns = std::nullopt, .xattrs = {}}));
            TRY(builder->finish());
        }
        std::vector<snapshot::LayerDir> layers;
        layers.push_back({0, TRY(spool.open())});
        const auto source = TRY(snapshot::ChainView::create(std::move(layers), snapshot::ChainView::TopLayer::in_work));
        store::LayerDraft draft = TRY(engine_.store_->begin_layer());
        const auto builder = TRY(snapshot::LayerBuilder::create({}, TRY(draft.open())));
        if (!TRY(ops::unpack_if_archive(*source, "/context.tar", "/", layer::Owner{}, *builder, stop_))) {
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
    locals_["context"] = {"", *chain};
    locals_["dockerfile"] = {"", *chain};
    return {};
}

Result<> Build::prepare_named_contexts() {
    for (const auto& [name, value] : request_.named_contexts) {
        if (value.starts_with("oci-layout://")) {
            std::string path = value.substr(13);
            std::string selector;
            if (const std::size_t at = path.rfind('@'); at != std::string::npos) {
                selector = path.substr(at);
                path.resize(at);
            } else if (const std::size_t colon = path.rfind(':');
                       colon != std::string::npos && path.find('/', colon) == std::string::npos) {
                selector = path.substr(colon);
                path.resize(colon);
            }
            auto origin = TRY_CONTEXT(source::OciLayoutOrigin::open(path), "build context {}", name);
            const auto reference = TRY(oci::Reference::parse_normalized("layout" + selector));
            const oci::Descriptor target = TRY_CONTEXT(origin.resolve(reference, stop_), "build context {}", name);
            const std::string id = "layout-" + std::to_string(layouts_.size());
            layouts_[id] = path;
            named_contexts_[name] = "oci-layout://" + id + "@" + target.digest.to_string();
        } else if (value.starts_with("docker-image:") || value.find("://") != std::string::npos ||
                   value.starts_with("git@")) {
            named_contexts_[name] = value;
        } else {
            struct stat st{};
            if (::stat(value.c_str(), &st) != 0)
                return fail_errno(errno, fmt::format("build context {}: {}", name, value));
            if (!S_ISDIR(st.st_mode)) return bad_input("build context {}: {} is not a directory", name, value);
            locals_[name] = {value, std::nullopt};
            named_contexts_[name] = "local:" + name;
        }
    }
    return {};
}

Result<solver::SharedResult> Build::open_local(const std::string& name,
                                               const std::map<std::string, std::string>& attributes) {
    const auto found = locals_.find(name);
    if (found == locals_.end()) return bad_input("there is no local context {}", quoted(name));
    if (found->second.chain) return ops::make_result(*found->second.chain);
    const std::vector<std::string> exclude = json_strings(attributes, "local.excludepatterns");
    auto opened = opened_.lock();
    for (const auto& one : (*opened)[name]) {
        if (one.exclude == exclude) return solver::SharedResult(std::make_shared<const ops::Ref>(one.context));
    }
    source::LocalOptions options;
    options.host_path = found->second.host_path;
    options.exclude = exclude;
    // One memory of digests per directory and rules.
    std::array<char, 4096> real{};
    const char* path = ::realpath(options.host_path.c_str(), real.data());
    std::string identity = path != nullptr ? path : options.host_path;
    for (const auto& pattern : exclude) identity += "\n" + pattern;
    options.stat_cache_file =
        engine_.store_->root() + "/cache-mounts/context-" + codec::sha256_of(identity).hex().substr(0, 32);
    options.threads = cores();
    std::shared_ptr<source::LocalContext> context = TRY(source::LocalContext::open(options));
    (*opened)[name].push_back({exclude, context});
    return solver::SharedResult(std::make_shared<const ops::Ref>(std::move(context)));
}

// --- the frontend's questions ---

Result<frontend::ResolvedImage> Build::resolve_image_config(const std::string& reference, const llb::Platform& platform,
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
    auto found = ask_image_config(reference, platform, mode, log_name, stop);
    resolved_.lock()->at(key) = found;
    resolved_.notify_all();
    return found;
}

Result<frontend::ResolvedImage> Build::ask_image_config(const std::string& reference, const llb::Platform& platform,
                                                        frontend::ResolveMode mode, const std::string& log_name,
                                                        const Stop& stop) {
    source::ImageRequest request{.reference = TRY(oci::Reference::parse_normalized(reference)),
                                 .platform = to_oci(platform)};
    request.mode = mode == frontend::ResolveMode::pull    ? source::ImageResolve::pull
                   : mode == frontend::ResolveMode::local ? source::ImageResolve::local
                                                          : source::ImageResolve::standard;
    Activity activity(progress_, engine_.clock_, log_name);
    auto image = engine_.images_.resolve(request, &activity.progress(), stop);
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

Result<frontend::ResolvedImage> Build::resolve_oci_layout(const frontend::OciLayout& layout,
                                                          const llb::Platform& platform, const std::string& log_name,
                                                          Stop stop) {
    const auto path = layouts_.find(layout.store_id);
    if (path == layouts_.end()) return bad_input("there is no OCI layout {}", quoted(layout.store_id));
    Activity activity(progress_, engine_.clock_, log_name);
    const auto import = [&]() -> Result<frontend::ResolvedImage> {
        source::ImageRequest request{.reference = TRY(oci::Reference::parse_normalized(layout.reference)),
                                     .platform = to_oci(platform)};
        auto origin = TRY(source::OciLayoutOrigin::open(path->second));
        const auto image = TRY(engine_.images_.import(request, origin, &activity.progress(), stop));
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

Result<std::optional<std::string>> Build::read_local_file(const std::string& local_name, const std::string& path,
                                                          std::size_t limit_bytes, const std::string& log_name,
                                                          Stop stop) {
    const auto found = locals_.find(local_name);
    if (found == locals_.end()) return std::optional<std::string>{};
    std::optional<std::string> text;
    if (found->second.chain) {
        Activity activity(progress_, engine_.clock_, log_name);
        const auto tree = TRY(engine_.trees_.tree(ops::make_result(*found->second.chain), activity.progress(), stop));
        text = TRY(tree->read_file(path, limit_bytes));
        activity.done();
        return text;
    }
    const auto root = TRY_CONTEXT(sys::RootedDir::open_host(found->second.host_path), "build context");
    auto read = root.read_file(path, limit_bytes);
    if (!read) {
        if (read.error().code() == Code::not_found) return std::optional<std::string>{};
        return read.error();
    }
    Activity activity(progress_, engine_.clock_, log_name);
    activity.progress().status("transferring " + local_name, "transferring " + local_name + ":",
                               static_cast<std::int64_t>(read->size()), 0, true);
    activity.done();
    return std::optional<std::string>(std::move(*read));
}

Result<std::optional<std::string>> Build::read_file_of(const llb::Definition& definition, const std::string& path,
                                                       std::size_t limit_bytes, Stop stop) {
    const auto result = TRY(solve(definition, stop));
    Activity activity(progress_, engine_.clock_, "[internal] read " + path);
    const auto tree = TRY(engine_.trees_.tree(result, activity.progress(), stop));
    auto text = tree->read_file(path, limit_bytes);
    activity.done();
    return text;
}

Result<std::optional<frontend::ContextStat>> Build::stat_of(const llb::Definition& definition, const std::string& path,
                                                            Stop stop) {
    const auto result = TRY(solve(definition, stop));
    NullProgress silent;
    VertexProgress progress(silent, Digest{}, engine_.clock_);
    const auto tree = TRY(engine_.trees_.tree(result, progress, stop));
    const auto found = TRY(tree->find(path, snapshot::FollowLast::yes));
    if (!found) return std::optional<frontend::ContextStat>{};
    return std::optional<frontend::ContextStat>(
        frontend::ContextStat{found->node.kind == snapshot::Kind::directory, found->node.size});
}

Result<std::string> Build::peek_http(const std::string& url, std::size_t limit_bytes, Stop stop) {
    return engine_.http_source_.peek(TRY(source::http_request(url, {})), *session_, limit_bytes, stop);
}

// --- from text to a graph ---

Result<dockerfile::ConvertOptions> Build::convert_options() {
    dockerfile::ContextOptions context;
    context.filename = dockerfile_name_;
    context.dockerfile_text = request_.dockerfile_text;
    if (request_.context.kind == ContextSpec::Kind::git || request_.context.kind == ContextSpec::Kind::http) {
        context.context = request_.context.text;
    }
    const auto args = request_.build_args;
    if (const auto keep = args.find("BUILDKIT_CONTEXT_KEEP_GIT_DIR"); keep != args.end()) {
        context.keep_git_dir = keep->second == "1" || to_lower(keep->second) == "true";
    }
    context.commit_mtimes = args.contains("SOURCE_DATE_EPOCH");
    const oci::Platform host = oci::host_platform();
    dockerfile::BuildSource source = TRY(dockerfile::load_build_source(context, to_llb(host), *this, stop_));
    dockerfile_text_ = source.text;
    dockerfile_name_ = source.filename;

    dockerfile::ConvertOptions options;
    options.filename = source.filename;
    options.context = std::move(source.context);
    options.build_args = request_.build_args;
    options.labels = request_.labels;
    options.target = request_.target;
    options.build_platforms = {host};
    if (request_.platforms.size() > 1) {
        return bad_input("several platforms in one build are not supported yet")
            .with_hint("build one platform at a time");
    }
    if (!request_.platforms.empty()) options.target_platform = oci::normalize(request_.platforms.front());
    options.resolve_mode = request_.pull ? frontend::ResolveMode::pull : frontend::ResolveMode::standard;
    if (request_.no_cache) {
        options.no_cache = std::vector<std::string>{};
    } else if (!request_.no_cache_filter.empty()) {
        options.no_cache = request_.no_cache_filter;
    }
    options.named_contexts = named_contexts_;
    for (const auto& [name, address] : request_.add_hosts) options.extra_hosts.push_back({name, address});
    options.network = request_.network == NetworkMode::host   ? llb::NetMode::host
                      : request_.network == NetworkMode::none ? llb::NetMode::none
                                                              : llb::NetMode::unset;
    options.shm_size_bytes = request_.shm_size_bytes;
    for (const auto& limit : request_.ulimits) options.ulimits.push_back(TRY(parse_ulimit(limit)));
    options.cgroup_parent = request_.cgroup_parent;
    if (const auto name = args.find("BUILDKIT_SANDBOX_HOSTNAME"); name != args.end()) options.hostname = name->second;
    if (const auto ns = args.find("BUILDKIT_CACHE_MOUNT_NS"); ns != args.end())
        options.cache_mount_namespace = ns->second;
    options.warn = [this](WarningEvent warning) { progress_.emit(std::move(warning)); };
    return options;
}

Error Build::of_dockerfile(Error error) const {
    const auto* range = error.find_detail<SourceRange>();
    if (range == nullptr) return error;
    const dockerfile::Lines lines{range->first_line, range->last_line};
    return dockerfile::with_excerpt(std::move(error), dockerfile_name_, dockerfile_text_, lines);
}

Result<Build::Planned> Build::plan() {
    const dockerfile::ConvertOptions options = TRY(convert_options());
    auto planned = dockerfile::to_llb(dockerfile_text_, options, *this, stop_);
    if (!planned) return of_dockerfile(std::move(planned).error());
    return Planned{std::move(*planned)};
}

Result<BuildResponse> Build::answer() {
    const dockerfile::ConvertOptions options = TRY(convert_options());
    auto answer = dockerfile::answer_subrequest(request_.call, dockerfile_text_, options, *this, stop_);
    if (!answer) return of_dockerfile(std::move(answer).error());
    BuildResponse response;
    response.answer = std::move(*answer);
    response.metadata["result.json"] = response.answer["result.json"];
    return response;
}

Result<> Build::check_entitlements(const llb::LoadedVertex& vertex, const llb::ExecOp& exec) const {
    const auto allowed = [&](std::string_view name) {
        return std::find(request_.allow.begin(), request_.allow.end(), name) != request_.allow.end();
    };
    const auto refuse = [&](std::string_view name) {
        return fail(Code::permission_denied, Blame::user, "{} is not allowed: {}", name, vertex.name)
            .with_hint(fmt::format("add --allow {} if you trust this Dockerfile", name));
    };
    if (exec.network == llb::NetMode::host && !allowed("network.host")) return refuse("network.host");
    if (exec.security == llb::SecurityMode::insecure && !allowed("security.insecure"))
        return refuse("security.insecure");
    return {};
}

Result<std::shared_ptr<solver::Op>> Build::to_op(const llb::LoadedVertex& vertex) {
    const oci::Platform platform =
        oci::normalize(vertex.op.platform ? to_oci(*vertex.op.platform) : oci::host_platform());
    if (const auto* source = std::get_if<llb::SourceOp>(&vertex.op.body)) {
        return ops::make_source_op(*environment_, {vertex.digest, *source, platform});
    }
    llb::OpCacheInfo cache = TRY(llb::cache_info(vertex.op, to_llb(platform)));
    std::shared_ptr<solver::Op> op;
    if (const auto* exec = std::get_if<llb::ExecOp>(&vertex.op.body)) {
        TRY(check_entitlements(vertex, *exec));
        op = std::make_shared<ops::ExecOp>(
            *environment_, ops::ExecParts{*exec, std::move(cache), vertex.name, vertex.metadata.ignore_cache});
    } else if (const auto* file = std::get_if<llb::FileOp>(&vertex.op.body)) {
        op =
            std::make_shared<ops::FileOp>(*environment_, *file, vertex.op.inputs.size(), std::move(cache), vertex.name);
    } else if (const auto* merge = std::get_if<llb::MergeOp>(&vertex.op.body)) {
        op = std::make_shared<ops::MergeOp>(*merge, std::move(cache));
    } else if (const auto* diff = std::get_if<llb::DiffOp>(&vertex.op.body)) {
        op = std::make_shared<ops::DiffOp>(*diff, std::move(cache));
    } else if (const auto* passthrough = std::get_if<llb::PassthroughOp>(&vertex.op.body)) {
        op = std::make_shared<ops::PassthroughOp>(*passthrough, std::move(cache));
    } else {
        return fail(Code::unimplemented, Blame::user, "this operation cannot be built here: {}", vertex.name);
    }
    return op;
}

Result<solver::Output> Build::to_vertices(const llb::Graph& graph) {
    std::vector<std::shared_ptr<const solver::Vertex>> vertices;
    vertices.reserve(graph.vertices.size());
    for (const auto& loaded : graph.vertices) {
        solver::Vertex::Parts parts;
        parts.digest = loaded.digest;
        parts.name = loaded.name;
        for (const auto& input : loaded.inputs) {
            parts.inputs.push_back({vertices[input.vertex], static_cast<std::uint32_t>(input.output)});
        }
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
        parts.op = TRY(to_op(loaded));
        vertices.push_back(solver::Vertex::create(std::move(parts)));
    }
    return solver::Output{vertices[graph.target->vertex], static_cast<std::uint32_t>(graph.target->output)};
}

Error Build::explain(Error error, const llb::Graph& graph, const std::optional<Digest>& failed) const {
    if (error.is_cancelled() || !failed) return error;
    const llb::LoadedVertex* vertex = graph.find(*failed);
    if (vertex == nullptr) return error;
    error = error.with_context("failed to solve");
    if (error.find_detail<Excerpt>() != nullptr || vertex->locations.empty()) return error;
    const SourceRange& range = vertex->locations.front();
    return dockerfile::with_excerpt(std::move(error), dockerfile_name_, dockerfile_text_,
                                    {range.first_line, range.last_line});
}

Result<solver::SharedResult> Build::solve(const llb::Definition& definition, Stop stop) {
    if (definition.is_scratch()) return solver::SharedResult{};
    const llb::Graph graph = TRY(llb::load(definition));
    if (!graph.target) return solver::SharedResult{};
    const solver::Output output = TRY(to_vertices(graph));
    auto result = job_->build(output, stop);
    if (!result) return explain(result.error(), graph, job_->failed_vertex());
    return result;
}

// --- results ---

Result<BuildResponse> Build::run() {
    TRY(prepare_session());
    TRY(prepare_environment());
    TRY(prepare_context());
    if (!request_.call.empty()) return answer();
    const Planned planned = TRY(plan());
    const solver::SharedResult result = TRY(solve(planned.plan.definition, stop_));
    BuildResponse response;
    response.ref = ref_;
    TRY(export_all(planned, result, response));
    response.metadata["buildx.build.ref"] = json_quoted(ref_);
    return response;
}

Result<> Build::export_all(const Planned& planned, const solver::SharedResult& result, BuildResponse& response) {
    std::vector<ExportSpec> exports = request_.exports;
    // -t names an image here as well, unless an output of that kind says so itself.
    const bool has_image = std::any_of(exports.begin(), exports.end(), [](const auto& e) { return e.type == "image"; });
    if (exports.empty() || (!request_.tags.empty() && !has_image)) exports.insert(exports.begin(), {"image", {}, ""});
    for (const auto& spec : exports) TRY(export_one(planned, result, spec, response));
    return {};
}

Result<> Build::export_one(const Planned& planned, const solver::SharedResult& result, const ExportSpec& spec,
                           BuildResponse& response) {
    exporter::ExportOptions options =
        TRY(exporter::parse_export_options(spec.type, spec.attrs, spec.dest, request_.tags));
    if (options.type == exporter::ExportType::cacheonly) return {};
    const auto epoch = options.epoch_seconds ? options.epoch_seconds : planned.plan.epoch_seconds;
    const store::Chain chain = ops::chain_of(result);

    if (options.type == exporter::ExportType::local || options.type == exporter::ExportType::tar) {
        const bool is_tar = options.type == exporter::ExportType::tar;
        Activity activity(progress_, engine_.clock_,
                          is_tar ? "exporting to client tarball" : "exporting to client directory");
        const auto write = [&]() -> Result<> {
            const auto tree = TRY(engine_.trees_.tree(result, activity.progress(), stop_));
            if (!is_tar) {
                if (::mkdir(options.dest.c_str(), 0755) != 0 && errno != EEXIST) return fail_errno(errno, options.dest);
                const auto dest = TRY(sys::RootedDir::open_host(options.dest));
                TRY(exporter::export_local(*tree, dest, {epoch}, activity.progress(), stop_));
                return {};
            }
            if (options.dest == "-") {
                TRY(exporter::export_tar(*tree, STDOUT_FILENO, {epoch}, activity.progress(), stop_));
                return {};
            }
            sys::Fd file(::open(options.dest.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
            if (!file.valid()) return fail_errno(errno, options.dest);
            TRY(exporter::export_tar(*tree, file.get(), {epoch}, activity.progress(), stop_));
            return std::move(file).close();
        };
        const auto written = write();
        if (!written) {
            activity.fail(written.error());
            return written.error().with_context("export");
        }
        activity.done();
        return {};
    }

    const bool archive = options.type != exporter::ExportType::image;
    Activity activity(progress_, engine_.clock_,
                      options.type == exporter::ExportType::oci      ? "exporting to oci image format"
                      : options.type == exporter::ExportType::docker ? "exporting to docker image format"
                                                                     : "exporting to image");
    const auto write = [&]() -> Result<> {
        exporter::ImageResult image{
            .chain = chain, .config = planned.plan.image, .base = planned.plan.base_image, .epoch_seconds = epoch};
        exporter::PackOptions pack = options.pack;
        if (!archive && !options.push && !spec.attrs.contains("compression")) {
            // Nobody needs the packed layers yet.
            pack.compression = exporter::LayerCompression::none;
        }
        const exporter::PackedImage packed = TRY(engine_.packer_.pack(image, pack, activity.progress(), stop_));
        if (!archive || !response.image_id) {
            response.image_id = packed.config.digest;
            response.target = packed.manifest;
        }
        response.metadata["containerimage.config.digest"] = json_quoted(packed.config.digest.to_string());
        response.metadata["containerimage.digest"] = json_quoted(packed.manifest.digest.to_string());
        response.metadata["containerimage.descriptor"] = oci::marshal_descriptor(packed.manifest);
        if (!options.names.empty()) response.metadata["image.name"] = json_quoted(join(options.names, ","));
        if (archive) {
            const auto format = options.type == exporter::ExportType::oci ? exporter::ArchiveFormat::oci
                                                                          : exporter::ArchiveFormat::docker;
            const std::vector<exporter::ArchiveImage> images = {{packed, options.names}};
            if (!options.tar) {
                if (::mkdir(options.dest.c_str(), 0755) != 0 && errno != EEXIST) return fail_errno(errno, options.dest);
                const auto dest = TRY(sys::RootedDir::open_host(options.dest));
                return exporter::write_layout(engine_.packer_, images, format, dest, activity.progress(), stop_);
            }
            if (options.dest.empty() && options.type == exporter::ExportType::docker) return {};  // kept here, below
            if (options.dest == "-") {
                if (::isatty(STDOUT_FILENO) == 1) {
                    return bad_input("an image archive is not for a terminal")
                        .with_hint("add dest=FILE or redirect standard output");
                }
                return exporter::write_archive(engine_.packer_, images, format, STDOUT_FILENO, activity.progress(),
                                               stop_);
            }
            const std::string part = options.dest + ".part";
            sys::Fd file(::open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
            if (!file.valid()) return fail_errno(errno, part);
            const auto done =
                exporter::write_archive(engine_.packer_, images, format, file.get(), activity.progress(), stop_);
            if (!done) {
                ::unlink(part.c_str());
                return done.error();
            }
            TRY(std::move(file).close());
            if (::rename(part.c_str(), options.dest.c_str()) != 0) return fail_errno(errno, options.dest);
            return {};
        }
        if (options.store) {
            store::ImageRecord record = exporter::Packer::record_of(packed);
            const std::vector<Digest> blobs = exporter::Packer::blobs_of(packed);
            std::vector<std::string> names = options.names;
            if (names.empty()) names = {packed.config.digest.to_string()};
            for (const auto& name : names) {
                record.name = name;
                TRY(engine_.store_->put_image(record, blobs));
                if (!options.names.empty())
                    activity.progress().status("naming to " + name, "naming to " + name, 0, 0, true);
            }
        }
        if (options.push) {
            if (options.names.empty())
                return bad_input("nothing to push to: the image has no name").with_hint("add -t or name=");
            std::vector<oci::Reference> references;
            for (const auto& name : options.names) references.push_back(TRY(oci::Reference::parse_normalized(name)));
            TRY(exporter::push_image(engine_.packer_, engine_.registry_, packed, references,
                                     options.push_by_digest ? exporter::PushName::digest : exporter::PushName::tag,
                                     activity.progress(), stop_));
        }
        for (const auto& name : options.names) response.names.push_back(name);
        return {};
    };
    const auto written = write();
    if (!written) {
        activity.fail(written.error());
        return written.error().with_context("export");
    }
    activity.done();
    return {};
}

}  // namespace cooper::engine

namespace cooper::engine {

Result<BuildResponse> LocalEngine::build(const BuildRequest& request, ProgressSink& progress, Stop stop) {
    if (!request.call.empty()) {
        // Nothing is built, so nothing is remembered.
        Recorder recorder(progress, sys::Fd());
        return Build(*this, request, recorder, std::string(), std::move(stop)).run();
    }
    std::array<std::uint8_t, 8> random{};
    if (::getentropy(random.data(), random.size()) != 0) return fail_errno(errno, "random numbers");
    store::BuildRecord record;
    record.ref = to_hex(random);
    record.description = request.context.text;
    if (!request.tags.empty()) record.description += " → " + request.tags.front();
    if (!request.target.empty()) record.description += " [" + request.target + "]";
    record.started = clock_.now();
    sys::Fd log(::open(store_->build_log_path(record.ref).c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    Recorder recorder(progress, std::move(log));
    Result<BuildResponse> result = [&] {
        Build build(*this, request, recorder, record.ref, stop);
        return build.run();
    }();
    record.completed = clock_.now();
    if (!result) record.error = result.error().to_string();
    record.steps = recorder.counts().steps;
    record.cached_steps = recorder.counts().cached;
    // History is a courtesy: a full disk must not turn a good build into a failed one.
    static_cast<void>(store_->put_build(record));
    static_cast<void>(collect_garbage());
    return result;
}

}  // namespace cooper::engine
