// LLB operations as plain values: what one step of a build is, as a variant, mirroring the wire
// messages of package `pb` field by field (names and numbers in marshal.cpp).
// Values: copyable, no I/O, no validation; doors are load.hpp and marshal.hpp. Indices are as on the
// wire: -1 means "empty" (scratch) for inputs and "no output" for outputs.
#pragma once

#include "base/digest.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace cooper::llb {

inline constexpr std::int64_t kEmpty = -1;       // input: nothing, scratch
inline constexpr std::int64_t kSkipOutput = -1;  // output: not kept
inline constexpr std::string_view kRootMount = "/";
inline constexpr std::string_view kCustomName = "llb.customname";
inline constexpr std::string_view kDefinitionFile = "buildkit.llb.definition";
inline constexpr std::string_view kDefinitionFileAttr = "llbbuild.filename";  // of a BuildOp

struct Platform {
    std::string architecture;
    std::string os;
    std::string variant;
    std::string os_version;
    std::vector<std::string> os_features;
    friend bool operator==(const Platform&, const Platform&) = default;
};

// Output `index` of the operation whose bytes hash to `digest`.
struct Input {
    Digest digest;
    std::int64_t index = 0;
    friend bool operator==(const Input&, const Input&) = default;
};

struct ProxyEnv {
    std::string http_proxy;
    std::string https_proxy;
    std::string ftp_proxy;
    std::string no_proxy;
    std::string all_proxy;
    friend bool operator==(const ProxyEnv&, const ProxyEnv&) = default;
};

struct HostIp {
    std::string host;
    std::string ip;
    friend bool operator==(const HostIp&, const HostIp&) = default;
};

struct Ulimit {
    std::string name;
    std::int64_t soft = 0;
    std::int64_t hard = 0;
    friend bool operator==(const Ulimit&, const Ulimit&) = default;
};

struct Meta {
    std::vector<std::string> args;
    std::vector<std::string> env;  // "K=V"
    std::string cwd;
    std::string user;
    std::optional<ProxyEnv> proxy_env;
    std::vector<HostIp> extra_hosts;
    std::string hostname;
    std::vector<Ulimit> ulimit;
    std::string cgroup_parent;
    bool remove_mount_stubs_recursive = false;
    std::vector<std::int32_t> valid_exit_codes;
    friend bool operator==(const Meta&, const Meta&) = default;
};

enum class NetMode : std::uint8_t { unset = 0, host = 1, none = 2 };
enum class SecurityMode : std::uint8_t { sandbox = 0, insecure = 1 };
enum class MountType : std::uint8_t { bind = 0, secret = 1, ssh = 2, cache = 3, tmpfs = 4 };
enum class MountContentCache : std::uint8_t { standard = 0, on = 1, off = 2 };
enum class CacheSharing : std::uint8_t { shared = 0, private_ = 1, locked = 2 };

struct TmpfsOpt {
    std::int64_t size_bytes = 0;  // 0 = unlimited
    friend bool operator==(const TmpfsOpt&, const TmpfsOpt&) = default;
};
struct CacheOpt {
    std::string id;
    CacheSharing sharing = CacheSharing::shared;
    friend bool operator==(const CacheOpt&, const CacheOpt&) = default;
};
struct SecretOpt {
    std::string id;
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::uint32_t mode = 0;
    bool optional = false;
    friend bool operator==(const SecretOpt&, const SecretOpt&) = default;
};
struct SshOpt {
    std::string id;
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::uint32_t mode = 0;
    bool optional = false;
    friend bool operator==(const SshOpt&, const SshOpt&) = default;
};

struct Mount {
    std::int64_t input = kEmpty;
    std::string selector;  // path inside the input
    std::string dest;
    std::int64_t output = kSkipOutput;
    bool readonly = false;
    MountType type = MountType::bind;
    std::optional<TmpfsOpt> tmpfs;
    std::optional<CacheOpt> cache;
    std::optional<SecretOpt> secret;
    std::optional<SshOpt> ssh;
    std::string result_id;
    MountContentCache content_cache = MountContentCache::standard;
    friend bool operator==(const Mount&, const Mount&) = default;
};

struct SecretEnv {
    std::string id;
    std::string name;
    bool optional = false;
    friend bool operator==(const SecretEnv&, const SecretEnv&) = default;
};
struct CdiDevice {
    std::string name;
    bool optional = false;
    friend bool operator==(const CdiDevice&, const CdiDevice&) = default;
};

struct ExecOp {
    Meta meta;
    std::vector<Mount> mounts;
    NetMode network = NetMode::unset;
    SecurityMode security = SecurityMode::sandbox;
    std::vector<SecretEnv> secret_env;
    std::vector<CdiDevice> cdi_devices;
    friend bool operator==(const ExecOp&, const ExecOp&) = default;
};

struct SourceOp {
    std::string identifier;  // "docker-image://…", "local://…", "git://…", "https://…"
    std::map<std::string, std::string> attrs;
    friend bool operator==(const SourceOp&, const SourceOp&) = default;
};

struct NamedUser {
    std::string name;
    std::int64_t input = kEmpty;  // whose /etc/passwd or /etc/group
    friend bool operator==(const NamedUser&, const NamedUser&) = default;
};
// monostate: not set (a present but empty message on the wire).
using UserOpt = std::variant<std::monostate, NamedUser, std::uint32_t>;
struct ChownOpt {
    std::optional<UserOpt> user;
    std::optional<UserOpt> group;
    friend bool operator==(const ChownOpt&, const ChownOpt&) = default;
};

// Timestamps are nanoseconds since the epoch, -1 = not set. Modes: permission bits, -1 = keep.
struct CopyAction {
    std::string src;
    std::string dest;
    std::optional<ChownOpt> owner;
    std::int32_t mode = -1;
    bool follow_symlink = false;
    bool dir_copy_contents = false;
    bool attempt_unpack = false;
    bool create_dest_path = false;
    bool allow_wildcard = false;
    bool allow_empty_wildcard = false;
    std::int64_t timestamp = -1;
    std::vector<std::string> include_patterns;
    std::vector<std::string> exclude_patterns;
    bool always_replace_existing = false;
    std::string mode_str;  // symbolic ("u+rwX"), wins over mode
    std::vector<std::string> required_paths;
    friend bool operator==(const CopyAction&, const CopyAction&) = default;
};
struct MkFileAction {
    std::string path;
    std::int32_t mode = 0;
    std::string data;
    std::optional<ChownOpt> owner;
    std::int64_t timestamp = -1;
    friend bool operator==(const MkFileAction&, const MkFileAction&) = default;
};
struct MkDirAction {
    std::string path;
    std::int32_t mode = 0;
    bool make_parents = false;
    std::optional<ChownOpt> owner;
    std::int64_t timestamp = -1;
    friend bool operator==(const MkDirAction&, const MkDirAction&) = default;
};
struct RmAction {
    std::string path;
    bool allow_not_found = false;
    bool allow_wildcard = false;
    friend bool operator==(const RmAction&, const RmAction&) = default;
};
struct SymlinkAction {
    std::string old_path;
    std::string new_path;
    std::optional<ChownOpt> owner;
    std::int64_t timestamp = -1;
    friend bool operator==(const SymlinkAction&, const SymlinkAction&) = default;
};

// `input` and `secondary_input`: below the number of the op's inputs it is an op input, from there on
// the result of action (index - inputs); -1 = scratch.
struct FileAction {
    std::int64_t input = kEmpty;
    std::int64_t secondary_input = kEmpty;
    std::int64_t output = kSkipOutput;
    std::variant<std::monostate, CopyAction, MkFileAction, MkDirAction, RmAction, SymlinkAction> action;
    friend bool operator==(const FileAction&, const FileAction&) = default;
};
struct FileOp {
    std::vector<FileAction> actions;
    friend bool operator==(const FileOp&, const FileOp&) = default;
};

struct BuildOp {
    std::int64_t builder = -1;  // -1 = the LLB builder, the only one
    std::map<std::string, std::int64_t> inputs;
    std::string definition;  // marshalled Definition, may be empty
    std::map<std::string, std::string> attrs;
    friend bool operator==(const BuildOp&, const BuildOp&) = default;
};

struct MergeOp {
    std::vector<std::int64_t> inputs;
    friend bool operator==(const MergeOp&, const MergeOp&) = default;
};
struct DiffOp {
    std::int64_t lower = kEmpty;
    std::int64_t upper = kEmpty;
    friend bool operator==(const DiffOp&, const DiffOp&) = default;
};
struct PassthroughOp {
    std::string id;
    std::vector<std::int64_t> outputs;
    friend bool operator==(const PassthroughOp&, const PassthroughOp&) = default;
};

using OpBody = std::variant<std::monostate, ExecOp, SourceOp, FileOp, BuildOp, MergeOp, DiffOp, PassthroughOp>;

struct Op {
    std::vector<Input> inputs;
    OpBody body;  // monostate: the terminal op, which only has inputs
    std::optional<Platform> platform;
    std::optional<std::vector<std::string>> constraints;  // worker filters; present even when empty
    friend bool operator==(const Op&, const Op&) = default;
};

}  // namespace cooper::llb
