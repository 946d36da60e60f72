#include "run/oci_executor.hpp"

#include "base/log.hpp"
#include "base/text.hpp"
#include "run/bundle.hpp"
#include "run/cgroup.hpp"
#include "run/etc_files.hpp"
#include "run/foreign_program.hpp"
#include "run/network.hpp"
#include "run/port_proxy.hpp"
#include "run/runtime_failure.hpp"
#include "run/sealed_program.hpp"
#include "run/step.hpp"
#include "sys/namespaces.hpp"
#include "sys/process.hpp"

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <random>
#include <sys/stat.h>
#include <unistd.h>

namespace cooper::run {
namespace {

Result<Runtime> find_runtime(const std::string& wanted) {
    const auto is_crun = [](const std::string& path) { return path.substr(path.rfind('/') + 1).starts_with("crun"); };
    for (const std::string& name : wanted.empty() ? std::vector<std::string>{"crun", "runc"} : std::vector{wanted}) {
        if (auto path = sys::find_program(name)) return Runtime{*path, is_crun(*path)};
    }
    return fail(Code::failed_precondition, Blame::world, "no OCI runtime found: {}",
                wanted.empty() ? "neither crun nor runc is installed" : wanted)
        .with_hint("install crun (apt-get install crun), or name a runtime with --oci-runtime");
}

std::string own_directory() {
    std::array<char, 4096> path{};
    const ssize_t n = ::readlink("/proc/self/exe", path.data(), path.size());
    const std::string whole(path.data(), n > 0 ? static_cast<std::size_t>(n) : 0);
    const std::size_t slash = whole.rfind('/');
    return slash == std::string::npos ? "" : whole.substr(0, slash);
}

Result<std::string> find_init(const std::string& wanted) {
    const char* from_env = ::getenv("COOPER_INIT");
    const std::string beside = own_directory();
    for (const std::string& path : {wanted, std::string(from_env != nullptr ? from_env : ""), beside + "/cooper-init",
                                    beside + "/../libexec/cooper/cooper-init", beside + "/../lib/cooper/cooper-init"}) {
        if (!path.empty() && ::access(path.c_str(), X_OK) == 0) return path;
    }
    if (auto path = sys::find_program("cooper-init")) return path;
    return fail(Code::failed_precondition, Blame::world, "cooper-init not found beside this program")
        .with_hint("install cooper-init in the same directory as cooper, or set COOPER_INIT to its path");
}

std::unique_ptr<Network> choose_network(const OciExecutorOptions& options) {
    const std::string& wanted = options.network_provider;
    const bool root = ::geteuid() == 0 && !sys::in_user_namespace();
    const bool can_nat = sys::find_program("nft").has_value() || sys::find_program("iptables").has_value();
    if (wanted == "none") return make_missing_network();
    if (wanted == "host") return make_host_network();
    if (wanted == "bridge" || (wanted.empty() && root && can_nat)) {
        return make_bridge_network({.subnet = options.bridge_subnet});
    }
    for (const std::string& name :
         wanted.empty() ? std::vector<std::string>{"slirp4netns", "pasta"} : std::vector{wanted}) {
        if (auto path = sys::find_program(name)) return make_user_network(*path);
    }
    return make_missing_network();
}

Result<> make_directories(const std::string& path) {
    for (std::size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
        const std::string part = path.substr(0, slash);
        if (::mkdir(part.c_str(), 0711) != 0 && errno != EEXIST) return fail_errno(errno, fmt::format("make {}", part));
        if (slash == std::string::npos) return {};
    }
}

class OciExecutor final : public Executor {
public:
    OciExecutor(OciExecutorOptions options, Runtime runtime, std::string init)
        : options_(std::move(options)),
          runtime_(std::move(runtime)),
          init_(std::move(init)),
          emulators_(init_, runtime_.is_crun, options_.emulators),
          cgroups_(CgroupTree::detect(options_.cgroup_parent)),
          bridge_(choose_network(options_)),
          none_(make_none_network()),
          prefix_(fmt::format("cooper-{}-{:08x}", ::getpid(), std::random_device{}())) {
        cgroups_.sweep();
    }

    Result<Exit> run(const ProcessSpec& spec, const Streams& streams, const Stop& stop) override;
    void warm_up(NetworkMode mode) override {
        if (mode == NetworkMode::isolated) bridge_->warm_up();
        if (mode == NetworkMode::none) none_->warm_up();
    }
    std::string describe() override {
        return fmt::format("{}, cgroup {}, {} network", runtime_.program, cgroups_.describe(), bridge_->describe());
    }
    std::vector<std::string> emulated() override { return emulators_.architectures(); }

private:
    bool cannot_run(const std::string& architecture);
    // -1: it is started by its path.
    int runtime_fd() {
        const std::string name = runtime_.program.substr(runtime_.program.rfind('/') + 1);
        if (!name.starts_with("crun") && !name.starts_with("runc")) return -1;
        std::call_once(runtime_copied_, [this] { runtime_copy_ = sealed_copy(runtime_.program); });
        return runtime_copy_ ? runtime_copy_->get() : -1;
    }
    Result<std::unique_ptr<NetworkLease>> acquire_network(NetworkMode mode, const Stop& stop) {
        if (mode == NetworkMode::host) return std::unique_ptr<NetworkLease>();
        return (mode == NetworkMode::none ? *none_ : *bridge_).acquire(stop);
    }
    std::string resolv_conf(NetworkMode mode, const NetworkLease* lease) const {
        std::vector<std::string> servers = options_.dns;
        if (servers.empty() && lease != nullptr) servers = lease->name_servers();
        return make_resolv_conf(read_host_resolv_conf(), mode, servers);
    }

    static Result<std::string> hosts(const ProcessSpec& spec, const NetworkLease* lease) {
        std::vector<ExtraHost> extra = spec.extra_hosts;
        for (ExtraHost& host : extra) {
            if (host.address != "host-gateway") continue;
            host.address = lease != nullptr ? lease->host_address() : "127.0.0.1";
            if (host.address.empty()) {
                return bad_input("extra host {}: this network cannot reach the host", quoted(host.name))
                    .with_hint("give an address instead of host-gateway");
            }
        }
        return make_hosts(hostname_of(spec), extra);
    }

    const OciExecutorOptions options_;
    const Runtime runtime_;
    const std::string init_;
    std::once_flag runtime_copied_;
    std::optional<sys::Fd> runtime_copy_;
    Emulators emulators_;
    const CgroupTree cgroups_;
    const std::unique_ptr<Network> bridge_;
    const std::unique_ptr<Network> none_;
    const std::string prefix_;
    std::atomic<std::uint64_t> count_{0};
};

// For a program on descriptors of the caller's, whose output nobody sees here.
bool OciExecutor::cannot_run(const std::string& architecture) {
    if (architecture == "arm" && own_architecture() == "arm64") return false;
    return !emulators_.may_run(architecture);
}

Result<Exit> OciExecutor::run(const ProcessSpec& spec, const Streams& streams, const Stop& stop) {
    const std::uint64_t number = count_++;
    const std::unique_ptr<NetworkLease> network = TRY(acquire_network(spec.network, stop));
    if (network && spec.security == SecurityMode::insecure) network->spoil();
    const DeviceRule devices = spec.security == SecurityMode::insecure ? DeviceRule::all : DeviceRule::standard;
    const std::string id = fmt::format("{}-{}", prefix_, number);
    const Cgroup cgroup =
        cgroups_.create(spec.cgroup_parent, id, {devices, spec.devices, spec.resources, spec.disk_watched});
    TRY(cgroup.limit(spec.resources));

    BundleInputs inputs{.state_dir = options_.state_dir, .runtime = runtime_, .runtime_fd = runtime_fd(), .id = id};
    inputs.resolv_conf = resolv_conf(spec.network, network.get());
    inputs.hosts = TRY(hosts(spec, network.get()));
    inputs.network_fd = network ? network->namespace_fd() : -1;
    inputs.cgroup_files = cgroup.procs_files();
    inputs.thaw_file = cgroup.thaw_file();
    inputs.hybrid_mount = cgroups_.hybrid_mount();
    inputs.init_program = init_;
    inputs.emulators = &emulators_;
    inputs.shares_processes = options_.shares_processes;
    inputs.cgroup_mount = !cgroup.procs_files().empty();
    inputs.guards_devices = cgroup.guards_devices() || devices == DeviceRule::all;
    Bundle bundle = TRY(Bundle::prepare(spec, inputs));

    PortProxy proxy;
    if (!spec.ports.empty()) {
        if (!network) return bad_input("ports can only be published with a network of the container's own");
        TRY(proxy.start(spec.ports, network->namespace_fd(), network->address()));
    }
    // Looked at now: once the mounts of the step are gone, its links lead nowhere.
    const std::optional<std::string> foreign = foreign_architecture(bundle.root(), spec);
    std::string useless_emulator;
    if (foreign) useless_emulator = emulators_.useless_emulator(*foreign).value_or("");
    if (!useless_emulator.empty() && bundle.root().stat(useless_emulator, sys::Follow::yes)) useless_emulator.clear();
    // crun says on the step's standard error that the kernel refuses its program: its log is closed by then.
    Refusal refusal;
    // And that there is no such program when it is the emulator that is not there.
    bool missing = false;
    Streams watched = streams;
    if (streams.output) {
        watched.output = [&](int stream, std::string_view chunk) {
            const bool of_runtime = chunk.find("exec container process") != std::string_view::npos;
            refusal.refused |= of_runtime && chunk.find("xec format error") != std::string_view::npos;
            missing |= of_runtime && chunk.find("No such file or directory") != std::string_view::npos;
            streams.output(stream, chunk);
        };
    }
    const std::unique_ptr<Freezer> freezer = cgroup.freezer();
    Step step(watched, proxy.ports(), *freezer,
              options_.shares_processes ? Step::Processes::shared : Step::Processes::own);
    const Result<StepEnd> end = step.run(init_, bundle, spec, stop);
    if (!streams.output && foreign) refusal.refused = cannot_run(*foreign);
    if (missing || (!streams.output && end && end->code == 1)) refusal.useless_emulator = useless_emulator;
    auto failure = end ? runtime_failure(*end, spec, foreign, refusal) : std::nullopt;
    bundle.finish();
    if (!end) return end.error();
    if (failure) return std::move(*failure);
    Exit exit;
    exit.status = {end->code, end->code != 0 && cgroup.oom_killed()};
    exit.usage = cgroup.usage();
    return exit;
}

}  // namespace

Result<std::unique_ptr<Executor>> make_oci_executor(OciExecutorOptions options) {
    if (!options.state_dir.starts_with('/')) {
        return fail(Code::internal, Blame::cooper, "the executor's state directory is not absolute: {}",
                    options.state_dir);
    }
    if (!sys::can_mount()) {
        return fail(Code::permission_denied, Blame::world, "running steps needs the right to mount")
            .with_hint("run as root, or as a user with subordinate ids in /etc/subuid and /etc/subgid");
    }
    Runtime runtime = TRY(find_runtime(options.runtime));
    std::string init = TRY(find_init(options.init_program));
    for (const std::string& dir : {options.state_dir, Bundle::sandbox_dir(options.state_dir)})
        TRY(make_directories(dir));
    return std::unique_ptr<Executor>(
        std::make_unique<OciExecutor>(std::move(options), std::move(runtime), std::move(init)));
}

Error exit_error(const ProcessSpec& spec, const ExitStatus& status) {
    std::string text = fmt::format("process {} did not complete successfully: exit code: {}",
                                   quoted(join(spec.args, " ")), status.code);
    if (status.oom_killed) text += ": out of memory";
    return Error(Code::unknown, Blame::user, std::move(text)).with_detail(status);
}

}  // namespace cooper::run
