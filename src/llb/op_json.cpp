#include "llb/op_json.hpp"

#include "codec/base64.hpp"
#include "llb/detail/go_text.hpp"

namespace cooper::llb {

namespace {

using detail::GoObject;

template <class Value, class Print>
void list(GoObject& out, std::string_view name, const std::vector<Value>& values, Print print) {
    if (values.empty()) return;
    std::vector<std::string> elements;
    elements.reserve(values.size());
    for (const Value& value : values) elements.push_back(print(value));
    out.always_raw(name, detail::json_list(elements));
}

std::string print_host(const HostIp& host) {
    GoObject out;
    out.text("Host", host.host);
    out.text("IP", host.ip);
    return out.take();
}

std::string print_ulimit(const Ulimit& limit) {
    GoObject out;
    out.text("Name", limit.name);
    out.number("Soft", limit.soft);
    out.number("Hard", limit.hard);
    return out.take();
}

std::string print_proxy(const ProxyEnv& proxy) {
    GoObject out;
    out.text("http_proxy", proxy.http_proxy);
    out.text("https_proxy", proxy.https_proxy);
    out.text("ftp_proxy", proxy.ftp_proxy);
    out.text("no_proxy", proxy.no_proxy);
    out.text("all_proxy", proxy.all_proxy);
    return out.take();
}

std::string print_meta(const Meta& meta) {
    GoObject out;
    out.texts("args", meta.args);
    out.texts("env", meta.env);
    out.text("cwd", meta.cwd);
    out.text("user", meta.user);
    if (meta.proxy_env) out.always_raw("proxy_env", print_proxy(*meta.proxy_env));
    list(out, "extraHosts", meta.extra_hosts, print_host);
    out.text("hostname", meta.hostname);
    list(out, "ulimit", meta.ulimit, print_ulimit);
    out.text("cgroupParent", meta.cgroup_parent);
    out.boolean("removeMountStubsRecursive", meta.remove_mount_stubs_recursive);
    list(out, "validExitCodes", meta.valid_exit_codes, [](std::int32_t code) { return std::to_string(code); });
    return out.take();
}

template <class Opt>
std::string print_file_opt(const Opt& opt) {
    GoObject out;
    out.text("ID", opt.id);
    out.number("uid", opt.uid);
    out.number("gid", opt.gid);
    out.number("mode", opt.mode);
    out.boolean("optional", opt.optional);
    return out.take();
}

std::string print_mount(const Mount& mount) {
    GoObject out;
    out.number("input", mount.input);
    out.text("selector", mount.selector);
    out.text("dest", mount.dest);
    out.number("output", mount.output);
    out.boolean("readonly", mount.readonly);
    out.number("mountType", static_cast<std::int64_t>(mount.type));
    if (mount.tmpfs) {
        GoObject opt;
        opt.number("size", mount.tmpfs->size_bytes);
        out.always_raw("TmpfsOpt", opt.take());
    }
    if (mount.cache) {
        GoObject opt;
        opt.text("ID", mount.cache->id);
        opt.number("sharing", static_cast<std::int64_t>(mount.cache->sharing));
        out.always_raw("cacheOpt", opt.take());
    }
    if (mount.secret) out.always_raw("secretOpt", print_file_opt(*mount.secret));
    if (mount.ssh) out.always_raw("SSHOpt", print_file_opt(*mount.ssh));
    out.text("resultID", mount.result_id);
    out.number("contentCache", static_cast<std::int64_t>(mount.content_cache));
    return out.take();
}

std::string print_secret_env(const SecretEnv& env) {
    GoObject out;
    out.text("ID", env.id);
    out.text("name", env.name);
    out.boolean("optional", env.optional);
    return out.take();
}

std::string print_device(const CdiDevice& device) {
    GoObject out;
    out.text("name", device.name);
    out.boolean("optional", device.optional);
    return out.take();
}

// UserOpt has its own printer in BuildKit: {"User":{"byName":…}} or {"User":{"byId":n}}.
std::string print_user(const UserOpt& user) {
    GoObject inner;
    if (const auto* named = std::get_if<NamedUser>(&user)) {
        GoObject by_name;
        by_name.text("name", named->name);
        by_name.number("input", named->input);
        inner.always_raw("byName", by_name.take());
    }
    if (const auto* id = std::get_if<std::uint32_t>(&user)) inner.number("byId", *id);
    GoObject out;
    out.always_raw("User", inner.take());
    return out.take();
}

void owner(GoObject& out, const std::optional<ChownOpt>& chown) {
    if (!chown) return;
    GoObject inner;
    if (chown->user) inner.always_raw("user", print_user(*chown->user));
    if (chown->group) inner.always_raw("group", print_user(*chown->group));
    out.always_raw("owner", inner.take());
}

std::string print_index(std::int64_t index) {
    GoObject out;
    out.number("input", index);
    return out.take();
}

}  // namespace

std::string to_go_json(const ExecOp& exec) {
    GoObject out;
    out.always_raw("meta", print_meta(exec.meta));
    list(out, "mounts", exec.mounts, print_mount);
    out.number("network", static_cast<std::int64_t>(exec.network));
    out.number("security", static_cast<std::int64_t>(exec.security));
    list(out, "secretenv", exec.secret_env, print_secret_env);
    list(out, "cdiDevices", exec.cdi_devices, print_device);
    return out.take();
}

std::string to_go_json(const MergeOp& merge) {
    GoObject out;
    list(out, "inputs", merge.inputs, print_index);
    return out.take();
}

std::string to_go_json(const DiffOp& diff) {
    GoObject out;
    out.always_raw("lower", print_index(diff.lower));
    out.always_raw("upper", print_index(diff.upper));
    return out.take();
}

std::string to_go_json(const BuildOp& build) {
    GoObject out;
    out.number("builder", build.builder);
    if (!build.inputs.empty()) {
        GoObject inputs;
        for (const auto& [name, input] : build.inputs) inputs.always_raw(name, print_index(input));
        out.always_raw("inputs", inputs.take());
    }
    out.text_map("attrs", build.attrs);
    return out.take();
}

std::string to_go_json(const PassthroughOp& pass) {
    GoObject out;
    out.text("id", pass.id);
    list(out, "outputs", pass.outputs, [](std::int64_t output) { return std::to_string(output); });
    return out.take();
}

std::string to_go_json(const CopyAction& copy) {
    GoObject out;
    out.text("src", copy.src);
    out.text("dest", copy.dest);
    owner(out, copy.owner);
    out.number("mode", copy.mode);
    out.boolean("followSymlink", copy.follow_symlink);
    out.boolean("dirCopyContents", copy.dir_copy_contents);
    out.boolean("attemptUnpackDockerCompatibility", copy.attempt_unpack);
    out.boolean("createDestPath", copy.create_dest_path);
    out.boolean("allowWildcard", copy.allow_wildcard);
    out.boolean("allowEmptyWildcard", copy.allow_empty_wildcard);
    out.number("timestamp", copy.timestamp);
    out.texts("include_patterns", copy.include_patterns);
    out.texts("exclude_patterns", copy.exclude_patterns);
    out.boolean("alwaysReplaceExistingDestPaths", copy.always_replace_existing);
    out.text("modeStr", copy.mode_str);
    out.texts("required_paths", copy.required_paths);
    return out.take();
}

std::string to_go_json(const MkFileAction& file) {
    GoObject out;
    out.text("path", file.path);
    out.number("mode", file.mode);
    out.text("data", codec::base64_encode(file.data));
    owner(out, file.owner);
    out.number("timestamp", file.timestamp);
    return out.take();
}

std::string to_go_json(const MkDirAction& dir) {
    GoObject out;
    out.text("path", dir.path);
    out.number("mode", dir.mode);
    out.boolean("makeParents", dir.make_parents);
    owner(out, dir.owner);
    out.number("timestamp", dir.timestamp);
    return out.take();
}

std::string to_go_json(const RmAction& rm) {
    GoObject out;
    out.text("path", rm.path);
    out.boolean("allowNotFound", rm.allow_not_found);
    out.boolean("allowWildcard", rm.allow_wildcard);
    return out.take();
}

std::string to_go_json(const SymlinkAction& link) {
    GoObject out;
    out.text("oldpath", link.old_path);
    out.text("newpath", link.new_path);
    owner(out, link.owner);
    out.number("timestamp", link.timestamp);
    return out.take();
}

}  // namespace cooper::llb
