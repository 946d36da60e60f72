// `cooper run`: a container from an image of the store (pulled when it is not there) on the caller's
// terminal. Its writable layer is thrown away at the end.
#include "base/text.hpp"
#include "engine/local_engine.hpp"
#include "engine/recorder.hpp"
#include "run/interactive.hpp"
#include "sys/namespaces.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <sys/stat.h>
#include <unistd.h>

namespace cooper::engine {

namespace {

Result<std::uint16_t> parse_port(std::string_view text) {
    const auto number = parse_int(text);
    if (!number || *number < 0 || *number > 65535) return bad_input("invalid port {}", quoted(text));
    return static_cast<std::uint16_t>(*number);
}

// [[IP:]HOST:]CONTAINER[/proto]
Result<run::PublishedPort> parse_publish(const std::string& text) {
    const auto [ports, protocol] = cut(text, '/');
    run::PublishedPort port;
    if (protocol && *protocol != "tcp" && *protocol != "udp")
        return bad_input("invalid protocol in {}: want tcp or udp", quoted(text));
    if (protocol && *protocol == "udp") port.protocol = run::PublishedPort::Protocol::udp;
    std::vector<std::string> parts = split(ports, ':');
    if (ports.starts_with('[')) {
        const std::size_t end = ports.find("]:");
        if (end == std::string_view::npos) return bad_input("invalid address in {}", quoted(text));
        parts = split(ports.substr(end + 2), ':');
        parts.insert(parts.begin(), std::string(ports.substr(1, end - 1)));
    }
    if (parts.size() > 3) return bad_input("invalid --publish {}: want [IP:]HOST:CONTAINER", quoted(text));
    port.container_port = TRY(parse_port(parts.back()));
    if (port.container_port == 0) return bad_input("invalid --publish {}: container port 0", quoted(text));
    if (parts.size() > 1 && !parts[parts.size() - 2].empty()) port.host_port = TRY(parse_port(parts[parts.size() - 2]));
    if (parts.size() == 3) port.host_address = parts.front();
    return port;
}

Result<run::BindMount> parse_volume(const std::string& text) {
    const auto parts = split(text, ':');
    if (parts.size() < 2 || parts.size() > 3 || parts[0].empty() || !parts[1].starts_with('/')) {
        return bad_input("invalid --volume {}: want HOST:CONTAINER[:ro]", quoted(text));
    }
    std::array<char, 4096> real{};
    struct stat st{};
    if (::stat(parts[0].c_str(), &st) != 0) return fail_errno(errno, "volume " + parts[0]);
    if (::realpath(parts[0].c_str(), real.data()) == nullptr) return fail_errno(errno, "volume " + parts[0]);
    run::BindMount bind;
    bind.tree = run::HostTree{real.data()};
    bind.target = parts[1];
    bind.access = run::Access::read_write;
    if (parts.size() == 3) {
        if (parts[2] != "ro" && parts[2] != "rw")
            return bad_input("invalid --volume {}: want ro or rw at its end", quoted(text));
        if (parts[2] == "ro") bind.access = run::Access::read_only;
    }
    return bind;
}

void set_env(std::vector<std::string>& env, const std::string& entry) {
    const auto key = cut(entry, '=').first;
    const auto same = [&](const std::string& other) { return cut(other, '=').first == key; };
    std::erase_if(env, same);
    env.push_back(entry);
}

}  // namespace

Result<int> LocalEngine::run(const RunRequest& request, ProgressSink& progress, Stop stop) {
    Activity activity(progress, clock_, "prepare " + request.image);
    const auto prepare = [&]() -> Result<store::ImageRecord> {
        auto found = find_image(request.image);
        store::ImageRecord record;
        if (found && !request.pull) {
            record = *found;
        } else {
            if (!found && found.error().code() != Code::not_found) return found.error();
            record = TRY(ensure_image(request.image, std::nullopt,
                                      request.pull ? source::ImageResolve::pull : source::ImageResolve::standard,
                                      activity.progress(), stop));
        }
        TRY(store_->hold(record.chain));
        TRY(images_.materialize(record.chain, &activity.progress(), stop));
        return record;
    };
    auto prepared = prepare();
    if (!prepared) {
        activity.fail(prepared.error());
        return prepared.error();
    }
    activity.done();
    const store::ImageRecord record = *prepared;
    const oci::ImageConfig config = TRY(config_of(record));

    run::ProcessSpec spec;
    std::vector<std::string> entrypoint = config.config.entrypoint;
    std::vector<std::string> command = request.command;
    if (request.entrypoint) {
        entrypoint.clear();
        if (!request.entrypoint->empty()) entrypoint.push_back(*request.entrypoint);
    } else if (command.empty()) {
        command = config.config.cmd;
    }
    spec.args = entrypoint;
    spec.args.insert(spec.args.end(), command.begin(), command.end());
    if (spec.args.empty())
        return bad_input("{} says no command to run", request.image).with_hint("write it after the image's name");
    spec.env = config.config.env;
    for (const auto& entry : request.env) {
        if (entry.find('=') != std::string::npos) {
            set_env(spec.env, entry);
        } else if (const char* value = std::getenv(entry.c_str()); value != nullptr) {
            set_env(spec.env, entry + "=" + value);
        }
    }
    if (request.tty &&
        std::none_of(spec.env.begin(), spec.env.end(), [](const auto& e) { return e.starts_with("TERM="); })) {
        spec.env.emplace_back("TERM=xterm");
    }
    spec.user = request.user.empty() ? config.config.user : request.user;
    spec.cwd = !request.workdir.empty()            ? request.workdir
               : config.config.working_dir.empty() ? "/"
                                                   : config.config.working_dir;
    if (!spec.cwd.starts_with('/')) spec.cwd = "/" + spec.cwd;
    spec.hostname = request.hostname.empty() ? record.config.short_hex() : request.hostname;
    spec.network = request.network == "host"   ? run::NetworkMode::host
                   : request.network == "none" ? run::NetworkMode::none
                                               : run::NetworkMode::isolated;
    for (const auto& [name, address] : request.add_hosts) spec.extra_hosts.push_back({name, address});
    for (const auto& port : request.publish) spec.ports.push_back(TRY(parse_publish(port)));
    for (const auto& volume : request.volumes) spec.mounts.emplace_back(TRY(parse_volume(volume)));
    spec.architecture = config.platform.architecture;
    spec.tty = request.tty;
    spec.stdin_mode = request.interactive ? run::StdinMode::forward : run::StdinMode::empty;
    spec.root_access = request.read_only ? run::Access::read_only : run::Access::read_write;

    const store::LayerDraft writable = TRY(store_->begin_layer());
    sys::OverlayPlan root;
    for (std::size_t i = 0; i < record.chain.layers.size(); ++i) {
        const auto& layers = record.chain.layers;
        const bool again =
            std::find(layers.begin() + static_cast<std::ptrdiff_t>(i) + 1, layers.end(), layers[i]) != layers.end();
        if (!again) root.lower.push_back(store_->layer_path(layers[i]));
    }
    root.upper = writable.host_path();
    root.work = writable.work_path();
    if (sys::in_user_namespace()) root.options = {"userxattr"};
    spec.root = std::move(root);
    const auto watch = store_->space().watch("the container", {writable.host_path()}, stop);
    const Stop& ends = watch == nullptr ? stop : watch->stop();
    run::InteractiveOptions options;
    if (watch != nullptr) {
        spec.disk_watched = true;
        options.pausable = [&](run::Streams::Control* control) {
            if (control == nullptr) return watch->set_pause({});
            watch->set_pause([control](bool on) { on ? control->pause() : control->resume(); });
        };
    }
    const auto exit = run::run_interactive(*TRY(executor()), spec, options, ends);
    if (watch != nullptr && watch->refused()) return *watch->refused();
    if (!exit) return exit.error();
    return exit->status.code;
}

}  // namespace cooper::engine
