#include "run/runtime_config.hpp"

#include "base/text.hpp"
#include "run/seccomp.hpp"
#include "sys/fd.hpp"
#include "sys/namespaces.hpp"

#include <algorithm>
#include <array>
#include <fcntl.h>
#include <map>
#include <nlohmann/json.hpp>

namespace cooper::run {
namespace {

using nlohmann::json;

// By number, as in linux/capability.h.
constexpr std::array kCapabilities{"CAP_CHOWN",
                                   "CAP_DAC_OVERRIDE",
                                   "CAP_DAC_READ_SEARCH",
                                   "CAP_FOWNER",
                                   "CAP_FSETID",
                                   "CAP_KILL",
                                   "CAP_SETGID",
                                   "CAP_SETUID",
                                   "CAP_SETPCAP",
                                   "CAP_LINUX_IMMUTABLE",
                                   "CAP_NET_BIND_SERVICE",
                                   "CAP_NET_BROADCAST",
                                   "CAP_NET_ADMIN",
                                   "CAP_NET_RAW",
                                   "CAP_IPC_LOCK",
                                   "CAP_IPC_OWNER",
                                   "CAP_SYS_MODULE",
                                   "CAP_SYS_RAWIO",
                                   "CAP_SYS_CHROOT",
                                   "CAP_SYS_PTRACE",
                                   "CAP_SYS_PACCT",
                                   "CAP_SYS_ADMIN",
                                   "CAP_SYS_BOOT",
                                   "CAP_SYS_NICE",
                                   "CAP_SYS_RESOURCE",
                                   "CAP_SYS_TIME",
                                   "CAP_SYS_TTY_CONFIG",
                                   "CAP_MKNOD",
                                   "CAP_LEASE",
                                   "CAP_AUDIT_WRITE",
                                   "CAP_AUDIT_CONTROL",
                                   "CAP_SETFCAP",
                                   "CAP_MAC_OVERRIDE",
                                   "CAP_MAC_ADMIN",
                                   "CAP_SYSLOG",
                                   "CAP_WAKE_ALARM",
                                   "CAP_BLOCK_SUSPEND",
                                   "CAP_AUDIT_READ",
                                   "CAP_PERFMON",
                                   "CAP_BPF",
                                   "CAP_CHECKPOINT_RESTORE"};
// Docker's default set: chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap,
// net_bind_service, net_raw, sys_chroot, mknod, audit_write, setfcap.
constexpr std::uint64_t kDefaultCapabilities = 0xa80425fb;
constexpr std::uint64_t kMknod = 1U << 27;

// What we lack ourselves cannot be given.
std::vector<std::string> capabilities_of(const RuntimeConfig& config) {
    std::uint64_t wanted = config.spec.security == SecurityMode::insecure ? ~0ULL : kDefaultCapabilities;
    if (!config.may_make_devices) wanted &= ~kMknod;
    wanted &= sys::permitted_capabilities();
    std::vector<std::string> names;
    for (std::size_t number = 0; number < kCapabilities.size(); number++) {
        if ((wanted >> number & 1) != 0) names.emplace_back(kCapabilities[number]);
    }
    return names;
}
constexpr std::array kMaskedPaths{
    "/proc/acpi",        "/proc/asound",        "/proc/interrupts", "/proc/kcore",
    "/proc/keys",        "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
    "/proc/sched_debug", "/proc/scsi",          "/sys/firmware",    "/sys/devices/virtual/powercap",
};
constexpr std::array kReadonlyPaths{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
constexpr std::uint64_t kDefaultShmBytes = 64 << 20;

json standard_mounts(const RuntimeConfig& config) {
    const bool insecure = config.spec.security == SecurityMode::insecure;
    const char* access = insecure ? "rw" : "ro";
    const std::uint64_t shm = config.spec.shm_size_bytes != 0 ? config.spec.shm_size_bytes : kDefaultShmBytes;
    json mounts = json::array();
    const auto add = [&mounts](const char* target, const char* type, std::vector<std::string> options) {
        mounts.push_back({{"destination", target}, {"type", type}, {"source", type}, {"options", std::move(options)}});
    };
    if (config.shares_processes) {
        mounts.push_back({{"destination", "/proc"},
                          {"type", "bind"},
                          {"source", "/proc"},
                          {"options", {"rbind", "rslave", "nosuid", "noexec", "nodev"}}});
    } else {
        add("/proc", "proc", {"nosuid", "noexec", "nodev"});
    }
    add("/dev", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"});
    add("/dev/pts", "devpts", {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"});
    add("/dev/shm", "tmpfs", {"nosuid", "noexec", "nodev", "mode=1777", fmt::format("size={}", shm)});
    add("/dev/mqueue", "mqueue", {"nosuid", "noexec", "nodev"});
    if (config.emulators) {
        mounts.push_back({{"destination", "/sys"},
                          {"type", "bind"},
                          {"source", config.sysfs},
                          {"options", {"rbind", "nosuid", "noexec", "nodev", access}}});
    } else {
        add("/sys", "sysfs", {"nosuid", "noexec", "nodev", access});
    }
    if (config.cgroup_mount && !config.emulators)
        add("/sys/fs/cgroup", "cgroup", {"nosuid", "noexec", "nodev", "relatime", access});
    return mounts;
}

// Extra mounts come last; one at the place of a standard mount replaces it.
json all_mounts(const RuntimeConfig& config) {
    json mounts = json::array();
    for (json& mount : standard_mounts(config)) {
        const std::string target = mount["destination"];
        const bool replaced = std::any_of(config.mounts.begin(), config.mounts.end(),
                                          [&target](const RuntimeMount& extra) { return extra.target == target; });
        if (!replaced) mounts.push_back(std::move(mount));
    }
    for (const RuntimeMount& extra : config.mounts) {
        mounts.push_back({{"destination", extra.target},
                          {"type", extra.type},
                          {"source", extra.source},
                          {"options", extra.options}});
    }
    return mounts;
}

json process_of(const RuntimeConfig& config) {
    const ProcessSpec& spec = config.spec;
    const json capabilities = capabilities_of(config);
    json limits = json::array();
    for (const Ulimit& limit : spec.ulimits) {
        limits.push_back({{"type", "RLIMIT_" + to_upper(limit.name)},
                          {"soft", static_cast<std::uint64_t>(limit.soft)},
                          {"hard", static_cast<std::uint64_t>(limit.hard)}});
    }
    std::vector<std::string> env = effective_env(spec);
    const bool has_home =
        std::any_of(env.begin(), env.end(), [](const std::string& entry) { return entry.starts_with("HOME="); });
    if (!has_home && !config.home.empty()) env.push_back("HOME=" + config.home);
    json user{{"uid", config.user.uid}, {"gid", config.user.gid}, {"umask", 022}};
    // The group itself is one of the supplementary groups, and the first.
    std::vector<gid_t> groups = config.user.groups;
    if (std::find(groups.begin(), groups.end(), config.user.gid) == groups.end())
        groups.insert(groups.begin(), config.user.gid);
    user["additionalGids"] = groups;
    json process{
        {"terminal", spec.tty},
        {"user", std::move(user)},
        {"args", spec.args},
        {"env", env},
        {"cwd", spec.cwd},
        {"noNewPrivileges", false},
        {"capabilities", {{"bounding", capabilities}, {"effective", capabilities}, {"permitted", capabilities}}}};
    if (!limits.empty()) process["rlimits"] = std::move(limits);
    return process;
}

// Whoever the process runs as has the devices that nobody else is named for.
json devices_of(const RuntimeConfig& config) {
    json devices = json::array();
    for (const DeviceNode& node : config.spec.devices) {
        json device{{"path", node.path},
                    {"type", std::string(1, node.type)},
                    {"uid", node.uid.value_or(config.user.uid)},
                    {"gid", node.gid.value_or(config.user.gid)}};
        if (node.type != 'p') {
            device["major"] = node.major;
            device["minor"] = node.minor;
        }
        if (node.mode) device["fileMode"] = *node.mode;
        devices.push_back(std::move(device));
    }
    return devices;
}

json hooks_of(const RuntimeConfig& config) {
    json hooks = json::object();
    std::vector<Hook> all = config.spec.hooks;
    if (config.emulators) all.push_back(*config.emulators);
    for (const Hook& hook : all) {
        json entry{{"path", hook.program}};
        if (!hook.args.empty()) entry["args"] = hook.args;
        if (!hook.env.empty()) entry["env"] = hook.env;
        if (hook.timeout_s) entry["timeout"] = *hook.timeout_s;
        hooks[hook.stage].push_back(std::move(entry));
    }
    return hooks;
}

// Each id as itself, as far as this process has it.
json same_ids(const char* map) {
    json ranges = json::array();
    const sys::Fd file(::open(map, O_RDONLY | O_CLOEXEC));
    const auto text = sys::read_to_end(file.get(), 65536);
    if (!text) return ranges;
    for (const std::string& line : split(*text, '\n')) {
        std::vector<std::int64_t> numbers;
        for (const std::string& word : split(line, ' ')) {
            if (!word.empty()) numbers.push_back(parse_int(word).value_or(0));
        }
        if (numbers.size() != 3) continue;
        ranges.push_back({{"containerID", numbers[0]}, {"hostID", numbers[0]}, {"size", numbers[2]}});
    }
    return ranges;
}

json linux_of(const RuntimeConfig& config) {
    // The network namespace is the one cooper-init has already entered.
    json namespaces = json::array({{{"type", "ipc"}}, {{"type", "uts"}}, {{"type", "mount"}}});
    if (!config.shares_processes) namespaces.push_back({{"type", "pid"}});
    if (config.cgroup_namespace) namespaces.push_back({{"type", "cgroup"}});
    json section;
    if (config.emulators) {
        namespaces.push_back({{"type", "user"}});
        section["uidMappings"] = same_ids("/proc/self/uid_map");
        section["gidMappings"] = same_ids("/proc/self/gid_map");
    }
    section["namespaces"] = std::move(namespaces);
    if (!config.cgroups_path.empty()) section["cgroupsPath"] = config.cgroups_path;
    if (!config.spec.devices.empty()) section["devices"] = devices_of(config);
    if (config.spec.security == SecurityMode::sandbox) {
        section["maskedPaths"] = kMaskedPaths;
        section["readonlyPaths"] = kReadonlyPaths;
        if (config.seccomp == SeccompForm::profile) section["seccomp"] = json::parse(seccomp_json());
    }
    return section;
}

}  // namespace

std::vector<std::string> effective_env(const ProcessSpec& spec) {
    std::vector<std::string> env;
    std::map<std::string, std::size_t, std::less<>> places;
    const auto add = [&](const std::string& entry) {
        const std::string key(cut(entry, '=').first);
        const auto [place, fresh] = places.emplace(key, env.size());
        if (fresh) {
            env.push_back(entry);
        } else {
            env[place->second] = entry;
        }
    };
    for (const std::string& entry : spec.env) add(entry);
    if (!places.contains("PATH")) add("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    if (spec.tty && !places.contains("TERM")) add("TERM=xterm");
    return env;
}

std::string make_runtime_config(const RuntimeConfig& config) {
    json root{{"ociVersion", "1.0.2"},
              {"process", process_of(config)},
              {"root", {{"path", "rootfs"}, {"readonly", config.spec.root_access == Access::read_only}}},
              {"hostname", config.hostname},
              {"mounts", all_mounts(config)},
              {"linux", linux_of(config)}};
    if (!config.spec.hooks.empty() || config.emulators) root["hooks"] = hooks_of(config);
    if (config.spec.security == SecurityMode::sandbox && config.seccomp == SeccompForm::filter) {
        const DiskUse disk = config.spec.disk_watched ? DiskUse::watched : DiskUse::free;
        root["annotations"] = {{"run.oci.seccomp_bpf_data", seccomp_filter_base64(disk)}};
    }
    // Arguments and environment are the user's bytes; JSON wants UTF-8, so others are replaced.
    return root.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace cooper::run
