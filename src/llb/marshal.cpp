#include "llb/marshal.hpp"

#include "codec/sha256.hpp"
#include "codec/wire.hpp"

#include <type_traits>

namespace cooper::llb {

namespace {

using codec::WireWriter;

template <class Value>
void message(WireWriter& out, unsigned field, const Value& value);

void texts(WireWriter& out, unsigned field, const std::vector<std::string>& values) {
    for (const std::string& value : values) out.element(field, value);
}

template <class Numbers>
void packed(WireWriter& out, unsigned field, const Numbers& values) {
    if (values.empty()) return;
    WireWriter inner;
    for (const std::int64_t value : values) inner.varint(static_cast<std::uint64_t>(value));
    out.element(field, inner.bytes());
}

void text_map(WireWriter& out, unsigned field, const std::map<std::string, std::string>& values) {
    for (const auto& [key, value] : values) {
        WireWriter entry;
        entry.element(1, key);
        entry.element(2, value);
        out.element(field, entry.bytes());
    }
}

void put(WireWriter& out, const Platform& platform) {
    out.text(1, platform.architecture);
    out.text(2, platform.os);
    out.text(3, platform.variant);
    out.text(4, platform.os_version);
    texts(out, 5, platform.os_features);
}

void put(WireWriter& out, const Input& input) {
    out.text(1, input.digest.to_string());
    out.integer(2, input.index);
}

void put(WireWriter& out, const ProxyEnv& proxy) {
    out.text(1, proxy.http_proxy);
    out.text(2, proxy.https_proxy);
    out.text(3, proxy.ftp_proxy);
    out.text(4, proxy.no_proxy);
    out.text(5, proxy.all_proxy);
}

void put(WireWriter& out, const HostIp& host) {
    out.text(1, host.host);
    out.text(2, host.ip);
}

void put(WireWriter& out, const Ulimit& limit) {
    out.text(1, limit.name);
    out.integer(2, limit.soft);
    out.integer(3, limit.hard);
}

void put(WireWriter& out, const Meta& meta) {
    texts(out, 1, meta.args);
    texts(out, 2, meta.env);
    out.text(3, meta.cwd);
    out.text(4, meta.user);
    if (meta.proxy_env) message(out, 5, *meta.proxy_env);
    for (const HostIp& host : meta.extra_hosts) message(out, 6, host);
    out.text(7, meta.hostname);
    for (const Ulimit& limit : meta.ulimit) message(out, 9, limit);
    out.text(10, meta.cgroup_parent);
    out.boolean(11, meta.remove_mount_stubs_recursive);
    packed(out, 12, meta.valid_exit_codes);
}

void put(WireWriter& out, const TmpfsOpt& opt) { out.integer(1, opt.size_bytes); }

void put(WireWriter& out, const CacheOpt& opt) {
    out.text(1, opt.id);
    out.uint(2, static_cast<std::uint64_t>(opt.sharing));
}

template <class Opt>
    requires std::is_same_v<Opt, SecretOpt> || std::is_same_v<Opt, SshOpt>
void put(WireWriter& out, const Opt& opt) {
    out.text(1, opt.id);
    out.uint(2, opt.uid);
    out.uint(3, opt.gid);
    out.uint(4, opt.mode);
    out.boolean(5, opt.optional);
}

void put(WireWriter& out, const Mount& mount) {
    out.integer(1, mount.input);
    out.text(2, mount.selector);
    out.text(3, mount.dest);
    out.integer(4, mount.output);
    out.boolean(5, mount.readonly);
    out.uint(6, static_cast<std::uint64_t>(mount.type));
    if (mount.tmpfs) message(out, 19, *mount.tmpfs);
    if (mount.cache) message(out, 20, *mount.cache);
    if (mount.secret) message(out, 21, *mount.secret);
    if (mount.ssh) message(out, 22, *mount.ssh);
    out.text(23, mount.result_id);
    out.uint(24, static_cast<std::uint64_t>(mount.content_cache));
}

void put(WireWriter& out, const SecretEnv& env) {
    out.text(1, env.id);
    out.text(2, env.name);
    out.boolean(3, env.optional);
}

void put(WireWriter& out, const CdiDevice& device) {
    out.text(1, device.name);
    out.boolean(2, device.optional);
}

void put(WireWriter& out, const ExecOp& exec) {
    message(out, 1, exec.meta);
    for (const Mount& mount : exec.mounts) message(out, 2, mount);
    out.uint(3, static_cast<std::uint64_t>(exec.network));
    out.uint(4, static_cast<std::uint64_t>(exec.security));
    for (const SecretEnv& env : exec.secret_env) message(out, 5, env);
    for (const CdiDevice& device : exec.cdi_devices) message(out, 6, device);
}

void put(WireWriter& out, const SourceOp& source) {
    out.text(1, source.identifier);
    text_map(out, 2, source.attrs);
}

void put(WireWriter& out, const NamedUser& user) {
    out.text(1, user.name);
    out.integer(2, user.input);
}

void put(WireWriter& out, const UserOpt& user) {
    if (const auto* named = std::get_if<NamedUser>(&user)) message(out, 1, *named);
    if (const auto* id = std::get_if<std::uint32_t>(&user)) out.present(2, *id);
}

void put(WireWriter& out, const ChownOpt& owner) {
    if (owner.user) message(out, 1, *owner.user);
    if (owner.group) message(out, 2, *owner.group);
}

void put(WireWriter& out, const CopyAction& copy) {
    out.text(1, copy.src);
    out.text(2, copy.dest);
    if (copy.owner) message(out, 3, *copy.owner);
    out.integer(4, copy.mode);
    out.boolean(5, copy.follow_symlink);
    out.boolean(6, copy.dir_copy_contents);
    out.boolean(7, copy.attempt_unpack);
    out.boolean(8, copy.create_dest_path);
    out.boolean(9, copy.allow_wildcard);
    out.boolean(10, copy.allow_empty_wildcard);
    out.integer(11, copy.timestamp);
    texts(out, 12, copy.include_patterns);
    texts(out, 13, copy.exclude_patterns);
    out.boolean(14, copy.always_replace_existing);
    out.text(15, copy.mode_str);
    texts(out, 16, copy.required_paths);
}

void put(WireWriter& out, const MkFileAction& file) {
    out.text(1, file.path);
    out.integer(2, file.mode);
    out.text(3, file.data);
    if (file.owner) message(out, 4, *file.owner);
    out.integer(5, file.timestamp);
}

void put(WireWriter& out, const MkDirAction& dir) {
    out.text(1, dir.path);
    out.integer(2, dir.mode);
    out.boolean(3, dir.make_parents);
    if (dir.owner) message(out, 4, *dir.owner);
    out.integer(5, dir.timestamp);
}

void put(WireWriter& out, const RmAction& rm) {
    out.text(1, rm.path);
    out.boolean(2, rm.allow_not_found);
    out.boolean(3, rm.allow_wildcard);
}

void put(WireWriter& out, const SymlinkAction& link) {
    out.text(1, link.old_path);
    out.text(2, link.new_path);
    if (link.owner) message(out, 3, *link.owner);
    out.integer(4, link.timestamp);
}

void put(WireWriter& out, const FileAction& action) {
    out.integer(1, action.input);
    out.integer(2, action.secondary_input);
    out.integer(3, action.output);
    if (const auto* copy = std::get_if<CopyAction>(&action.action)) message(out, 4, *copy);
    if (const auto* file = std::get_if<MkFileAction>(&action.action)) message(out, 5, *file);
    if (const auto* dir = std::get_if<MkDirAction>(&action.action)) message(out, 6, *dir);
    if (const auto* rm = std::get_if<RmAction>(&action.action)) message(out, 7, *rm);
    if (const auto* link = std::get_if<SymlinkAction>(&action.action)) message(out, 8, *link);
}

void put(WireWriter& out, const FileOp& file) {
    for (const FileAction& action : file.actions) message(out, 2, action);
}

void indexed(WireWriter& out, unsigned field, std::int64_t index) {
    WireWriter inner;
    inner.integer(1, index);
    out.element(field, inner.bytes());
}

void put(WireWriter& out, const BuildOp& build) {
    out.integer(1, build.builder);
    for (const auto& [name, input] : build.inputs) {
        WireWriter entry;
        entry.element(1, name);
        indexed(entry, 2, input);
        out.element(2, entry.bytes());
    }
    out.text(3, build.definition);
    text_map(out, 4, build.attrs);
}

void put(WireWriter& out, const MergeOp& merge) {
    for (const std::int64_t input : merge.inputs) indexed(out, 1, input);
}

void put(WireWriter& out, const DiffOp& diff) {
    indexed(out, 1, diff.lower);
    indexed(out, 2, diff.upper);
}

void put(WireWriter& out, const PassthroughOp& pass) {
    out.text(1, pass.id);
    packed(out, 2, pass.outputs);
}

void put(WireWriter& out, const Op& op) {
    for (const Input& input : op.inputs) message(out, 1, input);
    // The alternatives of OpBody are in field order: exec = 2 … passthrough = 8.
    std::visit(
        [&]<class Body>(const Body& body) {
            if constexpr (!std::is_same_v<Body, std::monostate>) {
                message(out, static_cast<unsigned>(op.body.index()) + 1, body);
            }
        },
        op.body);
    if (op.platform) message(out, 10, *op.platform);
    if (op.constraints) {
        WireWriter inner;
        texts(inner, 1, *op.constraints);
        out.element(11, inner.bytes());
    }
}

void put(WireWriter& out, const OpProgressGroup& group) {
    out.text(1, group.id);
    out.text(2, group.name);
    out.boolean(3, group.weak);
}

void put(WireWriter& out, const LinuxResources& limits) {
    out.integer(1, limits.memory_bytes);
    out.integer(2, limits.memory_swap_bytes);
    out.uint(3, limits.cpu_shares);
    out.uint(4, limits.cpu_period_us);
    out.integer(5, limits.cpu_quota_us);
    out.text(6, limits.cpuset_cpus);
    out.text(7, limits.cpuset_mems);
}

void put(WireWriter& out, const OpMetadata& metadata) {
    out.boolean(1, metadata.ignore_cache);
    text_map(out, 2, metadata.description);
    if (metadata.export_cache) {
        WireWriter inner;
        inner.boolean(1, *metadata.export_cache);
        out.element(4, inner.bytes());
    }
    for (const auto& [cap, on] : metadata.caps) {
        WireWriter entry;
        entry.element(1, cap);
        entry.present(2, on ? 1 : 0);
        out.element(5, entry.bytes());
    }
    if (metadata.progress_group) message(out, 6, *metadata.progress_group);
    if (metadata.linux_resources) message(out, 7, *metadata.linux_resources);
}

void put(WireWriter& out, const Position& position) {
    out.integer(1, position.line);
    out.integer(2, position.character);
}

void put(WireWriter& out, const Range& range) {
    message(out, 1, range.start);
    message(out, 2, range.end);
}

void put(WireWriter& out, const Location& location) {
    out.integer(1, location.source_index);
    for (const Range& range : location.ranges) message(out, 2, range);
}

void put(WireWriter& out, const SourceInfo& info) {
    out.text(1, info.filename);
    out.text(2, info.data);
    out.text(3, info.definition);
    out.text(4, info.language);
}

void put(WireWriter& out, const SourceMap& source) {
    for (const auto& [digest, locations] : source.locations) {
        WireWriter list;
        for (const Location& location : locations) message(list, 1, location);
        WireWriter entry;
        entry.element(1, digest);
        entry.element(2, list.bytes());
        out.element(1, entry.bytes());
    }
    for (const SourceInfo& info : source.infos) message(out, 2, info);
}

void put(WireWriter& out, const Definition& definition) {
    for (const std::string& op : definition.ops) out.element(1, op);
    for (const auto& [digest, metadata] : definition.metadata) {
        WireWriter entry;
        entry.element(1, digest);
        message(entry, 2, metadata);
        out.element(2, entry.bytes());
    }
    if (definition.source) message(out, 3, *definition.source);
}

template <class Value>
void message(WireWriter& out, unsigned field, const Value& value) {
    WireWriter inner;
    put(inner, value);
    out.element(field, inner.bytes());
}

template <class Value>
std::string marshalled(const Value& value) {
    WireWriter out;
    put(out, value);
    return out.take();
}

}  // namespace

std::string marshal(const Op& op) { return marshalled(op); }
std::string marshal(const Definition& definition) { return marshalled(definition); }
std::string marshal(const OpMetadata& metadata) { return marshalled(metadata); }

Digest op_digest(std::string_view op_bytes) { return codec::sha256_of(op_bytes); }

}  // namespace cooper::llb
