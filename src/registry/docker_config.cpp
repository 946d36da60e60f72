#include "base/text.hpp"
#include "codec/base64.hpp"
#include "registry/credentials.hpp"
#include "registry/detail/credential_helper.hpp"
#include "sys/rooted_dir.hpp"

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <unistd.h>

namespace cooper::registry {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMaxConfigBytes = 1u << 20;
constexpr const char* kFileName = "config.json";
constexpr std::string_view kHubKey = "https://index.docker.io/v1/";

// The key docker writes for a host.
std::string server_key(const std::string& host) { return host == "docker.io" ? std::string(kHubKey) : host; }

// The host a key means: scheme and path do not matter, and the Hub has several names.
std::string host_of_key(std::string_view key) {
    for (const std::string_view scheme : {"https://", "http://"}) {
        if (key.starts_with(scheme)) key.remove_prefix(scheme.size());
    }
    std::string host(key.substr(0, key.find('/')));
    if (host == "index.docker.io" || host == "registry-1.docker.io") host = "docker.io";
    return host;
}

// Of several keys that mean the host, the one docker writes wins.
std::string matching_key(const Json& object, const std::string& host) {
    const std::string exact = server_key(host);
    if (object.contains(exact)) return exact;
    for (const auto& [key, value] : object.items()) {
        if (host_of_key(key) == host) return key;
    }
    return "";
}

std::string text_field(const Json& object, const char* key) {
    const auto found = object.find(key);
    return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

const Json* object_field(const Json& object, const char* key) {
    const auto found = object.find(key);
    return found != object.end() && found->is_object() ? &*found : nullptr;
}

// An absent file is an empty document.
Result<Json> load(const std::string& directory) {
    const std::string path = directory + "/" + kFileName;
    char real[PATH_MAX];
    // People keep this file as a link into another place; what it points to is theirs to choose.
    if (!realpath(path.c_str(), real)) {
        if (errno == ENOENT || errno == ENOTDIR) return Json::object();
        return fail_errno(errno, path);
    }
    const std::string found(real);
    const std::size_t slash = found.rfind('/');
    const auto dir = TRY(sys::RootedDir::open_host(slash == 0 ? "/" : found.substr(0, slash)));
    const std::string text = TRY_CONTEXT(dir.read_file(found.substr(slash + 1), kMaxConfigBytes), "{}", path);
    if (trim(text).empty()) return Json::object();
    Json document = Json::parse(text, nullptr, false);
    if (!document.is_object()) {
        return bad_input("{} is not a JSON object", path)
            .with_hint("repair the file, or move it away and log in again");
    }
    return document;
}

Result<> save(const std::string& directory, const Json& document) {
    std::string target = directory + "/" + kFileName;
    char real[PATH_MAX];
    if (realpath(target.c_str(), real)) target = real;
    const std::size_t slash = target.rfind('/');
    const std::string parent = slash == 0 ? "/" : target.substr(0, slash);
    const auto host_root = TRY(sys::RootedDir::open_host("/"));
    if (access(parent.c_str(), F_OK) != 0) TRY(host_root.make_dirs(parent, 0700));
    const auto dir = TRY(sys::RootedDir::open_host(parent));
    const std::string name = target.substr(slash + 1);
    const std::string draft = fmt::format(".{}.cooper-{}", name, getpid());
    unlinkat(dir.fd(), draft.c_str(), 0);
    {
        sys::Fd file = TRY(dir.open(draft, O_WRONLY | O_CREAT | O_EXCL, sys::Follow::no, 0600));
        TRY(sys::write_all(file.get(), document.dump(1, '\t', false, Json::error_handler_t::replace) + "\n"));
        if (fsync(file.get()) != 0) return fail_errno(errno, "write " + target);
        TRY(std::move(file).close());
    }
    if (renameat(dir.fd(), draft.c_str(), dir.fd(), name.c_str()) != 0) return fail_errno(errno, "write " + target);
    return {};
}

Result<Credential> from_auth(const Json& entry, const std::string& key) {
    Credential credential;
    credential.username = text_field(entry, "username");
    credential.password = text_field(entry, "password");
    credential.identity_token = text_field(entry, "identitytoken");
    credential.registry_token = text_field(entry, "registrytoken");
    const std::string packed = text_field(entry, "auth");
    if (packed.empty()) return credential;
    const std::string plain =
        TRY_CONTEXT(codec::base64_decode(packed), "\"auth\" of {} in docker's config.json", cooper::quoted(key));
    const auto [user, password] = cut(plain, ':');
    if (!password) return bad_input("\"auth\" of {} in docker's config.json has no ':'", cooper::quoted(key));
    credential.username = user;
    credential.password = *password;
    while (credential.password.ends_with('\0')) credential.password.pop_back();
    return credential;
}

std::string helper_in(const Json& document, const std::string& host) {
    if (const Json* helpers = object_field(document, "credHelpers")) {
        const std::string key = matching_key(*helpers, host);
        if (!key.empty()) return text_field(*helpers, key.c_str());
    }
    return text_field(document, "credsStore");
}

}  // namespace

DockerConfig::DockerConfig(std::string directory) : directory_(std::move(directory)) {
    if (!directory_.empty()) return;
    if (const char* given = std::getenv("DOCKER_CONFIG"); given && *given) {
        directory_ = given;
    } else if (const char* home = std::getenv("HOME"); home && *home) {
        directory_ = std::string(home) + "/.docker";
    } else {
        directory_ = "/root/.docker";
    }
}

Result<std::optional<std::string>> DockerConfig::helper_for(const std::string& host) const {
    const Json document = TRY(load(directory_));
    std::string helper = helper_in(document, host);
    if (helper.empty()) return std::optional<std::string>();
    return std::optional(std::move(helper));
}

Result<Credential> DockerConfig::find(const std::string& host, const Stop& stop) {
    {
        auto known = from_helpers_.lock();
        if (const auto found = known->find(host); found != known->end()) return found->second;
    }
    const Json document = TRY(load(directory_));
    if (const std::string helper = helper_in(document, host); !helper.empty()) {
        const auto answer = TRY(detail::helper_get(helper, server_key(host), stop));
        if (answer) {
            (*from_helpers_.lock())[host] = *answer;
            return *answer;
        }
    }
    const Json* auths = object_field(document, "auths");
    if (!auths) return Credential{};
    const std::string key = matching_key(*auths, host);
    if (key.empty() || !(*auths)[key].is_object()) return Credential{};
    return from_auth((*auths)[key], key);
}

Result<> DockerConfig::store(const std::string& host, const Credential& credential, const Stop& stop) {
    from_helpers_.lock()->erase(host);
    Json document = TRY(load(directory_));
    const std::string key = server_key(host);
    if (const std::string helper = helper_in(document, host); !helper.empty()) {
        TRY(detail::helper_store(helper, key, credential, stop));
        document["auths"][key] = Json::object();  // docker leaves this mark of where it is logged in
        return save(directory_, document);
    }
    if (!object_field(document, "auths")) document["auths"] = Json::object();
    Json entry = Json::object();
    // With an identity token the password field stays empty, as docker writes it.
    const std::string password = credential.identity_token.empty() ? credential.password : "";
    entry["auth"] = codec::base64_encode(credential.username + ":" + password);
    if (!credential.identity_token.empty()) entry["identitytoken"] = credential.identity_token;
    document["auths"][key] = std::move(entry);
    return save(directory_, document);
}

Result<bool> DockerConfig::erase(const std::string& host, const Stop& stop) {
    from_helpers_.lock()->erase(host);
    Json document = TRY(load(directory_));
    bool erased = false;
    if (const std::string helper = helper_in(document, host); !helper.empty()) {
        erased = TRY(detail::helper_erase(helper, server_key(host), stop));
    }
    bool changed = false;
    while (object_field(document, "auths")) {
        const std::string key = matching_key(document["auths"], host);
        if (key.empty()) break;
        document["auths"].erase(key);
        changed = true;
    }
    if (changed) TRY(save(directory_, document));
    return erased || changed;
}

Result<std::string> DockerConfig::describe_store(const std::string& host) const {
    const auto helper = TRY(helper_for(host));
    if (helper) return "the credential helper docker-credential-" + *helper;
    return "the file " + directory_ + "/" + kFileName + ", without encryption";
}

}  // namespace cooper::registry
