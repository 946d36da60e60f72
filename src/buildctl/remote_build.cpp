#include "buildctl/remote_build.hpp"

#include "base/text.hpp"
#include "buildctl/log_tails.hpp"
#include "client/call_peer.hpp"
#include "codec/base64.hpp"
#include "codec/go_json.hpp"
#include "codec/sha256.hpp"
#include "session/layout_index.hpp"
#include "sourcepolicy/lock.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

namespace cooper::buildctl {

namespace {

using engine::BuildRequest;
using engine::ContextSpec;

bool is_directory(const std::string& path) {
    struct stat st{};
    return ::stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode);
}

// One key for one directory of one machine, so that the daemon finds what it was sent before.
std::string shared_key(const std::string& directory) {
    std::array<char, 256> host{};
    ::gethostname(host.data(), host.size() - 1);
    std::array<char, 4096> real{};
    const char* path = ::realpath(directory.c_str(), real.data());
    return codec::sha256_of(fmt::format("{}:{}", host.data(), path != nullptr ? path : directory)).hex();
}

Result<> set_context(Job& job, const BuildRequest& request) {
    auto& attrs = job.spec.frontend_attrs;
    const std::string& text = request.context.text;
    switch (request.context.kind) {
        case ContextSpec::Kind::directory:
            job.offer.directories["context"] = text;
            job.offer.shared_key = shared_key(text);
            break;
        case ContextSpec::Kind::git:
        case ContextSpec::Kind::http:
            attrs["context"] = text;
            break;
        case ContextSpec::Kind::tar_stream: {
            const std::string id = client::random_id();
            job.offer.uploads[id] = request.context.tar_fd;
            attrs["context"] = "http://buildkit-session/" + id;
            break;
        }
        case ContextSpec::Kind::empty:
            TRY(offer_file(job, "context", ".dockerignore", ""));
            break;
    }
    const bool remote = attrs.contains("context");
    if (request.dockerfile_text) {
        TRY(offer_file(job, "dockerfile", "Dockerfile", *request.dockerfile_text));
        attrs["filename"] = "Dockerfile";
        if (remote) attrs["dockerfilekey"] = "dockerfile";
    } else if (remote) {
        if (!request.dockerfile.empty()) attrs["filename"] = request.dockerfile;
    } else {
        const std::string path = request.dockerfile.empty() ? text + "/Dockerfile" : request.dockerfile;
        const std::size_t slash = path.rfind('/');
        job.offer.directories["dockerfile"] = slash == std::string::npos ? "."
                                              : slash == 0               ? "/"
                                                                         : path.substr(0, slash);
        attrs["filename"] = path.substr(slash == std::string::npos ? 0 : slash + 1);
    }
    return {};
}

Result<> add_layout_context(Job& job, const std::string& name, const std::string& value) {
    std::string path = value.substr(std::string_view("oci-layout://").size());
    std::string digest;
    std::string tag = "latest";
    if (const std::size_t at = path.find('@'); at != std::string::npos) {
        digest = path.substr(at + 1);
        path.resize(at);
    }
    const std::size_t colon = path.rfind(':');
    if (colon != std::string::npos && path.find('/', colon) == std::string::npos) {
        tag = path.substr(colon + 1);
        path.resize(colon);
    }
    if (digest.empty()) digest = TRY_CONTEXT(session::digest_in_layout(path, tag), "build context {}", name);
    const std::string store = client::random_id();
    job.offer.stores["oci:" + store] = path;
    job.spec.frontend_attrs["context:" + name] = fmt::format("oci-layout://{}:{}@{}", store, tag, digest);
    return {};
}

Result<> add_named_context(Job& job, const std::string& name, const std::string& value) {
    if (value.starts_with("oci-layout://")) return add_layout_context(job, name, value);
    if (!value.contains("://") && is_directory(value)) {
        // The names of the main context's own directories are taken.
        const std::string local = name == "context" || name == "dockerfile" ? "_" + name : name;
        job.offer.directories[local] = value;
        job.spec.frontend_attrs["context:" + name] = "local:" + local;
        return {};
    }
    if (!value.contains("://") && !value.starts_with("git@") && !value.starts_with("target:") &&
        !value.starts_with("github.com/")) {
        return fail_errno(ENOENT, fmt::format("build context {}: {}", name, quoted(value)));
    }
    job.spec.frontend_attrs["context:" + name] = value;
    return {};
}

void set_attributes(client::Attributes& attrs, const BuildRequest& request) {
    if (!request.target.empty()) attrs["target"] = request.target;
    for (const auto& [key, value] : request.build_args) attrs["build-arg:" + key] = value;
    for (const auto& [key, value] : request.labels) attrs["label:" + key] = value;
    for (const auto& [kind, parameters] : request.attestations) attrs["attest:" + kind] = parameters;
    if (request.expect_cached) attrs["expect-cached"] = *request.expect_cached;
    if (request.no_cache) {
        attrs["no-cache"] = "";
    } else if (!request.no_cache_filter.empty()) {
        attrs["no-cache"] = join(request.no_cache_filter, ",");
    }
    if (request.pull) attrs["image-resolve-mode"] = "pull";
    std::vector<std::string> platforms;
    for (const auto& platform : request.platforms) platforms.push_back(oci::format_platform(platform));
    if (!platforms.empty()) attrs["platform"] = join(platforms, ",");
    std::vector<std::string> hosts;
    for (const auto& [host, address] : request.add_hosts) hosts.push_back(fmt::format("{}={}", host, address));
    if (!hosts.empty()) attrs["add-hosts"] = join(hosts, ",");
    if (request.network == engine::NetworkMode::host) attrs["force-network-mode"] = "host";
    if (request.network == engine::NetworkMode::none) attrs["force-network-mode"] = "none";
    if (request.shm_size_bytes > 0) attrs["shm-size"] = std::to_string(request.shm_size_bytes);
    if (!request.ulimits.empty()) attrs["ulimit"] = join(request.ulimits, ",");
    if (!request.cgroup_parent.empty()) attrs["cgroup-parent"] = request.cgroup_parent;
    if (!request.call.empty()) {
        attrs["requestid"] = request.call;
        attrs["frontend.caps"] = "moby.buildkit.frontend.subrequests";
    }
}

// As Go reads it.
bool is_true(std::string_view text) {
    static constexpr std::array<std::string_view, 6> kTrue = {"1", "t", "T", "true", "TRUE", "True"};
    return std::find(kTrue.begin(), kTrue.end(), text) != kTrue.end();
}

Result<> add_exporters(Job& job, const BuildRequest& request) {
    const std::string names = join(request.tags, ",");
    // An image with a name stays at the daemon, whatever else becomes of it. First: of several exporters
    // the last one's digest is the answer.
    const auto is_image = [](const engine::ExportSpec& spec) { return spec.type == "image"; };
    if (!names.empty() && std::ranges::none_of(request.exports, is_image))
        TRY(add_exporter(job, {"image", {{"name", names}}}, ""));
    for (const auto& spec : request.exports) {
        if (spec.type == "cacheonly" && !spec.attrs.contains("max-size")) continue;
        client::TypedAttributes exporter{.type = spec.type, .attrs = spec.attrs};
        if (spec.type == "image" || spec.type == "oci" || spec.type == "docker") {
            if (!names.empty()) exporter.attrs.emplace("name", names);
        }
        TRY(add_exporter(job, std::move(exporter), spec.dest));
    }
    return {};
}

}  // namespace

Result<Job> to_job(const BuildRequest& request) {
    Job job;
    job.spec.frontend = "dockerfile.v0";
    set_attributes(job.spec.frontend_attrs, request);
    TRY(set_context(job, request));
    for (const auto& [name, value] : request.named_contexts) TRY(add_named_context(job, name, value));
    job.spec.entitlements = request.allow;
    job.spec.source_policy_json = request.source_policy_json;
    if (request.frozen || !request.lock_json.empty()) {
        const auto frozen = request.frozen ? sourcepolicy::Frozen::yes : sourcepolicy::Frozen::no;
        sourcepolicy::Lock lock;
        if (!request.lock_json.empty()) lock = TRY(sourcepolicy::parse_lock(request.lock_json));
        // A request has room for one policy.
        sourcepolicy::Policy own;
        if (!request.source_policy_json.empty()) own = TRY(sourcepolicy::parse_policy(request.source_policy_json));
        job.spec.source_policy_json = sourcepolicy::to_json(TRY(sourcepolicy::joined(own, lock, frozen)));
    }
    std::map<std::string, std::string> files;
    std::map<std::string, std::string> variables;
    for (const auto& secret : request.secrets) {
        (secret.env.empty() ? files : variables)[secret.id] = secret.env.empty() ? secret.file : secret.env;
    }
    std::map<std::string, std::vector<std::string>> ssh;
    for (const auto& agent : request.ssh) ssh[agent.id] = agent.paths;
    TRY(offer_values(job, std::move(files), std::move(variables), std::move(ssh)));
    job.offer.git_modes = request.git_modes;
    job.ask = !request.call.empty();
    if (!job.ask) TRY(add_exporters(job, request));
    for (const auto& cache : request.cache_imports) TRY(add_cache_import(job, {cache.type, cache.attrs}));
    if (job.ask) return job;
    for (const auto& cache : request.cache_exports) TRY(add_cache_export(job, {cache.type, cache.attrs}));
    const auto wish = request.build_args.find("BUILDKIT_INLINE_CACHE");
    if (wish != request.build_args.end() && is_true(wish->second)) TRY(add_cache_export(job, {"inline", {}}));
    return job;
}

handover::DialGrpc DaemonBuilder::dialer() { return client::dial_socket; }

Result<engine::BuildResponse> DaemonBuilder::build(const cli::RemoteAddress& address, const BuildRequest& request,
                                                   ProgressSink& progress, const Stop& stop) {
    Job job = TRY(to_job(request));
    const client::ConnectOptions daemon{.address = address.address, .tls = tls_of_directory(address.tls_dir)};
    LogTails tails(progress);
    const auto result = run_job(job, daemon, tails, stop);
    if (!result) return tails.add_to(result.error());
    const client::Attributes& answer = *result;
    engine::BuildResponse response;
    response.ref = job.spec.ref;
    if (job.ask) {
        response.answer = answer;
        return response;
    }
    for (const char* key : {"containerimage.config.digest", "containerimage.digest"}) {
        const auto found = answer.find(key);
        if (found == answer.end() || response.image_id) continue;
        if (const auto digest = Digest::parse(found->second)) response.image_id = *digest;
    }
    if (const auto found = answer.find("containerimage.descriptor"); found != answer.end()) {
        const auto json = codec::base64_decode(found->second);
        if (const auto descriptor = json ? oci::parse_descriptor(*json) : Result<oci::Descriptor>(json.error())) {
            response.target = *descriptor;
        }
    }
    if (const auto found = answer.find("image.name"); found != answer.end()) {
        response.names = split(found->second, ',');
    }
    response.metadata = metadata_values(answer);
    codec::append_go_json_string(response.metadata["buildx.build.ref"], job.spec.ref);
    return response;
}

}  // namespace cooper::buildctl
