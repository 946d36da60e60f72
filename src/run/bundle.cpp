#include "run/bundle.hpp"

#include "base/text.hpp"
#include "run/foreign_program.hpp"
#include "run/runtime_config.hpp"
#include "run/seccomp.hpp"
#include "run/user.hpp"
#include "sys/namespaces.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <map>
#include <sys/stat.h>
#include <unistd.h>

namespace cooper::run {
namespace {

constexpr std::size_t kMaxMounts = 512;

// "/a/b" from "a//./x/../b", lexically.
std::string clean_path(std::string_view path, std::string_view cwd) {
    const std::string whole = path.starts_with('/') ? std::string(path) : fmt::format("{}/{}", cwd, path);
    std::vector<std::string> parts;
    for (std::string& part : split(whole, '/')) {
        if (part.empty() || part == ".") continue;
        if (part != "..") {
            parts.push_back(std::move(part));
        } else if (!parts.empty()) {
            parts.pop_back();
        }
    }
    return "/" + join(parts, "/");
}

std::string target_of(const ExtraMount& mount, std::string_view cwd) {
    return std::visit([cwd](const auto& one) { return clean_path(one.target, cwd); }, mount);
}

bool is_below(std::string_view path, std::string_view dir) {
    return path.size() > dir.size() && path.starts_with(dir) && path[dir.size()] == '/';
}

Result<sys::Fd> open_host(const std::string& path) {
    sys::Fd fd(::open(path.c_str(), O_PATH | O_CLOEXEC));
    if (!fd.valid()) return fail_errno(errno, fmt::format("open {}", path));
    return fd;
}

// What subpath means inside the tree at fd.
Result<sys::Fd> open_below(sys::Fd fd, const std::string& subpath) {
    if (subpath.empty() || clean_path(subpath, "/") == "/") return fd;
    const sys::RootedDir root(std::move(fd));
    auto found = root.open(subpath, O_PATH, sys::Follow::yes, 0);
    if (!found) {
        return found.error().code() == Code::not_found
                   ? bad_input("mount source {} does not exist", quoted(subpath))
                   : found.error().with_context(fmt::format("open mount source {}", quoted(subpath)));
    }
    return found;
}

// A tree as a mount of its own; overlays get one more, empty, layer when they would have too few.
Result<sys::DetachedMount> mount_tree(const sys::OverlayPlan& plan, const std::string& bottom) {
    sys::OverlayPlan whole = plan;
    whole.lower.insert(whole.lower.begin(), bottom);
    return sys::mount_overlay(whole);
}

StubKind kind_of(int fd) {
    struct stat info{};
    return ::fstat(fd, &info) == 0 && S_ISDIR(info.st_mode) ? StubKind::directory : StubKind::file;
}

Result<> make_cwd(const sys::RootedDir& root, const std::string& cwd, const UserIds& user) {
    std::string path;
    for (const std::string& part : split(cwd, '/')) {
        if (part.empty()) continue;
        path += "/" + part;
        if (root.stat(path, sys::Follow::yes)) continue;
        const auto parent = TRY(root.parent_of(path));
        if (::mkdirat(parent.dir.get(), parent.name.c_str(), 0755) != 0) {
            return fail_errno(errno, fmt::format("make working directory {}", quoted(cwd)));
        }
        ::fchmodat(parent.dir.get(), parent.name.c_str(), 0755, 0);
        if (::fchownat(parent.dir.get(), parent.name.c_str(), user.uid, user.gid, AT_SYMLINK_NOFOLLOW) != 0) {
            return fail_errno(errno, fmt::format("change owner of working directory {}", quoted(cwd)));
        }
    }
    return {};
}

// By target, the last of equal ones.
std::map<std::string, const ExtraMount*> by_target(const ProcessSpec& spec) {
    std::map<std::string, const ExtraMount*> mounts;
    for (const ExtraMount& mount : spec.mounts) mounts[target_of(mount, spec.cwd)] = &mount;
    return mounts;
}

constexpr std::array kStandardTargets{"/proc", "/dev", "/sys"};

}  // namespace

struct Bundle::Built {
    std::vector<RuntimeMount> mounts;
    std::vector<Stub> stubs;
    std::size_t next = 0;
};

int Bundle::hold(sys::Fd fd) {
    fds_.push_back(std::move(fd));
    return kFirstMountFd + static_cast<int>(fds_.size()) - 1;
}

Result<int> Bundle::hold_copy(int fd) {
    sys::Fd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
    if (!copy.valid()) return fail_errno(errno, "duplicate descriptor");
    return hold(std::move(copy));
}

Result<> Bundle::add_bind(const BindMount& bind, const std::string& target, const BundleInputs& inputs, Built& built) {
    const std::string place = fmt::format("m/{}", built.next++);
    std::string source = Bundle::sandbox_dir(inputs.state_dir) + "/" + place;
    sys::DetachedMount mount;
    StubKind kind{};
    StubKind place_kind{};
    if (const auto* host = std::get_if<HostTree>(&bind.tree)) {
        sys::Fd whole = TRY(open_host(host->host_path));
        const sys::Fd fd = TRY(open_below(std::move(whole), bind.subpath));
        mount = TRY(sys::clone_tree(fd.get()));
        kind = place_kind = kind_of(mount.fd());
    } else {
        const std::string bottom = TRY(stub_layer(inputs.state_dir, {}));
        mount = TRY(mount_tree(std::get<sys::OverlayPlan>(bind.tree), bottom));
        // Nobody but us sees this mount yet, so the resolved path cannot change under our feet.
        sys::Fd whole = TRY(mount.duplicate());
        const sys::Fd fd = TRY(open_below(std::move(whole), bind.subpath));
        std::array<char, 4096> resolved{};
        const ssize_t n =
            ::readlink(fmt::format("/proc/self/fd/{}", fd.get()).c_str(), resolved.data(), resolved.size());
        if (n < 0) return fail_errno(errno, "resolve mount source");
        const std::string_view inside(resolved.data(), static_cast<std::size_t>(n));
        if (inside != "/") source += inside;
        kind = kind_of(fd.get());
        place_kind = StubKind::directory;
    }
    if (place_kind == StubKind::directory) {
        plan_.add(InitVerb::make_dir, {place, "755"});
    } else {
        plan_.add(InitVerb::make_file, {place, "644", "0", "0", ""});
    }
    sys::Fd held = TRY(mount.duplicate());
    plan_.add(InitVerb::attach, {std::to_string(hold(std::move(held))), place});
    std::vector<std::string> options{"rbind", "rprivate"};
    if (bind.access == Access::read_only) options.emplace_back("ro");
    options.insert(options.end(), bind.options.begin(), bind.options.end());
    built.mounts.push_back({target, "bind", std::move(source), std::move(options)});
    built.stubs.push_back({target, kind});
    return {};
}

Result<> Bundle::add_mount(const ExtraMount& mount, const std::string& target, const BundleInputs& inputs,
                           Built& built) {
    if (target == "/") return bad_input("a mount cannot replace the root directory");
    if (const auto* bind = std::get_if<BindMount>(&mount)) {
        return add_bind(*bind, target, inputs, built);
    }
    if (const auto* tmpfs = std::get_if<TmpfsMount>(&mount)) {
        std::vector<std::string> options{"nosuid", "nodev"};
        if (tmpfs->size_bytes != 0) options.push_back(fmt::format("size={}", tmpfs->size_bytes));
        if (tmpfs->access == Access::read_only) options.emplace_back("ro");
        built.mounts.push_back({target, "tmpfs", "tmpfs", std::move(options)});
        built.stubs.push_back({target, StubKind::directory});
        return {};
    }
    const auto& file = std::get<FileMount>(mount);
    const std::string place = fmt::format("f{}", built.next++);
    plan_.add(InitVerb::make_file, {place, fmt::format("{:o}", file.mode & 07777), std::to_string(file.uid),
                                    std::to_string(file.gid), file.contents});
    std::vector<std::string> options{"bind", "ro", "nosuid", "nodev"};
    if ((file.mode & 0111) == 0) options.emplace_back("noexec");
    built.mounts.push_back({target, "bind", Bundle::sandbox_dir(inputs.state_dir) + "/" + place, std::move(options)});
    built.stubs.push_back({target, StubKind::file});
    return {};
}

Result<> Bundle::mount_root(const ProcessSpec& spec, const BundleInputs& inputs, const std::vector<Stub>& stubs) {
    sys::DetachedMount mount;
    if (const auto* overlay = std::get_if<sys::OverlayPlan>(&spec.root)) {
        const std::string bottom = TRY(stub_layer(inputs.state_dir, stubs));
        mount = TRY(mount_tree(*overlay, bottom));
        root_is_writable_ = !overlay->upper.empty();
    } else {
        const sys::Fd fd = TRY(open_host(std::get<HostTree>(spec.root).host_path));
        mount = TRY(sys::clone_tree(fd.get()));
        root_is_writable_ = true;
    }
    root_ = TRY(mount.root());
    if (root_is_writable_) stubs_ = TRY(MadeStubs::make(root_, stubs));
    sys::Fd held = TRY(mount.duplicate());
    plan_.add(InitVerb::make_dir, {"rootfs", "755"});
    plan_.add(InitVerb::attach, {std::to_string(hold(std::move(held))), "rootfs"});
    return {};
}

Result<> Bundle::command(const BundleInputs& inputs, bool tty) {
    const std::string dir = Bundle::sandbox_dir(inputs.state_dir);
    plan_.add(InitVerb::runtime_log, {"log"});
    plan_.add(InitVerb::pid_file, {"pid"});
    std::string program = inputs.runtime.program;
    if (inputs.runtime_fd >= 0) program = fmt::format("/proc/self/fd/{}", TRY(hold_copy(inputs.runtime_fd)));
    std::vector<std::string> words{std::move(program), inputs.runtime.program, "--root", dir + "/state", "--log",
                                   dir + "/log",       "--log-format",         "json"};
    if (inputs.runtime.is_crun) words.emplace_back("--cgroup-manager=disabled");
    words.insert(words.end(), {"run", "--bundle", dir, "--pid-file", dir + "/pid"});
    if (tty) {
        plan_.add(InitVerb::console, {"console"});
        words.insert(words.end(), {"--console-socket", dir + "/console"});
    }
    words.push_back(inputs.id);
    plan_.add(InitVerb::execute, std::vector<std::string_view>(words.begin(), words.end()));
    return {};
}

void Bundle::register_emulators(const BundleInputs& inputs, const Emulation& emulation, RuntimeConfig& config) {
    const std::string sandbox = sandbox_dir(inputs.state_dir);
    plan_.add(InitVerb::make_dir, {"sys", "755"});
    plan_.add(InitVerb::mount_sys, {"sys"});
    config.sysfs = sandbox + "/sys";
    Hook hook{.stage = "createContainer",
              .program = inputs.init_program,
              .args = {"cooper-init", kRegisterHandlers, sandbox + "/rootfs"},
              .env = {},
              .timeout_s = {}};
    hook.args.insert(hook.args.end(), emulation.registrations.begin(), emulation.registrations.end());
    config.emulators = std::move(hook);
}

Result<Bundle> Bundle::prepare(const ProcessSpec& spec, const BundleInputs& inputs) {
    if (spec.args.empty()) return bad_input("no command to run");
    if (!spec.cwd.starts_with('/')) return bad_input("working directory {} is not absolute", quoted(spec.cwd));
    if (spec.mounts.size() > kMaxMounts) return bad_input("{} mounts are more than {}", spec.mounts.size(), kMaxMounts);

    Bundle bundle;
    InitPlan& plan = bundle.plan_;
    const std::string sandbox = sandbox_dir(inputs.state_dir);
    if (!inputs.shares_processes) plan.add(InitVerb::mount_proc, {"/proc"});
    if (inputs.runtime.is_crun && !inputs.hybrid_mount.empty()) plan.add(InitVerb::hide, {inputs.hybrid_mount});
    plan.add(InitVerb::mount_tmpfs, {sandbox, "mode=700"});
    plan.add(InitVerb::change_dir, {sandbox});
    plan.add(InitVerb::make_dir, {"m", "755"});

    Built built;
    const auto add_etc_file = [&](const char* target, const char* place, const std::string& text) {
        plan.add(InitVerb::make_file, {place, "644", "0", "0", text});
        built.mounts.push_back({target, "bind", sandbox + "/" + place, {"bind", "ro", "nosuid", "noexec", "nodev"}});
        built.stubs.push_back({target, StubKind::file});
    };
    const std::map<std::string, const ExtraMount*> extras = by_target(spec);
    if (!extras.contains("/etc/resolv.conf")) add_etc_file("/etc/resolv.conf", "resolv.conf", inputs.resolv_conf);
    if (!extras.contains("/etc/hosts")) add_etc_file("/etc/hosts", "hosts", inputs.hosts);
    for (const auto& [target, mount] : extras) {
        TRY_CONTEXT(bundle.add_mount(*mount, target, inputs, built), "mount {}", quoted(target));
    }
    Emulation emulation;
    if (inputs.emulators != nullptr)
        emulation = inputs.emulators->for_step(spec.architecture, Emulators::Binding::possible);
    if (!emulation.bound.empty() && !extras.contains(emulation.bound)) {
        TRY(bundle.add_bind({.tree = HostTree{emulation.bound}, .subpath = {}, .target = {}, .options = {}},
                            emulation.bound, inputs, built));
    }
    // What lies below another mount gets its stub in that mount, from the runtime.
    std::vector<Stub> stubs;
    for (const char* target : kStandardTargets) stubs.push_back({target, StubKind::directory});
    for (const Stub& stub : built.stubs) {
        const auto covers = [&stub](const auto& other) { return is_below(stub.path, other); };
        const bool covered = std::any_of(kStandardTargets.begin(), kStandardTargets.end(), covers) ||
                             std::any_of(built.stubs.begin(), built.stubs.end(),
                                         [&covers](const Stub& other) { return covers(other.path); });
        if (!covered) stubs.push_back(stub);
    }
    TRY(bundle.mount_root(spec, inputs, stubs));
    RuntimeConfig config{
        .spec = spec, .user = {}, .home = {}, .hostname = hostname_of(spec), .mounts = std::move(built.mounts)};
    config.user = TRY(resolve_user(bundle.root_, spec.user));
    for (const gid_t group : spec.extra_groups) config.user.groups.push_back(group);
    config.home = TRY(home_of(bundle.root_, config.user.uid));
    if (bundle.root_is_writable_) TRY(make_cwd(bundle.root_, spec.cwd, config.user));
    config.seccomp =
        inputs.runtime.is_crun && !seccomp_filter_base64().empty() ? SeccompForm::filter : SeccompForm::profile;
    config.cgroup_mount = inputs.cgroup_mount;
    config.cgroup_namespace = inputs.cgroup_mount;
    config.shares_processes = inputs.shares_processes;
    config.may_make_devices = inputs.guards_devices || sys::in_user_namespace();
    for (const std::string& file : inputs.cgroup_files) plan.add(InitVerb::join_cgroup, {file});
    if (!inputs.thaw_file.empty()) plan.add(InitVerb::thaw_at_end, {inputs.thaw_file});
    if (inputs.network_fd >= 0) {
        plan.add(InitVerb::enter_network, {std::to_string(TRY(bundle.hold_copy(inputs.network_fd)))});
    }
    // A program may be for another machine than it was said.
    if (inputs.emulators != nullptr && emulation.bound.empty() && emulation.registrations.empty()) {
        if (const auto foreign = foreign_architecture(bundle.root_, spec)) {
            emulation.registrations = inputs.emulators->for_step(*foreign, Emulators::Binding::too_late).registrations;
        }
    }
    if (!emulation.registrations.empty()) bundle.register_emulators(inputs, emulation, config);
    plan.add(InitVerb::make_file, {"config.json", "600", "0", "0", make_runtime_config(config)});
    TRY(bundle.command(inputs, spec.tty));
    return bundle;
}

void Bundle::finish() {
    if (root_is_writable_ && root_.valid()) stubs_.remove(root_);
    root_ = sys::RootedDir();
    fds_.clear();
}

}  // namespace cooper::run
