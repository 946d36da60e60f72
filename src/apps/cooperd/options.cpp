#include "apps/cooperd/options.hpp"

#include "apps/cooperd/file_options.hpp"
#include "base/text.hpp"
#include "sys/fd.hpp"

#include <CLI/CLI.hpp>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <grp.h>
#include <unistd.h>

namespace cooper::cooperd {

namespace {

constexpr std::size_t kMaxFile = 4 << 20;

struct Flags {
    std::vector<std::string> addresses, entitlements, labels, platforms;
    std::string config, root, group, debug_address, otel_socket, log_format, cdi_disabled, cert, key, ca, binary;
    std::string oci_worker, snapshotter, proxy_snapshotter, net, cni_config, cni_binary, apparmor, containerd;
    std::string secret_leaks = "warn", keep_storage, reserved, max_used, min_free, gc;
    std::vector<std::string> cdi_dirs;
    std::int64_t cni_pool = 0, parallelism = 0;
    bool debug = false, trace = false, version = false, save_cache_debug = false;
    bool rootless = false, oci_rootless = false, no_process_sandbox = false, selinux = false;
};

// Where things are when nobody says so.
struct Defaults {
    std::string config, root, address;
};

std::string environment(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
}

Defaults defaults_for(const std::string& program) {
    const bool as_buildkitd = program.substr(program.rfind('/') + 1) == "buildkitd";
    const std::string name = as_buildkitd ? "buildkit" : "cooper";
    const std::string socket = as_buildkitd ? "buildkitd.sock" : "cooperd.sock";
    const std::string file = as_buildkitd ? "buildkitd.toml" : "cooperd.toml";
    if (::geteuid() == 0 && environment("USER_NAMESPACE_ROOT").empty()) {
        return {"/etc/" + name + "/" + file, "/var/lib/" + name, "unix:///run/" + name + "/" + socket};
    }
    const std::string home = environment("HOME");
    const std::string config =
        environment("XDG_CONFIG_HOME").empty() ? home + "/.config" : environment("XDG_CONFIG_HOME");
    const std::string data =
        environment("XDG_DATA_HOME").empty() ? home + "/.local/share" : environment("XDG_DATA_HOME");
    const std::string run = environment("XDG_RUNTIME_DIR").empty() ? fmt::format("/run/user/{}", ::geteuid())
                                                                   : environment("XDG_RUNTIME_DIR");
    return {config + "/" + name + "/" + file, data + "/" + name, "unix://" + run + "/" + name + "/" + socket};
}

void declare(CLI::App& app, Flags& flags, const Defaults& defaults) {
    app.option_defaults()->group("Serving");
    app.add_option("--addr", flags.addresses,
                   fmt::format("Listen here; repeatable: unix://PATH, tcp://HOST:PORT, fd://[N] (default {})",
                               defaults.address))
        ->type_name("ADDRESS")
        ->allow_extra_args(false);
    app.add_option("--group", flags.group, "Group, by name or number, of unix sockets (mode 0660)")->type_name("GROUP");
    app.add_option("--tlscert", flags.cert, "Certificate to show to clients of tcp://")->type_name("FILE");
    app.add_option("--tlskey", flags.key, "Its key")->type_name("FILE");
    app.add_option("--tlscacert", flags.ca, "Clients must have a certificate of this authority")->type_name("FILE");
    app.add_option("--debugaddr", flags.debug_address, "Serve /metrics and /debug over HTTP: HOST:PORT or unix://PATH")
        ->type_name("ADDRESS");
    app.option_defaults()->group("State");
    app.add_option("--root", flags.root, fmt::format("State directory (default {})", defaults.root))->type_name("DIR");
    app.add_option("--config", flags.config,
                   fmt::format("buildkitd.toml (default {}, when it is there)", defaults.config))
        ->type_name("FILE");
    app.add_option("--oci-worker-gc", flags.gc, "Collect garbage (default true)")
        ->type_name("BOOL")
        ->expected(0, 1)
        ->default_str("true");
    app.add_option("--oci-worker-gc-keepstorage", flags.keep_storage, "Reserved[,Free[,Maximum]] in MB")
        ->type_name("MB");
    app.add_option("--oci-worker-gc-reserved-space", flags.reserved, "Keep this much in any case: 10GB, 10%")
        ->type_name("SIZE");
    app.add_option("--oci-worker-gc-max-used-space", flags.max_used, "Use no more than this")->type_name("SIZE");
    app.add_option("--oci-worker-gc-min-free-space", flags.min_free, "Leave this much of the disk free")
        ->type_name("SIZE");
    app.option_defaults()->group("Builds");
    app.add_option("--allow-insecure-entitlement", flags.entitlements,
                   "Builds may ask for it: network.host, security.insecure")
        ->type_name("NAME")
        ->allow_extra_args(false);
    app.add_option("--secret-leaks", flags.secret_leaks,
                   "A step leaves the value of a secret in its result: fail, warn or allow (default warn)")
        ->type_name("WHAT");
    app.add_option("--oci-worker-labels", flags.labels, "Labels of the worker: KEY=VALUE")
        ->type_name("LABEL")
        ->allow_extra_args(false);
    app.add_option("--oci-worker-platform", flags.platforms, "Platforms it says it builds for (default: found)")
        ->type_name("PLATFORM")
        ->allow_extra_args(false);
    app.add_option(
           "--oci-worker-net", flags.net,
           "Network of steps: auto, bridge, or host, the daemon's own (auto takes it where a user has no /dev/net/tun)")
        ->type_name("NAME");
    app.add_flag("--oci-worker-no-process-sandbox", flags.no_process_sandbox,
                 "Steps share the daemon's processes: for a user's daemon in a container that covers parts of /proc");
    app.add_option("--oci-worker-binary", flags.binary, "OCI runtime (default: crun or runc on PATH)")
        ->type_name("PROGRAM");
    app.add_option("--oci-max-parallelism", flags.parallelism, "Steps that run at once (default: one for each core)")
        ->type_name("N");
    app.option_defaults()->group("Log");
    app.add_flag("--debug", flags.debug, "Say what happens inside");
    app.add_flag("--trace", flags.trace, "As --debug");
    app.add_option("--log-format", flags.log_format, "text")->type_name("FORMAT");
    app.add_flag("-v,--version", flags.version,
                 "Print the name, the package, the version of BuildKit's API and cooper's");
    // Known, so that what asks for nothing passes and the rest is refused by name. Not in the help.
    app.option_defaults()->group("");
    const auto take_bool = [&](const char* name, std::string& out) {
        app.add_option(name, out)->expected(0, 1)->default_str("true");
    };
    take_bool("--oci-worker", flags.oci_worker);
    take_bool("--containerd-worker", flags.containerd);
    take_bool("--cdi-disabled", flags.cdi_disabled);
    app.add_option("--cdi-spec-dir", flags.cdi_dirs);
    app.add_option("--otel-socket-path", flags.otel_socket);
    app.add_flag("--save-cache-debug", flags.save_cache_debug);
    app.add_flag("--rootless", flags.rootless);
    app.add_flag("--oci-worker-rootless", flags.oci_rootless);
    app.add_flag("--oci-worker-selinux", flags.selinux);
    app.add_option("--oci-worker-snapshotter", flags.snapshotter);
    app.add_option("--oci-worker-proxy-snapshotter-path", flags.proxy_snapshotter);
    app.add_option("--oci-worker-apparmor-profile", flags.apparmor);
    app.add_option("--oci-cni-config-path", flags.cni_config);
    app.add_option("--oci-cni-binary-path", flags.cni_binary);
    app.add_option("--oci-cni-pool-size", flags.cni_pool);
}

Result<bool> parse_bool(const std::string& name, const std::string& text) {
    const std::string lower = to_lower(text);
    if (lower.empty() || lower == "true" || lower == "1") return true;
    if (lower == "false" || lower == "0") return false;
    return bad_input("{} is true or false, not {}", name, quoted(text));
}

// What would change nothing passes.
Result<> refuse_unsupported(const CLI::App& app, const Flags& flags) {
    const auto refuse = [](std::string_view name, std::string_view why) -> Result<> {
        return bad_input("{} is not supported: {}", name, why);
    };
    const auto one_of = [](const std::string& value, std::initializer_list<std::string_view> good) {
        return value.empty() || std::find(good.begin(), good.end(), value) != good.end();
    };
    if (app.count("--containerd-worker") > 0 && TRY(parse_bool("--containerd-worker", flags.containerd)))
        return refuse("--containerd-worker", "steps are run without containerd");
    if (app.count("--oci-worker") > 0 && flags.oci_worker != "auto" &&
        !TRY(parse_bool("--oci-worker", flags.oci_worker)))
        return refuse("--oci-worker=false", "it is the only worker");
    if (app.count("--cdi-disabled") > 0 && !TRY(parse_bool("--cdi-disabled", flags.cdi_disabled)))
        return refuse("--cdi-disabled=false", "steps are given no devices");
    if (!flags.cdi_dirs.empty()) return refuse("--cdi-spec-dir", "steps are given no devices");
    if (!flags.otel_socket.empty())
        return refuse("--otel-socket-path",
                      "steps are given no collector; set OTEL_EXPORTER_OTLP_ENDPOINT for clients' traces");
    if (flags.save_cache_debug) return refuse("--save-cache-debug", "cache keys are explained by --debug");
    if ((flags.rootless || flags.oci_rootless) && ::geteuid() == 0)
        return refuse(flags.rootless ? "--rootless" : "--oci-worker-rootless",
                      "cooperd runs as root; start it as a user");
    if (flags.no_process_sandbox && ::geteuid() == 0)
        return refuse("--oci-worker-no-process-sandbox",
                      "cooperd runs as root, where steps can have processes of their own");
    if (flags.selinux) return refuse("--oci-worker-selinux", "steps run without labels of SELinux");
    if (!one_of(flags.snapshotter, {"auto", "overlayfs"}))
        return refuse("--oci-worker-snapshotter=" + flags.snapshotter, "layers are overlaid");
    if (!flags.proxy_snapshotter.empty())
        return refuse("--oci-worker-proxy-snapshotter-path", "snapshots are cooper's own");
    if (!one_of(flags.net, {"auto", "bridge", "host"}))
        return refuse("--oci-worker-net=" + flags.net, "the network is found out");
    if (!flags.apparmor.empty()) return refuse("--oci-worker-apparmor-profile", "steps run without AppArmor");
    if (!flags.cni_config.empty()) return refuse("--oci-cni-config-path", "networks are made without CNI");
    if (!flags.cni_binary.empty()) return refuse("--oci-cni-binary-path", "networks are made without CNI");
    if (flags.cni_pool != 0) return refuse("--oci-cni-pool-size", "networks are made without CNI");
    if (!one_of(flags.log_format, {"text"})) return refuse("--log-format=" + flags.log_format, "the log is text");
    return {};
}

Result<std::uint32_t> parse_group(const std::string& text) {
    if (const auto number = parse_int(text); number && *number >= 0 && *number < 0xffffffff)
        return static_cast<std::uint32_t>(*number);
    struct group entry{};
    struct group* found = nullptr;
    std::array<char, 16 << 10> buffer{};
    if (::getgrnam_r(text.c_str(), &entry, buffer.data(), buffer.size(), &found) != 0 || found == nullptr)
        return bad_input("--group: there is no group {}", quoted(text));
    return found->gr_gid;
}

Result<std::optional<FileOptions>> read_file(const std::string& path, bool named) {
    const sys::Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.valid()) {
        if (!named && (errno == ENOENT || errno == ENOTDIR || errno == EACCES)) return std::optional<FileOptions>();
        return fail_errno(errno, "read the configuration " + path);
    }
    const std::string text = TRY(sys::read_to_end(file.get(), kMaxFile));
    return std::optional<FileOptions>(TRY(parse_file_options(text, path)));
}

// Entitlements of the daemon: those a build may be given.
Result<> check_entitlements(const std::vector<std::string>& names) {
    for (const auto& name : names) {
        if (name == "network.host" || name == "security.insecure") continue;
        const auto near = nearest(name, {"network.host", "security.insecure"});
        return bad_input("--allow-insecure-entitlement: {} is not supported{}", quoted(name),
                         near ? ", did you mean " + *near + "?" : "")
            .with_hint("network.host and security.insecure are");
    }
    return {};
}

Result<> choose_gc(const Flags& flags, const FileOptions& file, daemon::ServerOptions& out) {
    out.gc = file.gc.value_or(true);
    if (!flags.gc.empty()) out.gc = TRY(parse_bool("--oci-worker-gc", flags.gc));
    DiskSpace reserved = file.reserved;
    DiskSpace max_used = file.max_used;
    DiskSpace min_free = file.min_free;
    if (!flags.keep_storage.empty()) {
        const auto words = split(flags.keep_storage, ',');
        if (words.size() > 3) return bad_input("--oci-worker-gc-keepstorage takes Reserved[,Free[,Maximum]]");
        const std::array<DiskSpace*, 3> places = {&reserved, &min_free, &max_used};
        for (std::size_t i = 0; i < words.size(); ++i) {
            const bool percent = words[i].ends_with('%');
            *places[i] = TRY(parse_disk_space(percent ? words[i] : words[i] + "MB"));
        }
    }
    if (!flags.reserved.empty()) reserved = TRY(parse_disk_space(flags.reserved));
    if (!flags.max_used.empty()) max_used = TRY(parse_disk_space(flags.max_used));
    if (!flags.min_free.empty()) min_free = TRY(parse_disk_space(flags.min_free));
    for (const auto& one : file.policies) {
        daemon::GcPolicy policy = one.policy;
        policy.reserved_bytes = bytes_of(one.reserved, out.root);
        policy.max_used_bytes = bytes_of(one.max_used, out.root);
        policy.min_free_bytes = bytes_of(one.min_free, out.root);
        out.gc_policies.push_back(std::move(policy));
    }
    const daemon::GcPolicy bounds{.all = true,
                                  .reserved_bytes = bytes_of(reserved, out.root),
                                  .max_used_bytes = bytes_of(max_used, out.root),
                                  .min_free_bytes = bytes_of(min_free, out.root)};
    if (out.gc_policies.empty() && bounds.reserved_bytes + bounds.max_used_bytes + bounds.min_free_bytes > 0)
        out.gc_policies.push_back(bounds);
    return {};
}

Result<daemon::ServerOptions> choose(const Flags& flags, const FileOptions& file, const Defaults& defaults) {
    const auto first = [](const std::string& flag, const std::string& from_file, const std::string& otherwise = "") {
        return !flag.empty() ? flag : !from_file.empty() ? from_file : otherwise;
    };
    daemon::ServerOptions out;
    out.config = file.engine;
    // Beside the file, as buildkitd has it.
    if (out.config.provenance_env_dir.empty())
        out.config.provenance_env_dir = defaults.config.substr(0, defaults.config.rfind('/')) + "/provenance.d";
    out.config.max_disk = {.bytes = file.max_disk.bytes, .percent = file.max_disk.percent};
    out.root = first(flags.root, file.root, defaults.root);
    if (!out.root.starts_with('/')) {
        std::array<char, 4096> here{};
        if (::getcwd(here.data(), here.size()) == nullptr) return fail_errno(errno, "find the current directory");
        out.root = std::string(here.data()) + "/" + out.root;
    }
    while (out.root.size() > 1 && out.root.ends_with('/')) out.root.pop_back();
    out.addresses = !flags.addresses.empty() ? flags.addresses : file.addresses;
    if (out.addresses.empty()) out.addresses = {defaults.address};
    out.debug_address = first(flags.debug_address, file.debug_address);
    out.tls.certificate = first(flags.cert, file.tls.certificate);
    out.tls.key = first(flags.key, file.tls.key);
    out.tls.client_ca = first(flags.ca, file.tls.client_ca);
    out.socket_uid = file.uid;
    out.socket_gid = file.gid;
    if (!flags.group.empty()) out.socket_gid = TRY(parse_group(flags.group));
    out.allowed_entitlements = !flags.entitlements.empty() ? flags.entitlements : file.entitlements;
    TRY(check_entitlements(out.allowed_entitlements));
    out.labels = file.labels;
    for (const auto& text : flags.labels) {
        for (const auto& label : split(text, ',')) {
            const auto [key, value] = cut(label, '=');
            if (key.empty() || !value) return bad_input("--oci-worker-labels: {} is not KEY=VALUE", quoted(label));
            out.labels[std::string(key)] = std::string(*value);
        }
    }
    for (const auto& text : !flags.platforms.empty() ? flags.platforms : file.platforms) {
        for (const auto& one : split(text, ',')) {
            auto platform = TRY(oci::parse_platform(one));
            out.platforms.push_back(std::move(platform));
        }
    }
    if (!flags.binary.empty()) out.config.oci_runtime = flags.binary;
    out.config.secret_leaks = TRY_CONTEXT(engine::parse_on_leak(flags.secret_leaks), "--secret-leaks");
    out.config.shares_processes = flags.no_process_sandbox || file.no_process_sandbox;
    if (out.config.shares_processes) out.labels["org.mobyproject.buildkit.worker.oci.process-mode"] = "no-sandbox";
    const std::string network = first(flags.net, file.network, "auto");
    const bool has_tun = ::access("/dev/net/tun", R_OK | W_OK) == 0;
    if (network == "host" || (network == "auto" && ::geteuid() != 0 && !has_tun)) out.config.network = "host";
    if (flags.parallelism < 0) return bad_input("--oci-max-parallelism is 0 or more");
    if (flags.parallelism > 0) out.config.jobs = static_cast<std::size_t>(flags.parallelism);
    out.history = file.history;
    out.log_limits = daemon::log_limits_of_environment();
    TRY(choose_gc(flags, file, out));
    return out;
}

}  // namespace

Result<Invocation> read_command_line(const std::vector<std::string>& words) {
    const std::string program = words.empty() ? "cooperd" : words.front();
    const Defaults defaults = defaults_for(program);
    CLI::App app("Builds container images for docker buildx, docker compose, buildctl: BuildKit's API over cooper",
                 "cooperd");
    Flags flags;
    declare(app, flags, defaults);
    std::vector<std::string> reversed(words.rbegin(), words.rend());
    if (!reversed.empty()) reversed.pop_back();
    Invocation invocation;
    try {
        app.parse(reversed);
    } catch (const CLI::CallForHelp&) {
        invocation.kind = Invocation::Kind::print;
        invocation.text = app.help();
        return invocation;
    } catch (const CLI::ParseError& error) {
        return bad_input("{}", error.what()).with_hint("cooperd --help lists the flags");
    }
    if (flags.version) {
        invocation.kind = Invocation::Kind::print;
        invocation.text = daemon::version_line() + "\n";
        return invocation;
    }
    TRY(refuse_unsupported(app, flags));
    const bool named = !flags.config.empty();
    const auto file = TRY(read_file(named ? flags.config : defaults.config, named));
    const FileOptions from_file = file.value_or(FileOptions());
    invocation.options = TRY(choose(flags, from_file, defaults));
    if (flags.debug || flags.trace || from_file.debug == true) invocation.log_level = log::Level::debug;
    return invocation;
}

}  // namespace cooper::cooperd
