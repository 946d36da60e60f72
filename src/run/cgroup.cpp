#include "run/cgroup.hpp"

#include "base/text.hpp"
#include "run/device_filter.hpp"
#include "sys/rooted_dir.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <optional>
#include <sys/stat.h>
#include <unistd.h>

namespace cooper::run {
namespace {

std::string read_file(const std::string& path) {
    const sys::Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid()) return {};
    return sys::read_to_end(fd.get(), 1 << 20).value_or("");
}

bool write_file(const std::string& path, std::string_view text) {
    const sys::Fd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    return fd.valid() && sys::write_all(fd.get(), text).has_value();
}

bool make_dirs(const std::string& base, const std::string& relative) {
    std::string path = base;
    for (const std::string& part : split(relative, '/')) {
        if (part.empty()) continue;
        if (part == "." || part == "..") return false;
        path += "/" + part;
        if (::mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) return false;
    }
    return true;
}

// The number behind "key " at the start of a line.
std::uint64_t keyed_number(const std::string& text, std::string_view key) {
    for (const std::string& line : split(text, '\n')) {
        const auto [name, value] = cut(line, ' ');
        if (name != key || !value) continue;
        return static_cast<std::uint64_t>(parse_int(*value).value_or(0));
    }
    return 0;
}

struct MountLine {
    std::string root;
    std::string target;
    std::string type;
    std::vector<std::string> super_options;
};

std::vector<MountLine> cgroup_mounts() {
    std::vector<MountLine> mounts;
    for (const std::string& line : split(read_file("/proc/self/mountinfo"), '\n')) {
        const std::vector<std::string> words = split(line, ' ');
        const auto dash = std::find(words.begin(), words.end(), "-");
        if (words.size() < 6 || words.end() - dash < 4) continue;
        MountLine mount{words[3], words[4], dash[1], split(dash[3], ',')};
        if (mount.type == "cgroup" || mount.type == "cgroup2") mounts.push_back(std::move(mount));
    }
    return mounts;
}

// This process's path in the v1 hierarchy of a controller.
std::string own_path(const std::string& controller) {
    for (const std::string& line : split(read_file("/proc/self/cgroup"), '\n')) {
        const std::vector<std::string> parts = split(line, ':');
        if (parts.size() < 3) continue;
        const std::vector<std::string> controllers = split(parts[1], ',');
        if (std::find(controllers.begin(), controllers.end(), controller) != controllers.end()) return parts[2];
    }
    return "/";
}

std::string below(const std::string& path, const std::string& root) {
    if (root == "/") return path == "/" ? "" : path;
    if (path == root) return "";
    return path.starts_with(root + "/") ? path.substr(root.size()) : "";
}

}  // namespace

CgroupTree CgroupTree::detect(std::string parent) {
    CgroupTree tree;
    tree.parent_ = parent.empty() ? "/cooper" : std::move(parent);
    for (const MountLine& mount : cgroup_mounts()) {
        const auto has = [&mount](const char* controller) {
            return std::find(mount.super_options.begin(), mount.super_options.end(), controller) !=
                   mount.super_options.end();
        };
        if (mount.type == "cgroup2") {
            tree.v2_ = {mount.target, ""};
        } else if (has("memory")) {
            tree.memory_ = {mount.target, below(own_path("memory"), mount.root)};
        } else if (has("devices")) {
            tree.devices_ = {mount.target, below(own_path("devices"), mount.root)};
        }
    }
    if (!tree.v2_.mount.empty() && tree.v2_.mount != "/sys/fs/cgroup") tree.hybrid_mount_ = tree.v2_.mount;
    return tree;
}

std::string CgroupTree::describe() const {
    const bool v1 = !memory_.mount.empty() || !devices_.mount.empty();
    if (v2_.mount.empty()) return v1 ? "v1" : "none";
    return v1 ? "hybrid" : "v2";
}

void CgroupTree::add_v2(Cgroup& cgroup, const std::string& relative, DeviceRule devices) const {
    // Controllers must be switched on at every level above; those that cannot be are done without.
    std::string path = v2_.mount;
    const std::vector<std::string> parts = split(relative, '/');
    for (std::size_t i = 0; i + 1 < parts.size(); i++) {
        if (!make_dirs(path, parts[i])) return;
        for (const char* controller : {"+memory", "+cpu", "+pids", "+io"}) {
            write_file(path + "/cgroup.subtree_control", controller);
        }
        if (!parts[i].empty()) path += "/" + parts[i];
    }
    for (const char* controller : {"+memory", "+cpu", "+pids", "+io"}) {
        write_file(path + "/cgroup.subtree_control", controller);
    }
    path += "/" + parts.back();
    if (::mkdir(path.c_str(), 0755) != 0) return;
    cgroup.dirs_.push_back(path);
    cgroup.procs_files_.push_back(path + "/cgroup.procs");
    if (::access((path + "/memory.events").c_str(), R_OK) == 0) {
        cgroup.memory_dir_ = path;
        cgroup.memory_is_v2_ = true;
    }
    const sys::Fd dir(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (devices == DeviceRule::standard && dir.valid()) cgroup.guards_devices_ = attach_device_filter(dir.get());
}

void CgroupTree::add_v1(Cgroup& cgroup, const Place& place, const std::string& relative) const {
    if (place.mount.empty()) return;
    const std::string base = place.mount + place.prefix;
    if (!make_dirs(base, relative)) return;
    const std::string path = base + "/" + relative;
    cgroup.dirs_.push_back(path);
    cgroup.procs_files_.push_back(path + "/cgroup.procs");
}

Cgroup CgroupTree::create(const std::string& parent, const std::string& name, DeviceRule devices) const {
    Cgroup cgroup;
    std::string_view base = parent.empty() ? std::string_view(parent_) : std::string_view(parent);
    while (base.starts_with('/')) base.remove_prefix(1);
    const std::string relative = std::string(base) + (parent.empty() ? "/" : "/cooper/") + name;
    if (relative.find("..") != std::string::npos) return cgroup;
    add_v1(cgroup, memory_, relative);
    if (!cgroup.dirs_.empty()) cgroup.memory_dir_ = cgroup.dirs_.back();
    const std::size_t before = cgroup.dirs_.size();
    add_v1(cgroup, devices_, relative);
    if (devices == DeviceRule::standard && cgroup.dirs_.size() > before) {
        const std::string& dir = cgroup.dirs_.back();
        bool written = write_file(dir + "/devices.deny", "a") && write_file(dir + "/devices.allow", "c *:* m") &&
                       write_file(dir + "/devices.allow", "b *:* m");
        for (const DeviceNumber& device : kOpenDevices) {
            const std::string minor = device.minor < 0 ? "*" : std::to_string(device.minor);
            written = written && write_file(dir + "/devices.allow", fmt::format("c {}:{} rwm", device.major, minor));
        }
        cgroup.guards_devices_ = written;
    }
    // On hybrid hosts the v2 hierarchy has nothing we lack.
    if (!v2_.mount.empty() && memory_.mount.empty()) add_v2(cgroup, relative, devices);
    return cgroup;
}

void CgroupTree::sweep() const {
    std::string_view parent = parent_;
    while (parent.starts_with('/')) parent.remove_prefix(1);
    for (const Place* place : {&v2_, &memory_, &devices_}) {
        if (place->mount.empty()) continue;
        const std::string base = place->mount + place->prefix + "/" + std::string(parent);
        const sys::Fd dir(::open(base.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        if (!dir.valid()) continue;
        const auto entries = sys::list_dir(dir.get());
        if (!entries) continue;
        for (const sys::DirEntry& entry : *entries) {
            // "PID-N": of a live owner it may be about to be used.
            const auto pid = parse_int(cut(entry.name, '-').first);
            if (pid && ::access(fmt::format("/proc/{}", *pid).c_str(), F_OK) != 0) {
                ::unlinkat(dir.get(), entry.name.c_str(), AT_REMOVEDIR);
            }
        }
    }
}

Cgroup::~Cgroup() {
    for (const std::string& dir : dirs_) ::rmdir(dir.c_str());
}

bool Cgroup::oom_killed() const {
    if (memory_dir_.empty()) return false;
    return keyed_number(read_file(memory_dir_ + (memory_is_v2_ ? "/memory.events" : "/memory.oom_control")),
                        "oom_kill") > 0;
}

Usage Cgroup::usage() const {
    Usage usage;
    if (memory_dir_.empty()) return usage;
    const std::string peak = read_file(memory_dir_ + (memory_is_v2_ ? "/memory.peak" : "/memory.max_usage_in_bytes"));
    usage.memory_peak_bytes = static_cast<std::uint64_t>(parse_int(trim(peak)).value_or(0));
    if (memory_is_v2_) usage.cpu_ns = keyed_number(read_file(memory_dir_ + "/cpu.stat"), "usage_usec") * 1000;
    return usage;
}

}  // namespace cooper::run
