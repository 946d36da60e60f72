// Source operations of the builder: identifiers and attributes as BuildKit's client writes them.
#include "llb/detail/go_text.hpp"
#include "llb/detail/node.hpp"
#include "llb/state.hpp"

#include <fmt/core.h>

namespace cooper::llb {

namespace {

using Attrs = std::map<std::string, std::string>;

State make(std::string identifier, Attrs attrs, Constraints constraints) {
    const bool platform_specific = identifier.starts_with("docker-image://") || identifier.starts_with("oci-layout://");
    SourceNode node{{std::move(identifier), std::move(attrs)}, platform_specific};
    return State(Output{std::make_shared<Node>(std::move(node), std::move(constraints)), 0});
}

void put(Attrs& attrs, const char* name, std::string value) {
    if (!value.empty()) attrs.emplace(name, std::move(value));
}

void put_true(Attrs& attrs, const char* name, bool value) {
    if (value) attrs.emplace(name, "true");
}

struct Remote {
    std::string url;
    std::string host;
    std::string path;
    bool ssh = false;
};

// `url` has neither fragment nor query. "user@host:path" is ssh; a host without a scheme is https.
Remote parse_remote(std::string url) {
    Remote remote;
    std::size_t scheme = url.find("://");
    if (scheme == std::string::npos) {
        const std::size_t at = url.find('@');
        const std::size_t colon = url.find(':', at == std::string::npos ? 0 : at);
        if (at != std::string::npos && colon != std::string::npos && url.find('/') > colon) {
            remote.ssh = true;
            remote.host = url.substr(at + 1, colon - at - 1);
            remote.path = url.substr(colon + 1);
            remote.url = std::move(url);
            return remote;
        }
        url = "https://" + url;
        scheme = 5;
    }
    remote.ssh = url.starts_with("ssh://");
    const std::size_t start = scheme + 3;
    const std::size_t slash = std::min(url.find('/', start), url.size());
    remote.host = url.substr(start, slash - start);
    if (const std::size_t at = remote.host.rfind('@'); at != std::string::npos) remote.host.erase(0, at + 1);
    remote.path = url.substr(slash);
    remote.url = std::move(url);
    return remote;
}

}  // namespace

State scratch() { return {}; }

State source(std::string identifier, Attrs attrs, Constraints constraints) {
    return make(std::move(identifier), std::move(attrs), std::move(constraints));
}

State image(const std::string& reference, ImageOptions options) {
    Attrs attrs;
    put(attrs, "image.resolvemode", std::move(options.resolve_mode));
    put(attrs, "image.recordtype", std::move(options.record_type));
    put(attrs, "image.checksum", std::move(options.checksum));
    if (options.layer_limit) put(attrs, "image.layerlimit", std::to_string(*options.layer_limit));
    return make("docker-image://" + reference, std::move(attrs), std::move(options.constraints));
}

State local(const std::string& name, LocalOptions options) {
    Attrs attrs;
    put(attrs, "local.session", std::move(options.session_id));
    put(attrs, "local.unique", std::move(options.unique_id));
    put(attrs, "local.includepattern", detail::json_array(options.include_patterns));
    put(attrs, "local.followpaths", detail::json_array(options.follow_paths));
    put(attrs, "local.excludepatterns", detail::json_array(options.exclude_patterns));
    put(attrs, "local.sharedkeyhint", std::move(options.shared_key_hint));
    put(attrs, "local.differ", std::move(options.differ));
    return make("local://" + name, std::move(attrs), std::move(options.constraints));
}

State git(const std::string& remote_url, GitOptions options) {
    const Remote remote = parse_remote(remote_url);
    std::string id = remote.host + join_path("/", remote.path);
    if (!options.ref.empty() || !options.subdir.empty()) {
        id += "#" + options.ref;
        if (!options.subdir.empty()) id += ":" + options.subdir;
    }
    Attrs attrs;
    put_true(attrs, "git.keepgitdir", options.keep_git_dir);
    put(attrs, "git.fullurl", remote.url);
    put(attrs, "git.authtokensecret", std::move(options.auth_token_secret));
    put(attrs, "git.authheadersecret", std::move(options.auth_header_secret));
    if (remote.ssh) {
        put(attrs, "git.knownsshhosts", std::move(options.known_ssh_hosts));
        put(attrs, "git.mountsshsock", options.ssh_socket_id.empty() ? "default" : std::move(options.ssh_socket_id));
    }
    put(attrs, "git.checksum", std::move(options.checksum));
    put_true(attrs, "git.skipsubmodules", options.skip_submodules);
    put(attrs, "git.mtime", std::move(options.mtime));
    put_true(attrs, "git.fetchbycommit", options.fetch_by_commit);
    return make("git://" + id, std::move(attrs), std::move(options.constraints));
}

State http(const std::string& url, HttpOptions options) {
    Attrs attrs;
    put(attrs, "http.checksum", std::move(options.checksum));
    put(attrs, "http.filename", std::move(options.filename));
    if (options.perm && *options.perm != 0) put(attrs, "http.perm", fmt::format("0{:o}", *options.perm));
    if (options.uid != 0) put(attrs, "http.uid", std::to_string(options.uid));
    if (options.gid != 0) put(attrs, "http.gid", std::to_string(options.gid));
    put(attrs, "http.authheadersecret", std::move(options.auth_header_secret));
    for (auto& [name, value] : options.headers) attrs.emplace("http.header." + name, value);
    return make(url, std::move(attrs), std::move(options.constraints));
}

State oci_layout(const std::string& reference, OciLayoutOptions options) {
    Attrs attrs;
    put(attrs, "oci.session", std::move(options.session_id));
    put(attrs, "oci.store", std::move(options.store_id));
    if (options.layer_limit) put(attrs, "oci.layerlimit", std::to_string(*options.layer_limit));
    return make("oci-layout://" + reference, std::move(attrs), std::move(options.constraints));
}

}  // namespace cooper::llb
