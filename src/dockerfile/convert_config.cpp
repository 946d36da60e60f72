// Instructions that change the image's configuration: ENV, LABEL, WORKDIR, USER, CMD …
#include "base/text.hpp"
#include "dockerfile/convert_dispatch.hpp"
#include "dockerfile/convert_text.hpp"
#include "dockerfile/convert_values.hpp"

#include <algorithm>
#include <iterator>

namespace cooper::dockerfile {

namespace {

void set_env(std::vector<std::string>& env, const std::string& key, const std::string& value) {
    for (std::string& entry : env) {
        if (cut(entry, '=').first == key) {
            entry = key + "=" + value;
            return;
        }
    }
    env.push_back(key + "=" + value);
}

bool is_scan_switch(std::string_view key) {
    return key == "BUILDKIT_SBOM_SCAN_CONTEXT" || key == "BUILDKIT_SBOM_SCAN_STAGE";
}

}  // namespace

Result<> Dispatcher::dispatch(EnvCommand& env) {
    std::string message = "ENV";
    for (KeyValue& pair : env.pairs) {
        TRY(expand_in_place(pair.key));
        TRY(expand_in_place(pair.value));
    }
    for (const KeyValue& pair : env.pairs) {
        message += " " + pair.key + "=" + pair.value;
        stage_.state.add_env(pair.key, pair.value);
        set_env(stage_.image.config.env, pair.key, pair.value);
        TRY(check_variables());
    }
    commit(std::move(message), false);
    return {};
}

Result<> Dispatcher::dispatch(LabelCommand& label) {
    std::string message = "LABEL";
    for (KeyValue& pair : label.pairs) {
        TRY(expand_in_place(pair.key));
        TRY(expand_in_place(pair.value));
    }
    for (const KeyValue& pair : label.pairs) {
        stage_.image.config.labels[pair.key] = pair.value;
        message += " " + pair.key + "=" + pair.value;
    }
    commit(std::move(message), false);
    return {};
}

Result<> Dispatcher::dispatch(MaintainerCommand& maintainer) {
    stage_.image.author = maintainer.name;
    commit("MAINTAINER " + maintainer.name, false);
    return {};
}

// The configuration keeps an absolute path as it is written, slashes and dots included.
void Dispatcher::set_workdir(std::string_view path) {
    std::string& current = stage_.image.config.working_dir;
    if (current.empty()) current = "/";
    stage_.state.set_dir(llb::normalize_path(current, path.empty() ? "." : path, llb::TrailingSlash::drop));
    if (path.starts_with('/')) {
        current = path;
    } else if (!path.empty()) {
        current = stage_.state.dir();
    }
}

Result<> Dispatcher::dispatch(WorkdirCommand& workdir) {
    const std::string text = command_->instruction.original;
    TRY(expand_in_place(workdir.path));
    // Only the first of a chain of stages: the others stand on it.
    if (!stage_.workdir_set) lint_workdir(shared_.linter, command_->instruction, workdir.path);
    stage_.workdir_set = true;
    set_workdir(workdir.path);
    const std::string dir = stage_.state.dir();
    const bool with_layer = dir != "/";
    if (with_layer) {
        std::optional<llb::Owner> owner;
        if (!stage_.image.config.user.empty()) owner = llb::Owner::parse(stage_.image.config.user);
        llb::FileActions mkdir;
        mkdir.mkdir(dir, 0755, true, std::move(owner), epoch_ns());
        const std::string shown = uppercase_command(expand_for_display(text, stage_.state.env(), Unset::empty));
        llb::Constraints beside = constraints(named_step(shown));
        beside.platform = to_llb_platform(platform());
        stage_.state = stage_.state.file(std::move(mkdir), std::move(beside));
    }
    commit("WORKDIR " + stage_.image.config.working_dir, with_layer);
    return {};
}

Result<> Dispatcher::dispatch(UserCommand& user) {
    TRY(expand_in_place(user.user));
    stage_.state.set_user(user.user);
    stage_.image.config.user = user.user;
    commit("USER " + user.user, false);
    return {};
}

Result<> Dispatcher::dispatch(CmdCommand& cmd) {
    std::vector<std::string> args = cmd.prepend_shell ? with_shell(cmd.words) : cmd.words;
    commit("CMD " + go_quoted_list(args), false);
    stage_.image.config.cmd = std::move(args);
    stage_.image.config.args_escaped = true;
    stage_.cmd_set = true;
    return {};
}

Result<> Dispatcher::dispatch(EntrypointCommand& entrypoint) {
    std::vector<std::string> args = entrypoint.prepend_shell ? with_shell(entrypoint.words) : entrypoint.words;
    if (!stage_.cmd_set) stage_.image.config.cmd.clear();
    commit("ENTRYPOINT " + go_quoted_list(args), false);
    stage_.image.config.entrypoint = std::move(args);
    return {};
}

Result<> Dispatcher::dispatch(HealthcheckCommand& healthcheck) {
    stage_.image.config.healthcheck = healthcheck.check;
    commit("HEALTHCHECK " + go_healthcheck(healthcheck.check), false);
    return {};
}

Result<> Dispatcher::dispatch(ExposeCommand& expose) {
    std::vector<std::string> specs;
    for (const std::string& port : expose.ports) {
        std::vector<std::string> words = TRY(expand_words(port));
        std::ranges::move(words, std::back_inserter(specs));
    }
    std::vector<std::string> all;
    for (const std::string& spec : specs) {
        const ExposedPorts parsed = TRY(parse_port(spec));
        if (parsed.casing) lint_port_protocol(shared_.linter, command_->instruction, spec);
        if (parsed.has_host) lint_port_host(shared_.linter, command_->instruction, spec);
        for (const std::string& port : parsed.ports) shared_.budget.charge(2 * port.size());
        TRY(shared_.budget.check());
        for (const std::string& port : parsed.ports) {
            stage_.image.config.exposed_ports.insert(port);
            all.push_back(port);
        }
    }
    commit("EXPOSE " + go_plain_list(all), false);
    return {};
}

Result<> Dispatcher::dispatch(VolumeCommand& volume) {
    for (std::string& path : volume.paths) TRY(expand_in_place(path));
    for (const std::string& path : volume.paths) {
        if (path.empty()) return bad_input("VOLUME specified can not be an empty string");
        stage_.image.config.volumes.insert(path);
    }
    commit("VOLUME " + go_plain_list(volume.paths), false);
    return {};
}

Result<> Dispatcher::dispatch(StopsignalCommand& signal) {
    TRY(expand_in_place(signal.signal));
    TRY(check_signal(signal.signal));
    stage_.image.config.stop_signal = signal.signal;
    commit("STOPSIGNAL " + signal.signal, false);
    return {};
}

Result<> Dispatcher::dispatch(ShellCommand& shell) {
    stage_.image.config.shell = shell.words;
    commit("SHELL " + go_plain_list(shell.words), false);
    return {};
}

// One after the other, so that each sees the one before (unlike ENV).
Result<> Dispatcher::dispatch(ArgCommand& arg) {
    std::string message = "ARG";
    for (const auto& given : arg.args) {
        BuildArg value{given.key, given.value};
        bool from_global = false;
        if (const auto asked = shared_.options.build_args.find(given.key); asked != shared_.options.build_args.end()) {
            value.value = asked->second;
        } else if (given.value) {
            value.value = TRY(expand(*given.value));
        } else if (const auto global = shared_.global_args.get(given.key)) {
            value.value = std::string(*global);
            from_global = true;
        }
        stage_.outline.used.insert(given.key);
        if (!from_global) {
            stage_.outline.add_arg(given, value.value.value_or(""), command_->instruction.location, {});
        }
        if (value.value && !is_scan_switch(value.key)) stage_.state.add_env(value.key, *value.value);
        message += " " + value.key + (value.value ? "=" + *value.value : "");
        stage_.build_args.push_back(std::move(value));
        TRY(check_variables());
    }
    commit(std::move(message), false);
    return {};
}

Result<> Dispatcher::dispatch(OnbuildCommand& onbuild) {
    stage_.image.config.on_build.push_back(onbuild.expression);
    return {};
}

}  // namespace cooper::dockerfile
