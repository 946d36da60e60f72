#include "engine/build.hpp"

#include "base/text.hpp"
#include "cachestore/open.hpp"
#include "codec/base64.hpp"
#include "codec/sha256.hpp"
#include "engine/entitlements.hpp"
#include "frontend/git_ref.hpp"
#include "session/layout_index.hpp"
#include "source/oci_layout.hpp"

#include <algorithm>
#include <array>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <unistd.h>

namespace cooper::engine {

namespace {

std::string json_quoted(std::string_view text) {
    return nlohmann::json(std::string(text)).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
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

// --- contexts ---

Result<> Build::prepare_context() {
    const ContextSpec& context = request_.context;
    switch (context.kind) {
        case ContextSpec::Kind::directory: {
            offers_.directories["context"] = context.text;
            std::string file = request_.dockerfile;
            if (file.empty()) {
                offers_.directories["dockerfile"] = context.text;
                break;
            }
            struct stat st{};
            if (!file.starts_with('/') && ::stat(file.c_str(), &st) != 0) {
                const std::string inside = context.text + "/" + file;
                if (::stat(inside.c_str(), &st) == 0) file = inside;
            }
            options_["filename"] = base_of(file);
            offers_.directories["dockerfile"] = dir_of(file);
            break;
        }
        case ContextSpec::Kind::empty: {
            const std::string empty = TRY(engine_.store_->scratch_dir());
            offers_.directories["context"] = empty;
            offers_.directories["dockerfile"] = empty;
            break;
        }
        case ContextSpec::Kind::tar_stream:
            if (!request_.dockerfile.empty()) options_["filename"] = request_.dockerfile;
            break;
        case ContextSpec::Kind::git:
        case ContextSpec::Kind::http:
            if (!request_.dockerfile.empty()) options_["filename"] = request_.dockerfile;
            options_["context"] = context.text;
            break;
    }
    if (request_.dockerfile_text) TRY(prepare_dockerfile_text());
    return prepare_named_contexts();
}

// A Dockerfile from standard input is a file of a directory of its own.
Result<> Build::prepare_dockerfile_text() {
    const std::string dir = TRY(engine_.store_->scratch_dir());
    const auto root = TRY(sys::RootedDir::open_host(dir));
    const sys::Fd file = TRY(root.open("Dockerfile", O_WRONLY | O_CREAT | O_TRUNC, sys::Follow::no, 0600));
    TRY(sys::write_all(file.get(), *request_.dockerfile_text));
    offers_.directories["dockerfile"] = dir;
    options_["filename"] = "Dockerfile";
    if (options_.contains("context")) options_["dockerfilekey"] = "dockerfile";
    return {};
}

namespace {

// NAME or NAME::PLATFORM as it is looked up: an image's name as people write it, without ":latest".
Result<std::string> context_key(const std::string& given) {
    const std::size_t colons = given.find("::");
    const auto named =
        TRY_CONTEXT(oci::Reference::parse_untagged(given.substr(0, colons)), "--build-context {}", quoted(given));
    std::string key = named.familiar();
    if (key.ends_with(":latest")) key.resize(key.size() - 7);
    if (colons == std::string::npos) return key;
    const oci::Platform platform =
        TRY_CONTEXT(oci::parse_platform(given.substr(colons + 2)), "--build-context {}", quoted(given));
    return key + "::" + oci::format_platform_all(oci::normalize(platform));
}

bool is_address(const std::string& value) {
    return value.starts_with("docker-image:") || value.starts_with("git@") || value.find("://") != std::string::npos;
}

}  // namespace

Result<> Build::prepare_named_contexts() {
    for (const auto& [given, value] : request_.named_contexts) {
        const std::string name = TRY(context_key(given));
        std::string& option = options_["context:" + name];
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
            const std::string id = "layout-" + std::to_string(offers_.layouts.size());
            offers_.layouts["oci:" + id] = path;
            option = "oci-layout://" + id + "@" + target.digest.to_string();
        } else if (is_address(value)) {
            option = value;
        } else {
            struct stat st{};
            if (::stat(value.c_str(), &st) != 0) {
                return fail_errno(errno, fmt::format("build context {}: {}", name, value))
                    .with_hint("a context is a directory, a git or http URL, docker-image://REF or oci-layout://DIR");
            }
            if (!S_ISDIR(st.st_mode)) return bad_input("build context {}: {} is not a directory", name, value);
            // "context" and "dockerfile" are the build's own directories.
            const std::string local = name == "context" || name == "dockerfile" ? "_" + name : name;
            offers_.directories[local] = value;
            option = "local:" + local;
        }
    }
    return {};
}

// --- the frontend's options, as clients of BuildKit write them ---

Result<> Build::prepare_options() {
    for (const auto& [name, value] : request_.build_args) options_["build-arg:" + name] = value;
    for (const auto& [name, value] : request_.labels) options_["label:" + name] = value;
    if (!request_.call.empty()) options_["requestid"] = request_.call;
    if (!request_.target.empty()) options_["target"] = request_.target;
    if (!request_.platforms.empty()) {
        std::vector<std::string> names;
        for (const auto& platform : request_.platforms) names.push_back(oci::format_platform_all(platform));
        options_["platform"] = join(names, ",");
    }
    if (request_.pull) options_["image-resolve-mode"] = "pull";
    if (request_.no_cache) {
        options_["no-cache"] = "";
    } else if (!request_.no_cache_filter.empty()) {
        options_["no-cache"] = join(request_.no_cache_filter, ",");
    }
    if (request_.expect_cached) options_["expect-cached"] = *request_.expect_cached;
    if (!request_.add_hosts.empty()) {
        std::vector<std::string> hosts;
        for (const auto& [name, address] : request_.add_hosts) hosts.push_back(name + "=" + address);
        options_["add-hosts"] = join(hosts, ",");
    }
    if (request_.network == NetworkMode::host) options_["force-network-mode"] = "host";
    if (request_.network == NetworkMode::none) options_["force-network-mode"] = "none";
    if (request_.shm_size_bytes > 0) options_["shm-size"] = std::to_string(request_.shm_size_bytes);
    if (!request_.ulimits.empty()) options_["ulimit"] = join(request_.ulimits, ",");
    for (const auto& [kind, parameters] : request_.attestations) options_["attest:" + kind] = parameters;
    for (const auto& [name, value] : request_.limits) options_[name] = value;
    if (!request_.cgroup_parent.empty()) options_["cgroup-parent"] = request_.cgroup_parent;
    return {};
}

namespace {

std::string layout_tag(const CacheSpec& cache) {
    const auto tag = cache.attrs.find("tag");
    return tag == cache.attrs.end() || tag->second.empty() ? "latest" : tag->second;
}

}  // namespace

Result<> Build::prepare_caches() {
    const auto complete = [](CacheSpec cache) {
        cachestore::Spec spec{.type = std::move(cache.type), .attrs = std::move(cache.attrs)};
        cachestore::add_client_attributes(spec, cachestore::process_environment);
        return CacheSpec{std::move(spec.type), std::move(spec.attrs)};
    };
    for (const auto& wanted : request_.cache_imports) {
        CacheSpec cache = complete(wanted);
        if (cache.type == "local") {
            const std::string src = cache.attrs["src"];
            offers_.layouts["local:" + src] = src;
            if (cache.attrs["digest"].empty()) {
                const std::string tag = cache.attrs["tag"];
                const auto digest = session::digest_in_layout(src, tag.empty() ? "latest" : tag);
                // As with a registry: no cache yet is no error.
                if (!digest && digest.error().code() == Code::not_found) continue;
                cache.attrs["digest"] = TRY(Result<std::string>(digest));
                cache.attrs.merge(TRY(session::digests_beside(src, tag.empty() ? "latest" : tag)));
            }
        }
        cache_imports_.push_back(std::move(cache));
    }
    for (const auto& wanted : request_.cache_exports) cache_exports_.push_back(complete(wanted));
    for (auto& cache : cache_exports_) {
        const auto dest = cache.attrs.find("dest");
        if (cache.type != "local" || dest == cache.attrs.end()) continue;
        offers_.layouts["local:" + dest->second] = dest->second;
        // What is there stays when a build fails.
        if (const auto digest = session::digest_in_layout(dest->second, layout_tag(cache));
            digest && cache.attrs.contains("on-failure"))
            cache.attrs.try_emplace("digest", *digest);
        if (cache.attrs.contains("mounts") || cache.attrs.contains("on-failure"))
            cache.attrs.merge(TRY(session::digests_beside(dest->second, layout_tag(cache))));
    }
    const auto wish = request_.build_args.find("BUILDKIT_INLINE_CACHE");
    if (wish != request_.build_args.end() && frontend::parse_go_bool(wish->second).value_or(false))
        cache_exports_.push_back({"inline", {}});
    return {};
}

Result<> Build::name_caches(const ExportAnswer& answer) const {
    const auto manifest = answer.response.find("cache.manifest");
    for (const auto& cache : cache_exports_) {
        if (cache.type != "local") continue;
        if (manifest != answer.response.end())
            TRY(session::name_in_layout(cache.attrs.at("dest"), TRY(oci::parse_descriptor(manifest->second)),
                                        layout_tag(cache)));
        TRY(session::name_beside(cache.attrs.at("dest"), layout_tag(cache), answer.response));
        if (manifest != answer.response.end()) TRY(session::sweep_layout(cache.attrs.at("dest")));
    }
    return {};
}

namespace {

// The user's own policy first: a lock comes with the context, and must not hide a source from it.
Result<sourcepolicy::Policies> policies_of(const BuildRequest& request) {
    std::vector<sourcepolicy::Policy> policies;
    if (!request.source_policy_json.empty())
        policies.push_back(TRY(sourcepolicy::parse_policy(request.source_policy_json)));
    if (request.frozen || !request.lock_json.empty()) {
        sourcepolicy::Lock lock;
        if (!request.lock_json.empty()) lock = TRY(sourcepolicy::parse_lock(request.lock_json));
        policies.push_back(
            sourcepolicy::policy_of(lock, request.frozen ? sourcepolicy::Frozen::yes : sourcepolicy::Frozen::no));
    }
    return sourcepolicy::Policies::create(policies);
}

Error explain_frozen(const Error& error, bool frozen) {
    if (!frozen || error.code() != Code::permission_denied || !error.to_string().contains("denied by policy"))
        return error;
    return error.with_hint("--frozen: it is not in cooper.lock; write that again with cooper lock");
}

// Remembers what every floating source means.
class LockJudge final : public SourceJudge {
public:
    explicit LockJudge(store::Store& store) : store_(store) {}

    Result<bool> judge(llb::SourceOp& source, const llb::Platform& platform, SourceFacts& facts, Stop stop) override {
        if (!sourcepolicy::is_floating(source)) return false;
        {
            auto lock = lock_.lock();
            if (lock->sources.contains(source.identifier)) return false;
        }
        std::string pin = TRY(pin_of(source, platform, facts, stop));
        lock_.lock()->sources[source.identifier] = std::move(pin);
        return false;
    }
    [[nodiscard]] sourcepolicy::Lock take() { return std::move(*lock_.lock()); }

private:
    Result<std::string> pin_of(const llb::SourceOp& source, const llb::Platform& platform, SourceFacts& facts,
                               const Stop& stop) {
        if (const std::string_view scheme = "docker-image://"; source.identifier.starts_with(scheme)) {
            const std::string reference = source.identifier.substr(scheme.size());
            // An image that was built or loaded here is what a build would take.
            const bool here = TRY(store_.find_image(reference)).has_value();
            const auto mode = here ? frontend::ResolveMode::standard : frontend::ResolveMode::pull;
            return TRY(facts.image(reference, platform, mode, stop)).digest.to_string();
        }
        const SourceMeta meta = TRY(facts.other(source, stop));
        return meta.commit.empty() ? meta.checksum : meta.commit;
    }

    store::Store& store_;
    Guarded<sourcepolicy::Lock> lock_;
};

}  // namespace

std::string Build::project() const {
    std::string place = request_.context.text;
    if (request_.context.kind == ContextSpec::Kind::directory) {
        std::array<char, 4096> real{};
        if (::realpath(place.c_str(), real.data()) != nullptr) place = real.data();
    } else {
        place.resize(std::min(place.size(), place.find('#')));
    }
    return codec::sha256_of(place + "\n" + request_.dockerfile).hex().substr(0, 32);
}

Result<BuildResponse> Build::run() {
    TRY(Entitlements::parse(request_.allow));
    TRY(prepare_context());
    TRY(prepare_options());
    TRY(prepare_caches());
    for (const auto& secret : request_.secrets) offers_.secrets[secret.id] = {secret.file, secret.env};
    for (const auto& one : request_.ssh) offers_.ssh[one.id] = one.paths;
    if (!offers_.ssh.empty()) offers_.scratch_dir = TRY(engine_.store_->scratch_dir());
    std::shared_ptr<session::LocalSession> session = TRY(session::LocalSession::create(std::move(offers_)));
    std::map<std::string, std::string> secret_keys;
    for (const auto& secret : request_.secrets) {
        if (!secret.invalidate) continue;
        const auto value = TRY(session->find_secret(secret.id, stop_));
        secret_keys[secret.id] = value ? TRY(engine_.secret_key(value->reveal())) : std::string("none");
    }
    auto view = TRY(engine_.store_->branch("build " + ref_));
    LocalJob job(engine_, std::move(view),
                 {.ref = ref_,
                  .session = session,
                  .find_session = {},
                  .entitlements = request_.allow,
                  .project = project(),
                  .git_modes = request_.git_modes,
                  .own_credentials = true,
                  .cache_imports = std::move(cache_imports_),
                  .cache_exports = cache_exports_,
                  .policies = TRY(policies_of(request_)),
                  .judge = nullptr,
                  .secret_keys = std::move(secret_keys),
                  .attestations = TRY(attestations_of(options_))},
                 progress_);
    for (const auto& secret : request_.secrets) {
        if (secret.leak_allowed) {
            job.workshop().secrets().allow(secret.id);
        } else if (const auto value = TRY(job.session().find_secret(secret.id, stop_))) {
            job.workshop().secrets().add(secret.id, *value);
        }
    }
    if (request_.context.kind == ContextSpec::Kind::tar_stream)
        TRY(job.unpack_tar_context(request_.context.tar_fd, stop_));
    TRY(job.expect_failure(request_.exports));
    auto solved = job.solve({.definition = {}, .frontend = "dockerfile.v0", .options = options_, .inputs = {}}, stop_);
    // What is wanted even of a build that fails.
    const auto rescue = [&](Error error) {
        if (const auto named = name_caches(job.export_after_failure(error)); !named)
            return error.with_hint("cache of what has finished: " + named.error().to_string());
        return error;
    };
    if (!solved) return explain_frozen(rescue(solved.error()), request_.frozen);
    FrontendResult result = std::move(*solved);
    if (!request_.call.empty()) {
        BuildResponse response;
        response.answer = std::move(result.metadata);
        response.metadata["result.json"] = response.answer["result.json"];
        return response;
    }

    std::vector<ExportSpec> exports = request_.exports;
    // -t names an image here as well, unless an output of that kind says so itself.
    const bool has_image = std::any_of(exports.begin(), exports.end(), [](const auto& e) { return e.type == "image"; });
    const bool only_on_failure =
        std::all_of(exports.begin(), exports.end(), [](const auto& e) { return e.attrs.contains("on-failure"); });
    if (only_on_failure || (!request_.tags.empty() && !has_image)) exports.insert(exports.begin(), {"image", {}, ""});
    const auto exported = job.export_result(result, exports, request_.tags, stop_);
    if (!exported) return rescue(exported.error());
    ExportAnswer answer = *exported;
    TRY(name_caches(answer));

    BuildResponse response;
    response.ref = ref_;
    response.image_id = answer.image_id;
    response.target = answer.target;
    response.names = std::move(answer.names);
    response.steps = std::move(answer.steps);
    for (const auto& [key, value] : answer.response) {
        if (key == "containerimage.descriptor") {
            response.metadata[key] = TRY(codec::base64_decode(value));
        } else {
            response.metadata[key] = json_quoted(value);
        }
    }
    response.metadata["buildx.build.ref"] = json_quoted(ref_);
    return response;
}

// Every stage that can be asked for by name, and the last one: what none of them needs is never fetched.
Result<sourcepolicy::Lock> Build::lock() {
    TRY(prepare_context());
    TRY(prepare_options());
    const auto judge = std::make_shared<LockJudge>(*engine_.store_);
    auto view = TRY(engine_.store_->branch("build " + ref_));
    LocalJob job(engine_, std::move(view),
                 {.ref = ref_,
                  .session = TRY(session::LocalSession::create(std::move(offers_))),
                  .find_session = {},
                  .entitlements = {},
                  .own_credentials = true,
                  .cache_imports = {},
                  .cache_exports = {},
                  .policies = {},
                  .judge = judge},
                 progress_);
    const auto solve = [&](const std::string& key, const std::string& value) {
        auto options = options_;
        if (!key.empty()) options[key] = value;
        return job.solve({.definition = {}, .frontend = "dockerfile.v0", .options = std::move(options), .inputs = {}},
                         stop_);
    };
    TRY(solve("", ""));
    if (!request_.target.empty()) return judge->take();
    const FrontendResult targets = TRY(solve("requestid", "frontend.targets"));
    const auto answer = targets.metadata.find("result.json");
    if (answer == targets.metadata.end()) return judge->take();
    const auto json = nlohmann::json::parse(answer->second, nullptr, false);
    if (!json.is_object() || !json.contains("targets") || !json["targets"].is_array()) return judge->take();
    for (const auto& target : json["targets"]) {
        const std::string name = target.value("name", std::string());
        if (!name.empty()) TRY_CONTEXT(solve("target", name), "stage {}", name);
    }
    return judge->take();
}

Result<sourcepolicy::Lock> LocalEngine::lock_sources(const BuildRequest& request, ProgressSink& progress, Stop stop) {
    Recorder recorder(progress, sys::Fd());
    return Build(*this, request, recorder, std::string(), std::move(stop)).lock();
}

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
