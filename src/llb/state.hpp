// State: the builder of LLB. A value that stands for "this file system, and how a command run in it
// would see the world" (environment, directory, user, platform, …). Every operation gives a new State;
// nothing is computed until marshal_definition. The C++ twin of what BuildKit's Go client calls State:
// the same calls give the same operation bytes.
//
//     State st = image("docker.io/library/alpine:3.20", {}).dir("/src");
//     st = st.run({.args = {"make"}});
//     Definition def = TRY(marshal_definition(st, platform));
//
// Pure. States share immutable nodes; building is for one thread at a time.
#pragma once

#include "base/result.hpp"
#include "llb/definition.hpp"
#include "llb/op.hpp"

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cooper::llb {

class Node;  // an operation not yet marshalled
class State;

// Environment in the order commands see it. Setting a variable again moves it to the end, as in BuildKit.
class EnvList {
public:
    void set(std::string_view key, std::string_view value);
    void erase(std::string_view key);
    [[nodiscard]] std::optional<std::string_view> get(std::string_view key) const;
    [[nodiscard]] std::vector<std::string> to_array() const;  // "K=V"
    [[nodiscard]] const std::vector<std::pair<std::string, std::string>>& entries() const { return entries_; }

private:
    std::vector<std::pair<std::string, std::string>> entries_;
};

// A source file ranges may point into; shared by all operations of one Dockerfile.
using SourceFile = std::shared_ptr<const SourceInfo>;

// What goes beside an operation, not into it (but the platform does, for exec and image sources).
struct Constraints {
    std::optional<Platform> platform;
    OpMetadata metadata;
    SourceFile source;
    std::vector<Range> ranges;

    void set_name(std::string name) { metadata.description[std::string(kCustomName)] = std::move(name); }
};

// Output `index` of a node; empty = scratch.
struct Output {
    std::shared_ptr<Node> node;
    // Index of the mount for exec nodes (resolved to an output number when marshalled), else unused.
    std::size_t mount = 0;
    [[nodiscard]] bool is_scratch() const { return node == nullptr; }
    friend bool operator==(const Output&, const Output&) = default;
};

struct RunMount {
    std::string target;
    Output source;
    std::string selector;
    bool readonly = false;
    bool no_output = false;  // writes are thrown away
    std::optional<std::int64_t> tmpfs_size_bytes;
    std::optional<CacheOpt> cache;
    MountContentCache content_cache = MountContentCache::standard;
};

struct RunSecret {
    std::string id;
    std::optional<std::string> target;
    std::optional<std::string> env;
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::uint32_t mode = 0400;
    bool optional = false;
};

struct RunSsh {
    std::string id;
    std::string target;  // empty = /run/buildkit/ssh_agent.<n>
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::uint32_t mode = 0600;
    bool optional = false;
};

struct RunOptions {
    std::vector<std::string> args;
    std::vector<RunMount> mounts;
    std::vector<RunSecret> secrets;
    std::vector<RunSsh> ssh;
    std::vector<HostIp> extra_hosts;
    std::vector<Ulimit> ulimits;
    std::vector<CdiDevice> devices;
    std::vector<std::int32_t> valid_exit_codes;
    std::optional<ProxyEnv> proxy;
    std::optional<NetMode> network;  // default: the state's
    SecurityMode security = SecurityMode::sandbox;
    std::string cgroup_parent;
    bool readonly_root = false;
    Constraints constraints;
};

// "user[:group]", each a name or a number ("root" is 0).
struct Owner {
    static Owner parse(std::string_view text);
    static Owner ids(std::uint32_t uid, std::uint32_t gid);
    std::optional<std::variant<std::string, std::uint32_t>> user;
    std::optional<std::variant<std::string, std::uint32_t>> group;
};

struct CopyOptions {
    std::optional<std::int32_t> mode;
    std::string mode_str;
    bool follow_symlinks = false;
    bool dir_contents_only = false;
    std::vector<std::string> include_patterns;
    std::vector<std::string> exclude_patterns;
    std::vector<std::string> required_paths;
    bool attempt_unpack = false;
    bool create_dest_path = false;
    bool allow_wildcard = false;
    bool allow_empty_wildcard = false;
    bool always_replace_existing = false;
    std::optional<Owner> owner;
    std::optional<std::int64_t> created_ns;
};

// A chain of file actions applied to one base. Paths may be relative to the base's directory.
class FileActions {
public:
    FileActions& copy(const State& from, std::string src, std::string dest, CopyOptions options);
    FileActions& mkdir(std::string path, std::int32_t mode, bool make_parents, std::optional<Owner> owner,
                       std::optional<std::int64_t> created_ns);
    FileActions& mkfile(std::string path, std::int32_t mode, std::string data, std::optional<Owner> owner,
                        std::optional<std::int64_t> created_ns);
    FileActions& rm(std::string path, bool allow_not_found, bool allow_wildcard);
    FileActions& symlink(std::string old_path, std::string new_path, std::optional<Owner> owner,
                         std::optional<std::int64_t> created_ns);
    [[nodiscard]] bool empty() const { return steps_.empty(); }

private:
    friend class State;
    friend class Node;
    struct Step {
        FileAction action;  // indices and owner inputs are filled in when marshalled
        std::optional<Owner> owner;
        Output from;           // of a copy
        std::string from_dir;  // working directory of what is copied from
    };
    std::vector<Step> steps_;
};

class State {
public:
    State() = default;  // scratch
    explicit State(Output output);

    [[nodiscard]] const Output& output() const { return output_; }
    [[nodiscard]] State with_output(Output output) const;

    [[nodiscard]] const EnvList& env() const { return *env_; }
    void add_env(std::string_view key, std::string_view value);
    [[nodiscard]] const std::string& dir() const { return dir_; }
    void set_dir(std::string dir) { dir_ = std::move(dir); }
    void set_user(std::string user) { user_ = std::move(user); }
    void set_hostname(std::string hostname) { hostname_ = std::move(hostname); }
    void set_network(NetMode mode) { network_ = mode; }
    void set_platform(Platform platform) { platform_ = std::move(platform); }
    [[nodiscard]] const std::optional<Platform>& platform() const { return platform_; }

    [[nodiscard]] State run(RunOptions options) const;
    // What a mount of the last run() became, by its index in RunOptions::mounts.
    [[nodiscard]] State run_mount(std::size_t mount) const;
    [[nodiscard]] State file(FileActions actions, Constraints constraints) const;

private:
    friend class Node;
    Output output_;
    // Shared between states until one of them changes it.
    std::shared_ptr<EnvList> env_ = std::make_shared<EnvList>();
    std::string dir_ = "/";
    std::string user_;
    std::string hostname_;
    NetMode network_ = NetMode::unset;
    std::optional<Platform> platform_;
};

struct ImageOptions {
    std::string resolve_mode;  // "", "pull" or "local"
    std::string record_type;   // "", "internal" …
    std::string checksum;
    std::optional<std::int64_t> layer_limit;
    Constraints constraints;
};
// `reference` is normalised and has a tag or digest.
[[nodiscard]] State image(const std::string& reference, ImageOptions options);

[[nodiscard]] State scratch();

struct LocalOptions {
    std::string session_id;
    std::string unique_id;
    std::vector<std::string> include_patterns;
    std::vector<std::string> exclude_patterns;
    std::vector<std::string> follow_paths;
    std::string shared_key_hint;
    std::string differ;  // "", "none", "metadata"
    Constraints constraints;
};
[[nodiscard]] State local(const std::string& name, LocalOptions options);

struct GitOptions {
    std::string ref;
    std::string subdir;
    bool keep_git_dir = false;
    bool skip_submodules = false;
    bool fetch_by_commit = false;
    std::string checksum;
    std::string mtime;  // "", "checkout", "commit"
    std::string known_ssh_hosts;
    std::string ssh_socket_id;  // "" = "default"
    std::string auth_header_secret = "GIT_AUTH_HEADER";
    std::string auth_token_secret = "GIT_AUTH_TOKEN";
    Constraints constraints;
};
// `remote`: "https://host/path", "ssh://…", "git://…", "user@host:path", or "host/path" (https).
[[nodiscard]] State git(const std::string& remote, GitOptions options);

struct HttpOptions {
    std::string filename;
    std::string checksum;
    std::optional<std::uint32_t> perm;
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::string auth_header_secret;
    std::map<std::string, std::string> headers;  // "accept", "user-agent"
    Constraints constraints;
};
[[nodiscard]] State http(const std::string& url, HttpOptions options);

struct OciLayoutOptions {
    std::string session_id;
    std::string store_id;
    std::optional<std::int64_t> layer_limit;
    Constraints constraints;
};
[[nodiscard]] State oci_layout(const std::string& reference, OciLayoutOptions options);

// Any other source, by identifier and attributes.
[[nodiscard]] State source(std::string identifier, std::map<std::string, std::string> attrs, Constraints constraints);

[[nodiscard]] State merge(const std::vector<State>& inputs, Constraints constraints);
[[nodiscard]] State diff(const State& lower, const State& upper, Constraints constraints);

// What the definition in a file of `definition` builds to; filename is "buildkit.llb.definition" when empty.
[[nodiscard]] State build(const State& definition, std::string filename, Constraints constraints);

// A state made when the definition is marshalled, once: for sources whose options (the paths that are
// used) are only known at the end.
[[nodiscard]] State deferred(std::function<State()> make);
// The operations of another definition as a state.
[[nodiscard]] Result<State> from_definition(const Definition& definition);

// `platform`: for operations that have none of their own. Fails when an operation is not complete
// (no arguments, relative directory).
[[nodiscard]] Result<Definition> marshal_definition(const State& state, const Platform& platform);

// Path rules of the builder: path.Clean joined to `parent`; with keep_slash a trailing "/" or "/." stays.
enum class TrailingSlash : std::uint8_t { keep, drop };
[[nodiscard]] std::string normalize_path(std::string_view parent, std::string_view path, TrailingSlash slash);
// Go's path.Clean and path.Join.
[[nodiscard]] std::string clean_path(std::string_view path);
[[nodiscard]] std::string join_path(std::string_view a, std::string_view b);

}  // namespace cooper::llb
