// The named values of operations: what of them is in a key, under the names that people know.
#include "base/text.hpp"
#include "codec/sha256.hpp"
#include "why/ingredients.hpp"

#include <fmt/format.h>

namespace cooper::why {

namespace {

class Values {
public:
    explicit Values(const Redactor& redactor) : redactor_(redactor) {}
    void add(std::string name, std::string_view value) {
        std::string kept = redactor_.text(value);
        out.push_back({std::move(name), std::move(kept)});
    }
    void add_named(std::string prefix, std::string_view name, std::string_view value) {
        out.push_back({prefix + std::string(name), redactor_.value(name, value)});
    }
    void add_some(std::string name, std::string_view value) {
        if (!value.empty()) add(std::move(name), value);
    }
    std::vector<NamedValue> out;

private:
    const Redactor& redactor_;
};

std::string platform_text(const llb::Platform& platform) {
    std::string text = platform.os + "/" + platform.architecture;
    if (!platform.variant.empty()) text += "/" + platform.variant;
    return text;
}

std::string mount_text(const llb::Mount& mount) {
    std::vector<std::string> parts;
    switch (mount.type) {
        case llb::MountType::bind:
            parts.emplace_back("type=bind");
            if (!mount.selector.empty() && mount.selector != "/") parts.push_back("source=" + mount.selector);
            break;
        case llb::MountType::cache:
            parts.emplace_back("type=cache");
            if (mount.cache) {
                parts.push_back("id=" + mount.cache->id);
                parts.push_back(fmt::format("sharing={}", static_cast<int>(mount.cache->sharing)));
            }
            break;
        case llb::MountType::tmpfs:
            parts.emplace_back("type=tmpfs");
            if (mount.tmpfs) parts.push_back(fmt::format("size={}", mount.tmpfs->size_bytes));
            break;
        case llb::MountType::secret:
            parts.emplace_back("type=secret");
            if (mount.secret) {
                parts.push_back(fmt::format("id={},uid={},gid={},mode={:o}", mount.secret->id, mount.secret->uid,
                                            mount.secret->gid, mount.secret->mode));
            }
            break;
        case llb::MountType::ssh:
            parts.emplace_back("type=ssh");
            if (mount.ssh) {
                parts.push_back(fmt::format("id={},uid={},gid={},mode={:o}", mount.ssh->id, mount.ssh->uid,
                                            mount.ssh->gid, mount.ssh->mode));
            }
            break;
    }
    if (mount.readonly) parts.emplace_back("readonly");
    return join(parts, ",");
}

void add_exec(const llb::ExecOp& exec, Values& values) {
    values.add("command", join(exec.meta.args, " "));
    for (const auto& one : exec.meta.env) {
        const auto [name, value] = cut(one, '=');
        values.add_named("env ", name, value.value_or(""));
    }
    values.add_some("user", exec.meta.user);
    values.add_some("directory", exec.meta.cwd);
    values.add_some("host name", exec.meta.hostname);
    values.add_some("cgroup parent", exec.meta.cgroup_parent);
    for (const auto& host : exec.meta.extra_hosts) values.add("added host " + host.host, "yes");
    for (const auto& limit : exec.meta.ulimit)
        values.add("ulimit " + limit.name, fmt::format("{}:{}", limit.soft, limit.hard));
    for (const auto code : exec.meta.valid_exit_codes) values.add(fmt::format("exit status {}", code), "allowed");
    if (exec.network == llb::NetMode::host) values.add("network", "host");
    if (exec.network == llb::NetMode::none) values.add("network", "none");
    if (exec.security == llb::SecurityMode::insecure) values.add("security", "insecure");
    for (const auto& mount : exec.mounts) {
        if (mount.dest == llb::kRootMount && mount.type == llb::MountType::bind && !mount.readonly) continue;
        values.add("mount " + mount.dest, mount_text(mount));
    }
    for (const auto& secret : exec.secret_env)
        values.add("secret in " + secret.name, secret.id + (secret.optional ? ",optional" : ""));
    for (const auto& device : exec.cdi_devices)
        values.add("device " + device.name, device.optional ? "optional" : "required");
}

std::string owner_text(const std::optional<llb::ChownOpt>& owner) {
    if (!owner) return {};
    const auto one = [](const std::optional<llb::UserOpt>& user) -> std::string {
        if (!user) return {};
        if (const auto* id = std::get_if<std::uint32_t>(&*user)) return std::to_string(*id);
        if (const auto* named = std::get_if<llb::NamedUser>(&*user)) return named->name;
        return {};
    };
    return one(owner->user) + ":" + one(owner->group);
}

void add_time(std::int64_t timestamp, const std::string& prefix, Values& values) {
    if (timestamp >= 0) values.add(prefix + "SOURCE_DATE_EPOCH", std::to_string(timestamp / 1'000'000'000));
}

void add_action(const llb::FileAction& action, const std::string& prefix, Values& values) {
    if (const auto* copy = std::get_if<llb::CopyAction>(&action.action)) {
        values.add(prefix + "source", copy->src);
        values.add(prefix + "destination", copy->dest);
        values.add_some(prefix + "owner", owner_text(copy->owner));
        if (copy->mode >= 0) values.add(prefix + "mode", fmt::format("{:04o}", copy->mode));
        values.add_some(prefix + "mode", copy->mode_str);
        values.add_some(prefix + "included", join(copy->include_patterns, " "));
        values.add_some(prefix + "excluded", join(copy->exclude_patterns, " "));
        values.add_some(prefix + "required", join(copy->required_paths, " "));
        values.add(prefix + "ways",
                   fmt::format("{:d}{:d}{:d}{:d}{:d}{:d}{:d}", copy->follow_symlink, copy->dir_copy_contents,
                               copy->attempt_unpack, copy->create_dest_path, copy->allow_wildcard,
                               copy->allow_empty_wildcard, copy->always_replace_existing));
        add_time(copy->timestamp, prefix, values);
    } else if (const auto* file = std::get_if<llb::MkFileAction>(&action.action)) {
        values.add(prefix + "file", file->path);
        values.add(prefix + "mode", fmt::format("{:04o}", file->mode));
        values.add(prefix + "content", codec::sha256_of(file->data).to_string());
        values.add_some(prefix + "owner", owner_text(file->owner));
        add_time(file->timestamp, prefix, values);
    } else if (const auto* dir = std::get_if<llb::MkDirAction>(&action.action)) {
        values.add(prefix + "directory", dir->path);
        values.add(prefix + "mode", fmt::format("{:04o}", dir->mode));
        values.add_some(prefix + "owner", owner_text(dir->owner));
        add_time(dir->timestamp, prefix, values);
    } else if (const auto* rm = std::get_if<llb::RmAction>(&action.action)) {
        values.add(prefix + "removed", rm->path);
    } else if (const auto* link = std::get_if<llb::SymlinkAction>(&action.action)) {
        values.add(prefix + "link", link->new_path + " → " + link->old_path);
        values.add_some(prefix + "owner", owner_text(link->owner));
        add_time(link->timestamp, prefix, values);
    }
}

}  // namespace

std::string kind_of(const llb::Op& op) {
    if (std::holds_alternative<llb::ExecOp>(op.body)) return "exec";
    if (std::holds_alternative<llb::FileOp>(op.body)) return "file";
    if (std::holds_alternative<llb::MergeOp>(op.body)) return "merge";
    if (std::holds_alternative<llb::DiffOp>(op.body)) return "diff";
    if (std::holds_alternative<llb::PassthroughOp>(op.body)) return "passthrough";
    if (const auto* source = std::get_if<llb::SourceOp>(&op.body)) {
        if (source->identifier.starts_with("local://")) return "local";
        return image_of(op) ? "image" : "source";
    }
    return "other";
}

std::optional<ImageName> image_of(const llb::Op& op) {
    const auto* source = std::get_if<llb::SourceOp>(&op.body);
    if (source == nullptr) return std::nullopt;
    std::string_view rest = source->identifier;
    if (rest.starts_with("docker-image://")) {
        rest.remove_prefix(15);
    } else if (rest.starts_with("oci-layout://")) {
        rest.remove_prefix(13);
    } else {
        return std::nullopt;
    }
    const std::size_t at = rest.find('@');
    if (at == std::string_view::npos) return ImageName{std::string(rest), ""};
    return ImageName{std::string(rest.substr(0, at)), std::string(rest.substr(at + 1))};
}

std::vector<NamedValue> values_of(const llb::Op& op, const llb::Platform& platform, const Redactor& redactor) {
    Values values(redactor);
    if (const auto* exec = std::get_if<llb::ExecOp>(&op.body)) {
        values.add("platform", platform_text(platform));
        add_exec(*exec, values);
    } else if (const auto* file = std::get_if<llb::FileOp>(&op.body)) {
        for (std::size_t i = 0; i < file->actions.size(); ++i) {
            add_action(file->actions[i], file->actions.size() == 1 ? "" : fmt::format("{}. ", i + 1), values);
        }
    } else if (const auto* source = std::get_if<llb::SourceOp>(&op.body)) {
        if (const auto image = image_of(op)) {
            values.add("platform", platform_text(platform));
            values.add("image", image->name);
            values.add_some("digest", image->digest);
        } else {
            values.add("address", source->identifier);
        }
        for (const auto& [name, value] : source->attrs) {
            // How it is asked for, not what it is.
            if (name.ends_with(".session") || name.ends_with("resolvemode") || name.ends_with(".store")) continue;
            values.add_named("", name, value);
        }
    }
    return std::move(values.out);
}

}  // namespace cooper::why
