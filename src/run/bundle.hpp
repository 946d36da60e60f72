// Bundle: everything one step needs before it can start: its mounts (detached, held by descriptors),
// the runtime's configuration and cooper-init's plan.
#pragma once

#include "base/result.hpp"
#include "run/emulation.hpp"
#include "run/init_plan.hpp"
#include "run/process_spec.hpp"
#include "run/stubs.hpp"
#include "sys/fd.hpp"
#include "sys/mount.hpp"

#include <string>
#include <vector>

namespace cooper::run {

struct Runtime {
    std::string program;
    bool is_crun = true;
};

struct BundleInputs {
    std::string state_dir;
    Runtime runtime;
    int runtime_fd = -1;  // the runtime as a descriptor, -1 = by its path
    std::string id;       // of the container, unique on this host
    std::string resolv_conf;
    std::string hosts;
    int network_fd = -1;  // -1 = the host's
    std::vector<std::string> cgroup_files;
    std::string thaw_file;     // see Cgroup::thaw_file
    std::string hybrid_mount;  // hidden from the runtime when not empty
    bool cgroup_mount = true;
    bool guards_devices = true;
    std::string init_program;        // cooper-init, also a hook of the runtime
    Emulators* emulators = nullptr;  // none = programs for other machines do not run
    bool shares_processes = false;   // no process namespaces of their own: see OciExecutorOptions
};

struct RuntimeConfig;

class Bundle {
public:
    // Fails with bad_input for what the user got wrong (unknown user, missing subpath, …).
    [[nodiscard]] static Result<Bundle> prepare(const ProcessSpec& spec, const BundleInputs& inputs);

    // Where cooper-init mounts the private tmpfs that holds all of it.
    [[nodiscard]] static std::string sandbox_dir(const std::string& state_dir) { return state_dir + "/sandbox"; }

    [[nodiscard]] const InitPlan& plan() const { return plan_; }
    // To be placed at kFirstMountFd and following.
    [[nodiscard]] const std::vector<sys::Fd>& fds() const { return fds_; }
    // The root as the process sees it, without its mounts; until finish().
    [[nodiscard]] const sys::RootedDir& root() const { return root_; }
    // After the process has ended: takes away what was made only for it.
    void finish();

private:
    struct Built;
    Result<> mount_root(const ProcessSpec& spec, const BundleInputs& inputs, const std::vector<Stub>& stubs);
    Result<> add_mount(const ExtraMount& mount, const std::string& target, const BundleInputs& inputs, Built& built);
    Result<> add_bind(const BindMount& bind, const std::string& target, const BundleInputs& inputs, Built& built);
    void register_emulators(const BundleInputs& inputs, const Emulation& emulation, RuntimeConfig& config);
    int hold(sys::Fd fd);
    Result<> command(const BundleInputs& inputs, bool tty);
    Result<int> hold_copy(int fd);

    InitPlan plan_;
    std::vector<sys::Fd> fds_;
    sys::RootedDir root_;
    MadeStubs stubs_;
    bool root_is_writable_ = false;
};

}  // namespace cooper::run
