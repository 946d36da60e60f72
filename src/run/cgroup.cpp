#include "run/cgroup.hpp"

#include "base/text.hpp"
#include "run/device_filter.hpp"
#include "sys/rooted_dir.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <dirent.h>
#include <fcntl.h>
#include <optional>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace cooper::run {
namespace {

constexpr const char* kFreezerFile = "/cgroup.freeze";   // v2
constexpr const char* kFreezerState = "/freezer.state";  // v1
constexpr std::string_view kThawed = "THAWED";

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

// In v1 a cpuset begins empty, and an empty one takes no process.
void inherit_cpuset(const std::string& base, const std::string& relative) {
    std::string path = base;
    for (const std::string& part : split(relative, '/')) {
        if (part.empty()) continue;
        const std::string above = path;
        path += "/" + part;
        for (const char* file : {"/cpuset.cpus", "/cpuset.mems"}) {
            if (trim(read_file(path + file)).empty()) write_file(path + file, trim(read_file(above + file)));
        }
    }
}

// Docker's shares, 2 to 262144, as a weight of v2, 1 to 10000.
std::uint64_t weight_of(std::uint64_t shares) {
    const std::uint64_t bounded = std::clamp<std::uint64_t>(shares, 2, 262144);
    return 1 + (bounded - 2) * 9999 / 262142;
}

Result<> set_limit(const std::string& dir, std::string_view name, std::string_view file, std::string_view value) {
    if (dir.empty() || ::access(fmt::format("{}/{}", dir, file).c_str(), F_OK) != 0) {
        return fail(Code::failed_precondition, Blame::world, "{} cannot be limited: this machine has no cgroup for it",
                    name);
    }
    if (!write_file(fmt::format("{}/{}", dir, file), value)) {
        return fail_errno(errno, fmt::format("{} cannot be limited to {}", name, value));
    }
    return {};
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
            continue;
        }
        for (const auto& [controller, place] : {std::pair{"memory", &tree.memory_},
                                                {"devices", &tree.devices_},
                                                {"cpu", &tree.cpu_},
                                                {"cpuset", &tree.cpuset_},
                                                {"freezer", &tree.freezer_}}) {
            if (has(controller)) *place = {mount.target, below(own_path(controller), mount.root)};
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

void CgroupTree::add_v2(Cgroup& cgroup, const std::string& relative, const CgroupWishes& wishes) const {
    // Controllers must be switched on at every level above; those that cannot be are done without.
    std::string path = v2_.mount;
    const std::vector<std::string> parts = split(relative, '/');
    for (std::size_t i = 0; i + 1 < parts.size(); i++) {
        if (!make_dirs(path, parts[i])) return;
        for (const char* controller : {"+memory", "+cpu", "+cpuset", "+pids", "+io"}) {
            write_file(path + "/cgroup.subtree_control", controller);
        }
        if (!parts[i].empty()) path += "/" + parts[i];
    }
    for (const char* controller : {"+memory", "+cpu", "+cpuset", "+pids", "+io"}) {
        write_file(path + "/cgroup.subtree_control", controller);
    }
    path += "/" + parts.back();
    if (!add_dir(cgroup, path)) return;
    if (::access((path + "/memory.events").c_str(), R_OK) == 0) {
        cgroup.memory_dir_ = path;
        cgroup.memory_is_v2_ = true;
    }
    cgroup.cpu_dir_ = cgroup.cpuset_dir_ = path;
    if (wishes.freezer && ::access((path + kFreezerFile).c_str(), W_OK) == 0) {
        cgroup.freezer_dir_ = path;
        cgroup.freezer_is_v2_ = true;
    }
    if (wishes.devices == DeviceRule::standard)
        cgroup.guards_devices_ = attach_device_filter(cgroup.held_.back().get(), wishes.further_devices);
}

bool CgroupTree::add_dir(Cgroup& cgroup, const std::string& path) {
    // Between its making and its locking a sweep may take it for one that was left behind.
    constexpr int kTries = 20;
    for (int i = 0; i < kTries; ++i) {
        if (::mkdir(path.c_str(), 0755) != 0) return false;
        sys::Fd dir(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        if (!dir.valid()) continue;
        ::flock(dir.get(), LOCK_SH);  // a sweep holds it for a moment
        struct stat held{};
        struct stat named{};
        if (::fstat(dir.get(), &held) != 0 || ::stat(path.c_str(), &named) != 0 || held.st_ino != named.st_ino)
            continue;
        cgroup.dirs_.push_back(path);
        cgroup.held_.push_back(std::move(dir));
        cgroup.procs_files_.push_back(path + "/cgroup.procs");
        return true;
    }
    return false;
}

std::string CgroupTree::add_v1(Cgroup& cgroup, const Place& place, const std::string& relative) const {
    if (place.mount.empty()) return {};
    const std::string base = place.mount + place.prefix;
    const std::string path = base + "/" + relative;
    // Controllers mounted together share their directories.
    if (std::ranges::find(cgroup.dirs_, path) != cgroup.dirs_.end()) return path;
    if (!make_dirs(base, relative.substr(0, relative.rfind('/'))) || !add_dir(cgroup, path)) return {};
    return path;
}

Cgroup CgroupTree::create(const std::string& parent, const std::string& name, const CgroupWishes& wishes) const {
    Cgroup cgroup;
    std::string_view base = parent.empty() ? std::string_view(parent_) : std::string_view(parent);
    while (base.starts_with('/')) base.remove_prefix(1);
    const std::string relative = std::string(base) + (parent.empty() ? "/" : "/cooper/") + name;
    if (relative.find("..") != std::string::npos) return cgroup;
    cgroup.memory_dir_ = add_v1(cgroup, memory_, relative);
    const std::string dir = add_v1(cgroup, devices_, relative);
    if (wishes.devices == DeviceRule::standard && !dir.empty()) {
        bool written = write_file(dir + "/devices.deny", "a") && write_file(dir + "/devices.allow", "c *:* m") &&
                       write_file(dir + "/devices.allow", "b *:* m");
        for (const DeviceNumber& device : kOpenDevices) {
            const std::string minor = device.minor < 0 ? "*" : std::to_string(device.minor);
            written = written && write_file(dir + "/devices.allow", fmt::format("c {}:{} rwm", device.major, minor));
        }
        for (const DeviceNode& node : wishes.further_devices) {
            if (node.type == 'p') continue;
            written = written && write_file(dir + "/devices.allow",
                                            fmt::format("{} {}:{} {}", node.type, node.major, node.minor, node.access));
        }
        cgroup.guards_devices_ = written;
    }
    const Resources& resources = wishes.resources;
    if (resources.cpu_shares != 0 || resources.cpu_period_us != 0 || resources.cpu_quota_us != 0)
        cgroup.cpu_dir_ = add_v1(cgroup, cpu_, relative);
    if (!resources.cpuset_cpus.empty() || !resources.cpuset_mems.empty()) {
        cgroup.cpuset_dir_ = add_v1(cgroup, cpuset_, relative);
        inherit_cpuset(cpuset_.mount + cpuset_.prefix, relative);
    }
    if (wishes.freezer) {
        cgroup.freezer_dir_ = add_v1(cgroup, freezer_, relative);
    }
    // On hybrid hosts the v2 hierarchy has nothing we lack.
    if (!v2_.mount.empty() && memory_.mount.empty()) add_v2(cgroup, relative, wishes);
    return cgroup;
}

void CgroupTree::sweep() const {
    std::string_view parent = parent_;
    while (parent.starts_with('/')) parent.remove_prefix(1);
    for (const Place* place : {&v2_, &memory_, &devices_, &cpu_, &cpuset_, &freezer_}) {
        if (place->mount.empty()) continue;
        const std::string base = place->mount + place->prefix + "/" + std::string(parent);
        const sys::Fd dir(::open(base.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        if (!dir.valid()) continue;
        const auto entries = sys::list_dir(dir.get());
        if (!entries) continue;
        for (const sys::DirEntry& entry : *entries) {
            if (entry.type != DT_DIR) continue;
            const sys::Fd left(::openat(dir.get(), entry.name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
            if (!left.valid() || ::flock(left.get(), LOCK_EX | LOCK_NB) != 0) continue;
            if (place == &freezer_) write_file(base + "/" + entry.name + kFreezerState, kThawed);
            if (place == &v2_) write_file(base + "/" + entry.name + kFreezerFile, "0");
            ::unlinkat(dir.get(), entry.name.c_str(), AT_REMOVEDIR);
        }
    }
}

Cgroup::~Cgroup() {
    for (const std::string& dir : dirs_) ::rmdir(dir.c_str());
}

Result<> Cgroup::limit(const Resources& resources) const {
    const bool v2 = memory_is_v2_ || (!cpu_dir_.empty() && cpu_dir_ == cpuset_dir_);
    if (resources.memory_bytes > 0) {
        TRY(set_limit(memory_dir_, "memory", v2 ? "memory.max" : "memory.limit_in_bytes",
                      std::to_string(resources.memory_bytes)));
    }
    if (resources.memory_swap_bytes != 0) {
        const bool unlimited = resources.memory_swap_bytes < 0;
        if (!unlimited && (resources.memory_bytes == 0 || resources.memory_swap_bytes < resources.memory_bytes)) {
            return bad_input("memory and swap together ({}) cannot be less than memory ({})",
                             resources.memory_swap_bytes, resources.memory_bytes)
                .with_hint("limit memory as well, to no more");
        }
        const std::int64_t whole = resources.memory_swap_bytes;
        const std::string swap =
            v2 ? (unlimited ? "max" : std::to_string(whole - resources.memory_bytes)) : std::to_string(whole);
        TRY(set_limit(memory_dir_, "swap", v2 ? "memory.swap.max" : "memory.memsw.limit_in_bytes", swap));
    }
    if (resources.cpu_shares != 0) {
        TRY(set_limit(cpu_dir_, "the share of the processors", v2 ? "cpu.weight" : "cpu.shares",
                      std::to_string(v2 ? weight_of(resources.cpu_shares) : resources.cpu_shares)));
    }
    if (v2 && (resources.cpu_period_us != 0 || resources.cpu_quota_us != 0)) {
        const std::string quota = resources.cpu_quota_us > 0 ? std::to_string(resources.cpu_quota_us) : "max";
        const std::uint64_t period = resources.cpu_period_us != 0 ? resources.cpu_period_us : 100'000;
        TRY(set_limit(cpu_dir_, "processor time", "cpu.max", fmt::format("{} {}", quota, period)));
    } else {
        if (resources.cpu_period_us != 0) {
            TRY(set_limit(cpu_dir_, "the period of processor time", "cpu.cfs_period_us",
                          std::to_string(resources.cpu_period_us)));
        }
        if (resources.cpu_quota_us != 0) {
            TRY(set_limit(cpu_dir_, "processor time", "cpu.cfs_quota_us", std::to_string(resources.cpu_quota_us)));
        }
    }
    if (!resources.cpuset_cpus.empty())
        TRY(set_limit(cpuset_dir_, "the set of processors", "cpuset.cpus", resources.cpuset_cpus));
    if (!resources.cpuset_mems.empty())
        TRY(set_limit(cpuset_dir_, "the set of memory nodes", "cpuset.mems", resources.cpuset_mems));
    return {};
}

std::unique_ptr<Freezer> Cgroup::freezer() const {
    return std::make_unique<Freezer>(freezer_dir_, freezer_is_v2_ ? Freezer::Version::v2 : Freezer::Version::v1);
}

std::string Cgroup::thaw_file() const {
    return freezer_is_v2_ || freezer_dir_.empty() ? "" : freezer_dir_ + kFreezerState;
}

void Freezer::write(bool frozen) {
    if (dir_.empty()) return;
    if (version_ == Version::v2) {
        write_file(dir_ + kFreezerFile, frozen ? "1" : "0");
    } else {
        write_file(dir_ + kFreezerState, frozen ? std::string_view("FROZEN") : kThawed);
    }
}

void Freezer::freeze() {
    auto ended = ended_.lock();
    if (!*ended) write(true);
}

void Freezer::thaw() {
    auto ended = ended_.lock();
    if (!*ended) write(false);
}

void Freezer::kill() {
    auto ended = ended_.lock();
    *ended = true;
    if (version_ == Version::v2 || dir_.empty()) return;
    for (const std::string& line : split(read_file(dir_ + "/cgroup.procs"), '\n')) {
        if (const auto pid = parse_int(line); pid && *pid > 1) ::kill(static_cast<pid_t>(*pid), SIGKILL);
    }
    write(false);
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
