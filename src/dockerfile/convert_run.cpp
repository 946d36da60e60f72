// RUN: the command, its mounts, secrets, agents, network and limits.
#include "base/text.hpp"
#include "dockerfile/convert_context.hpp"
#include "dockerfile/convert_dispatch.hpp"
#include "dockerfile/convert_text.hpp"

#include <algorithm>

namespace cooper::dockerfile {

namespace {

constexpr const char* kPipes = "/dev/pipes/";

std::string base_of(std::string_view path) {
    while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
    if (path.empty()) return ".";
    if (path == "/") return "/";
    return std::string(path.substr(path.rfind('/') + 1));
}

llb::CacheSharing sharing_of(MountSharing sharing) {
    switch (sharing) {
        case MountSharing::shared:
            return llb::CacheSharing::shared;
        case MountSharing::private_:
            return llb::CacheSharing::private_;
        case MountSharing::locked:
            return llb::CacheSharing::locked;
    }
    return llb::CacheSharing::shared;
}

Result<llb::RunSecret> secret_of(const Mount& mount) {
    llb::RunSecret secret;
    secret.id = mount.source.empty() ? mount.id : mount.source;
    if (secret.id.empty()) {
        if (mount.target.empty()) return bad_input("one of source, target required");
        secret.id = base_of(mount.target);
    }
    if (!mount.target.empty()) secret.target = mount.target;
    if (!mount.env && !secret.target) secret.target = "/run/secrets/" + base_of(secret.id);
    secret.env = mount.env;
    secret.optional = !mount.required;
    if (mount.uid || mount.gid || mount.mode) {
        secret.uid = static_cast<std::uint32_t>(mount.uid.value_or(0));
        secret.gid = static_cast<std::uint32_t>(mount.gid.value_or(0));
        secret.mode = static_cast<std::uint32_t>(mount.mode.value_or(0400));
    }
    return secret;
}

Result<llb::RunSsh> agent_of(const Mount& mount) {
    if (!mount.source.empty()) return bad_input("ssh does not support source");
    llb::RunSsh agent;
    agent.id = mount.id;
    agent.target = mount.target;
    agent.optional = !mount.required;
    if (mount.uid || mount.gid || mount.mode) {
        agent.uid = static_cast<std::uint32_t>(mount.uid.value_or(0));
        agent.gid = static_cast<std::uint32_t>(mount.gid.value_or(0));
        agent.mode = static_cast<std::uint32_t>(mount.mode.value_or(0600));
    }
    return agent;
}

// The directory a fresh cache mount begins with, when it is to have an owner or a mode of its own.
llb::State cache_seed(const Mount& mount, const llb::State& from) {
    llb::FileActions mkdir;
    mkdir.mkdir("/cache", static_cast<std::int32_t>(mount.mode.value_or(0755)), false,
                llb::Owner::ids(static_cast<std::uint32_t>(mount.uid.value_or(0)),
                                static_cast<std::uint32_t>(mount.gid.value_or(0))),
                std::nullopt);
    llb::Constraints beside;
    beside.set_name("[internal] settings cache mount permissions");
    return from.file(std::move(mkdir), std::move(beside));
}

}  // namespace

Result<std::optional<llb::RunMount>> Dispatcher::run_mount(const Mount& mount, StageState* source) {
    const bool from_context = mount.from.empty() && mount.type != MountKind::cache;
    llb::State from = shared_.build_context;
    if (!from_context && mount.type != MountKind::tmpfs) {
        if (source == nullptr) return fail(Code::internal, Blame::cooper, "mount without a source stage");
        if (!mount.from.empty() && !source->dispatched) {
            return bad_input("cannot mount from stage {} to {}, stage needs to be defined before current command",
                             quoted(mount.from), quoted(mount.target));
        }
        from = mount.from.empty() ? llb::scratch() : source->state;
    }
    llb::RunMount out;
    if (mount.type == MountKind::tmpfs) {
        from = llb::scratch();
        out.tmpfs_size_bytes = mount.size_bytes;
    }
    out.readonly = mount.readonly;
    if (!mount.readonly && mount.type == MountKind::bind) out.no_output = true;
    if (mount.type == MountKind::cache) {
        const std::string id = mount.id.empty() ? llb::clean_path(mount.target) : mount.id;
        out.cache = llb::CacheOpt{shared_.options.cache_mount_namespace + "/" + id, sharing_of(mount.sharing)};
    }
    out.target = mount.target;
    if (!llb::clean_path(mount.target).starts_with('/')) {
        out.target = llb::join_path("/", llb::join_path(stage_.state.dir(), mount.target));
    }
    if (out.target == "/") return bad_input("invalid mount target {}", quoted(out.target));
    const std::string selector = llb::join_path("/", mount.source);
    if (selector != "/") {
        out.selector = selector;
    } else if (mount.uid || mount.gid || mount.mode) {
        from = cache_seed(mount, from);
        out.selector = "/cache";
    }
    out.source = from.output();
    if (from_context) {
        if (mount.type != MountKind::tmpfs) stage_.context_paths.insert(selector);
    } else if (source != nullptr) {
        source->paths->insert(selector);
    }
    return out;
}

// A here-document that is the whole command: a script of its own when it says so, else text for the
// shell. Anything more complicated is put together again and left to the shell.
Result<std::vector<std::string>> Dispatcher::heredoc_words(const RunCommand& run, llb::RunOptions& options,
                                                           std::string& shown) {
    if (run.words.size() != 1 || !run.prepend_shell) {
        return bad_input("parsing produced an invalid run command: {}", go_plain_list(run.words));
    }
    const Heredoc& first = run.heredocs.front();
    if (!is_whole_heredoc(run.words.front())) {
        std::string text = run.words.front();
        for (const Heredoc& doc : run.heredocs) text += "\n" + doc.data + doc.name;
        return std::vector<std::string>{std::move(text)};
    }
    shown += " (" + summarize_heredoc(first.data) + ")";
    const std::string body = first.chomp ? chomp_heredoc(first.data) : first.data;
    if (!body.starts_with("#!") || stage_.image.platform.os == "windows") return std::vector<std::string>{body};
    llb::FileActions script;
    script.mkfile(first.name, 0755, body, std::nullopt, std::nullopt);
    llb::Constraints beside;
    beside.platform = to_llb_platform(platform());
    beside.set_name(internal_name("preparing inline document"));
    llb::RunMount mount;
    mount.target = kPipes;
    mount.source = llb::scratch().file(std::move(script), std::move(beside)).output();
    mount.selector = "/";
    mount.readonly = true;
    options.mounts.push_back(std::move(mount));
    return std::vector<std::string>{llb::join_path(kPipes, first.name)};
}

Result<> Dispatcher::dispatch(RunCommand& run) {
    const std::string original = command_->instruction.original;
    // The command may read anything.
    stage_.paths->insert("/");
    llb::RunOptions options;
    std::string shown = original;
    std::vector<std::string> words = run.words;
    if (!run.heredocs.empty()) words = TRY(heredoc_words(run, options, shown));
    if (run.prepend_shell) words = with_shell(std::move(words));

    llb::EnvList masked = stage_.state.env();
    const std::vector<Mount> mounts = TRY(expand_mounts(run));
    for (std::size_t i = 0; i < mounts.size(); ++i) {
        const Mount& mount = mounts[i];
        if (mount.type == MountKind::secret) {
            if (mount.env) masked.set(*mount.env, "****");
            options.secrets.push_back(TRY(secret_of(mount)));
            OutlineScope::add_mount(stage_.outline.secrets, options.secrets.back().id, mount.required,
                                    command_->instruction.location);
        } else if (mount.type == MountKind::ssh) {
            options.ssh.push_back(TRY(agent_of(mount)));
            OutlineScope::add_mount(stage_.outline.ssh, mount.id.empty() ? "default" : mount.id, mount.required,
                                    command_->instruction.location);
        } else {
            StageState* source = i < command_->sources.size() ? command_->sources[i] : nullptr;
            auto out = TRY(run_mount(mount, source));
            if (out) options.mounts.push_back(std::move(*out));
        }
    }
    if (run.security == RunSecurity::insecure) options.security = llb::SecurityMode::insecure;
    if (run.network == RunNetwork::none) options.network = llb::NetMode::none;
    if (run.network == RunNetwork::host) options.network = llb::NetMode::host;
    const ConvertOptions& build = shared_.options;
    options.args = words;
    options.proxy = shared_.proxy;
    options.ulimits = build.ulimits;
    options.devices = build.devices;
    for (const RunDevice& device : run.devices)
        options.devices.push_back({.name = device.name, .optional = !device.required});
    options.extra_hosts = build.extra_hosts;
    options.cgroup_parent = build.cgroup_parent;
    if (build.shm_size_bytes > 0) {
        llb::RunMount shm;
        shm.target = "/dev/shm";
        shm.tmpfs_size_bytes = build.shm_size_bytes;
        options.mounts.push_back(std::move(shm));
    }
    options.constraints =
        constraints(named_step(uppercase_command(expand_for_display(shown, masked, Unset::verbatim))));
    options.constraints.metadata.description["com.docker.dockerfile.v1.command"] = original;
    options.constraints.metadata.linux_resources = build.linux_resources;
    const std::string history = "RUN " + run_history(words) + " # buildkit";
    stage_.state = stage_.state.run(std::move(options));
    commit(history, true);
    return {};
}

}  // namespace cooper::dockerfile
