// Runs real containers with crun on a root made of a static busybox. Needs root; skips loudly without.
#include "base/defer.hpp"
#include "base/guarded.hpp"
#include "run/cgroup.hpp"
#include "run/etc_files.hpp"
#include "run/fake_executor.hpp"
#include "run/interactive.hpp"
#include "run/oci_executor.hpp"
#include "run/runtime_config.hpp"
#include "run/sealed_program.hpp"
#include "run/seccomp.hpp"
#include "run/stubs.hpp"
#include "run/user.hpp"
#include "sys/namespaces.hpp"
#include "sys/process.hpp"
#include "sys/temp_dir.hpp"
#include "sys/terminal.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

namespace cooper::run {
namespace {

void put(const std::string& path, std::string_view text) {
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path) << text;
}

// What the containers of these tests see: busybox and two files of users.
void fill_root(const std::string& root) {
    std::filesystem::create_directories(root + "/bin");
    std::filesystem::create_directories(root + "/tmp");
    std::filesystem::copy_file("/usr/bin/busybox", root + "/bin/busybox");
    for (const char* tool :
         {"sh", "cat", "ls", "id", "sleep", "mount", "stat", "nc", "wget", "echo", "env", "ip", "ping"}) {
        std::filesystem::create_symlink("busybox", root + "/bin/" + tool);
    }
    put(root + "/etc/passwd", "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n");
    put(root + "/etc/group", "root:x:0:\napp:x:1001:\naudio:x:29:other,app\nwheel:x:10:app\n");
}

class RunTest : public ::testing::Test {
protected:
    static void SetUpTestSuite() {
        if (::geteuid() != 0) return;
        auto dir = sys::TempDir::create(::testing::TempDir(), "run-");
        ASSERT_TRUE(dir.has_value());
        state_ = new sys::TempDir(std::move(*dir));
        fill_root(state_->path() + "/base");
        auto executor = make_oci_executor({.state_dir = state_->path() + "/state"});
        ASSERT_TRUE(executor.has_value()) << executor.error().to_string();
        executor_ = executor->release();
    }
    static void TearDownTestSuite() {
        delete executor_;
        delete state_;
        executor_ = nullptr;
        state_ = nullptr;
    }
    void SetUp() override {
        if (executor_ == nullptr) GTEST_SKIP() << "needs root";
        auto dir = sys::TempDir::create(state_->path(), "step-");
        ASSERT_TRUE(dir.has_value());
        step_ = std::move(*dir);
        for (const char* name : {"/upper", "/work"}) std::filesystem::create_directory(step_.path() + name);
        overlay_.lower = {state_->path() + "/base"};
        overlay_.upper = step_.path() + "/upper";
        overlay_.work = step_.path() + "/work";
    }

    ProcessSpec spec(std::string script) const {
        ProcessSpec spec;
        spec.args = {"/bin/sh", "-c", std::move(script)};
        spec.root = overlay_;
        spec.network = NetworkMode::none;
        return spec;
    }
    Result<Exit> run(const ProcessSpec& process) {
        out_.clear();
        err_.clear();
        Streams streams;
        streams.output = [this](int stream, std::string_view chunk) { (stream == 1 ? out_ : err_) += chunk; };
        return executor_->run(process, streams, {});
    }
    // Runs a script that must succeed; its output.
    std::string output_of(const ProcessSpec& process) {
        const auto exit = run(process);
        EXPECT_TRUE(exit.has_value()) << exit.error().to_string();
        EXPECT_TRUE(!exit || exit->status.code == 0) << exit->status.code << out_ << err_;
        return out_;
    }
    std::vector<std::string> upper_files() const {
        std::vector<std::string> files;
        for (const auto& entry : std::filesystem::recursive_directory_iterator(overlay_.upper)) {
            files.push_back(entry.path().string().substr(overlay_.upper.size()));
        }
        return files;
    }

    static inline sys::TempDir* state_ = nullptr;
    static inline Executor* executor_ = nullptr;
    sys::TempDir step_;
    sys::OverlayPlan overlay_;
    std::string out_;
    std::string err_;
};

TEST_F(RunTest, ForwardsOutputAndExitCode) {
    const auto exit = run(spec("echo out; echo err >&2; exit 7"));
    ASSERT_TRUE(exit.has_value()) << exit.error().to_string();
    EXPECT_EQ(exit->status.code, 7);
    EXPECT_EQ(out_, "out\n");
    EXPECT_EQ(err_, "err\n");
}

TEST_F(RunTest, LeavesNothingBehindWhenNothingIsWritten) {
    output_of(spec("true"));
    EXPECT_EQ(upper_files(), std::vector<std::string>());
}

TEST_F(RunTest, KeepsWhatIsWritten) {
    output_of(spec("echo x > /made; ls /bin/sh"));
    EXPECT_EQ(upper_files(), std::vector<std::string>{"/made"});
}

TEST_F(RunTest, IsPidOneInItsOwnNamespaces) {
    EXPECT_EQ(output_of(spec("echo $$; cat /proc/sys/kernel/hostname")), "1\nbuildkitsandbox\n");
}

TEST_F(RunTest, MakesHostsAndResolvConf) {
    ProcessSpec process = spec("cat /etc/hosts; test -s /etc/resolv.conf; echo x > /etc/hosts || echo read-only");
    process.extra_hosts = {{"db", "10.1.2.3"}};
    EXPECT_EQ(
        output_of(process),
        "127.0.0.1\tlocalhost buildkitsandbox\n::1\tlocalhost ip6-localhost ip6-loopback\n10.1.2.3\tdb\nread-only\n");
}

TEST_F(RunTest, HasDockersCapabilitiesAndSeccomp) {
    const std::string status = output_of(spec("cat /proc/self/status"));
    EXPECT_NE(status.find("CapEff:\t00000000a80425fb"), std::string::npos) << status;
    EXPECT_NE(status.find("Seccomp:\t2"), std::string::npos);
    const auto denied = run(spec("mount -t tmpfs none /tmp"));
    ASSERT_TRUE(denied.has_value()) << denied.error().to_string();
    EXPECT_EQ(denied->status.code, 1);
    ProcessSpec insecure = spec("mount -t tmpfs none /tmp");
    insecure.security = SecurityMode::insecure;
    output_of(insecure);
}

TEST_F(RunTest, ResolvesUsersInTheRoot) {
    ProcessSpec process = spec("id -u; id -g; id -G");
    process.user = "app";
    EXPECT_EQ(output_of(process), "1000\n1001\n1001 10 29\n");
    process.user = "1000:7";
    EXPECT_EQ(output_of(process), "1000\n7\n7\n");
    process.user = "nobody";
    const auto exit = run(process);
    ASSERT_FALSE(exit.has_value());
    EXPECT_EQ(exit.error().blame(), Blame::user);
}

TEST_F(RunTest, MakesTheWorkingDirectory) {
    ProcessSpec process = spec("pwd; stat -c %u:%a /srv/app");
    process.cwd = "/srv/app";
    process.user = "app";
    EXPECT_EQ(output_of(process), "/srv/app\n1000:755\n");
}

TEST_F(RunTest, MountsWithoutTraces) {
    const std::string host = step_.path() + "/host";
    put(host + "/sub/file", "inside");
    put(step_.path() + "/outside", "secret");
    std::filesystem::create_symlink("../../outside", host + "/escape");
    ProcessSpec process = spec(
        "cat /data/file /run/secrets/key; stat -c %a:%u /run/secrets/key; echo y > /cache/kept; echo x > /data/new || "
        "echo ro; mount | grep -c 'on /scratch type tmpfs'");
    process.mounts = {
        BindMount{HostTree{host}, "sub", "/data", Access::read_only},
        BindMount{HostTree{host}, "", "/cache", Access::read_write},
        TmpfsMount{"/scratch", 1 << 20, Access::read_write},
        FileMount{"pass", "/run/secrets/key", 0440, 1000, 0},
    };
    EXPECT_EQ(output_of(process), "insidepass440:1000\nro\n1\n");
    EXPECT_TRUE(std::filesystem::exists(host + "/kept"));
    EXPECT_EQ(upper_files(), std::vector<std::string>());
    process.mounts = {BindMount{HostTree{host}, "escape", "/data", Access::read_only}};
    EXPECT_FALSE(run(process).has_value());
}

TEST_F(RunTest, BindsAPartOfAnOverlay) {
    put(step_.path() + "/a/dir/one", "1");
    put(step_.path() + "/b/dir/two", "2");
    ProcessSpec process = spec("ls /from; cat /only");
    const sys::OverlayPlan tree{.lower = {step_.path() + "/a", step_.path() + "/b"}};
    process.mounts = {BindMount{tree, "dir", "/from", Access::read_only},
                      BindMount{tree, "dir/two", "/only", Access::read_only}};
    EXPECT_EQ(output_of(process), "one\ntwo\n2");
}

TEST_F(RunTest, MountsBelowALinkedDirectoryAreCleanedUp) {
    std::filesystem::create_directory(overlay_.upper + "/real");
    std::filesystem::create_symlink("real", overlay_.upper + "/linked");
    const auto before = upper_files();
    ProcessSpec process = spec("cat /linked/x/key");
    process.mounts = {FileMount{"k", "/linked/x/key", 0400, 0, 0}};
    EXPECT_EQ(output_of(process), "k");
    EXPECT_EQ(upper_files(), before);
}

TEST_F(RunTest, StdinIsEmpty) { EXPECT_EQ(output_of(spec("cat; echo end")), "end\n"); }

TEST_F(RunTest, MountsManyLayers) {
    for (int i = 0; i < 128; i++) {
        const std::string dir = fmt::format("{}/a-rather-long-name-for-a-layer-directory-{}", step_.path(), i);
        put(dir + "/layer", std::to_string(i));
        overlay_.lower.push_back(dir);
    }
    EXPECT_EQ(output_of(spec("cat /layer")), "127");
}

TEST_F(RunTest, ReportsAMissingProgram) {
    ProcessSpec process = spec("");
    process.args = {"no-such-program"};
    const auto exit = run(process);
    ASSERT_FALSE(exit.has_value());
    ASSERT_NE(exit.error().find_detail<ExitStatus>(), nullptr) << exit.error().to_string();
    EXPECT_EQ(exit.error().find_detail<ExitStatus>()->code, 127);
}

TEST_F(RunTest, CancelKillsEverything) {
    StopSource source;
    Streams streams;
    streams.output = [&source](int, std::string_view) { source.request_stop(); };
    const auto exit =
        executor_->run(spec("trap '' TERM INT; echo ready; sleep 1000 & sleep 1000"), streams, source.get_token());
    ASSERT_FALSE(exit.has_value());
    EXPECT_TRUE(exit.error().is_cancelled());
}

TEST_F(RunTest, SignalsReachTheProcess) {
    Streams streams;
    streams.output = [this](int, std::string_view chunk) { out_ += chunk; };
    Streams::Control* control = nullptr;
    streams.started = [&control](Streams::Control& given) { control = &given; };
    streams.output = [&](int, std::string_view chunk) {
        out_ += chunk;
        if (out_ == "ready\n") control->signal(SIGTERM);
    };
    const auto exit =
        executor_->run(spec("trap 'echo got; exit 3' TERM; echo ready; while :; do sleep 0.05; done"), streams, {});
    ASSERT_TRUE(exit.has_value()) << exit.error().to_string();
    EXPECT_EQ(exit->status.code, 3);
    EXPECT_EQ(out_, "ready\ngot\n");
}

TEST_F(RunTest, HeldUpProcessesDoNothingAndGoOn) {
    ProcessSpec process = spec("i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo $i; done; echo end");
    process.disk_watched = true;
    std::atomic<std::size_t> seen = 0;
    Guarded<Streams::Control*> control;
    Streams streams;
    streams.output = [&](int, std::string_view chunk) {
        out_ += chunk;
        seen += chunk.size();
    };
    streams.started = [&](Streams::Control& given) {
        given.pause();
        *control.lock() = &given;
        control.notify_all();
    };
    std::jthread other([&](const Stop& stop) {
        auto given = control.lock();
        if (!given.wait(stop, [&] { return *given != nullptr; })) return;
        // What was under way when it was held up comes in time.
        std::this_thread::sleep_for(std::chrono::milliseconds(200));
        const std::size_t before = seen;
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
        if (executor_->describe().find("cgroup none") == std::string::npos) {
            EXPECT_EQ(seen, before);
        }
        (*given)->resume();
    });
    const auto exit = executor_->run(process, streams, {});
    ASSERT_TRUE(exit.has_value()) << exit.error().to_string();
    EXPECT_TRUE(out_.ends_with("300\nend\n")) << out_;
}

TEST_F(RunTest, HeldUpProcessesAreEndedAllTheSame) {
    ProcessSpec process = spec("echo ready; sleep 1000 & sleep 1000");
    process.disk_watched = true;
    StopSource source;
    Streams::Control* control = nullptr;
    Streams streams;
    streams.started = [&control](Streams::Control& given) { control = &given; };
    streams.output = [&](int, std::string_view) {
        control->pause();
        source.request_stop();
    };
    const auto exit = executor_->run(process, streams, source.get_token());
    ASSERT_FALSE(exit.has_value());
    EXPECT_TRUE(exit.error().is_cancelled());
}

TEST_F(RunTest, TerminalIsATerminal) {
    ProcessSpec process = spec("test -t 0 && test -t 1 && echo yes $TERM");
    process.tty = true;
    EXPECT_EQ(output_of(process), "yes xterm\r\n");
}

TEST(CgroupTree, ASweepRemovesWhatNobodyHolds) {
    const std::string parent = fmt::format("cooper-test-{}", ::getpid());
    const CgroupTree tree = CgroupTree::detect("/" + parent);
    std::vector<std::filesystem::path> dirs;
    {
        // Its name tells nothing of a program that this process namespace has.
        const Cgroup held = tree.create("", "999999999-of-another-namespace", {});
        for (const std::filesystem::path file : held.procs_files()) dirs.push_back(file.parent_path());
        if (dirs.empty()) GTEST_SKIP() << "no cgroups here";
        tree.sweep();
        EXPECT_TRUE(std::filesystem::exists(dirs.front()));
    }
    EXPECT_FALSE(std::filesystem::exists(dirs.front()));
    ASSERT_TRUE(std::filesystem::create_directory(dirs.front()));
    tree.sweep();
    EXPECT_FALSE(std::filesystem::exists(dirs.front()));
    for (const auto& dir : dirs) ::rmdir(dir.parent_path().c_str());
}

TEST_F(RunTest, SeesMemoryKills) {
    // A parent with a limit, in whatever hierarchy has the memory controller.
    const std::string name = fmt::format("cooper-test-{}", ::getpid());
    std::string parent;
    std::string limit = "/memory.limit_in_bytes";
    if (std::filesystem::exists("/sys/fs/cgroup/memory/memory.limit_in_bytes")) {
        std::ifstream file("/proc/self/cgroup");
        for (std::string line; std::getline(file, line);) {
            if (const auto at = line.find(":memory:"); at != std::string::npos) {
                parent = "/sys/fs/cgroup/memory" + line.substr(at + 8) + "/" + name;
            }
        }
    } else {
        parent = "/sys/fs/cgroup/" + name;
        limit = "/memory.max";
    }
    std::error_code error;
    std::filesystem::create_directory(parent, error);
    std::ofstream(parent + limit) << (24 << 20) << std::flush;
    if (error || !std::filesystem::exists(parent + limit)) GTEST_SKIP() << "no memory controller here";
    ProcessSpec process = spec("busybox tail /dev/zero");
    process.cgroup_parent = "/" + name;
    const auto exit = run(process);
    std::vector<std::filesystem::path> left;  // in every hierarchy
    for (const auto& entry : std::filesystem::recursive_directory_iterator("/sys/fs/cgroup")) {
        if (entry.path().filename() == name) left.push_back(entry.path());
    }
    for (const auto& dir : left) {
        ::rmdir((dir / "cooper").c_str());
        ::rmdir(dir.c_str());
    }
    ASSERT_TRUE(exit.has_value()) << exit.error().to_string();
    EXPECT_EQ(exit->status.code, 137);
    EXPECT_TRUE(exit->status.oom_killed);
    EXPECT_GT(exit->usage.memory_peak_bytes, 1U << 20);
}

TEST_F(RunTest, DevicesAreOutOfReach) {
    const std::string out = output_of(
        spec("busybox mknod /tmp/null c 1 3 && echo x > /tmp/null && echo null works; busybox mknod /tmp/kmsg c 1 11; "
             "cat /tmp/kmsg 2>/dev/null | busybox head -c 1; test -r /dev/null && echo done"));
    EXPECT_EQ(out, "null works\ndone\n");
}

TEST_F(RunTest, ManyStepsAtOnce) {
    std::vector<std::jthread> threads;
    std::array<int, 6> codes{};
    codes.fill(-1);
    for (int i = 0; i < 6; i++) {
        threads.emplace_back([this, i, &codes] {
            ProcessSpec process = spec(fmt::format("exit {}", i));
            process.root = sys::OverlayPlan{.lower = overlay_.lower};
            process.root_access = Access::read_only;
            const auto exit = executor_->run(process, {}, {});
            codes.at(static_cast<std::size_t>(i)) = exit ? exit->status.code : -2;
        });
    }
    threads.clear();
    EXPECT_EQ(codes, (std::array<int, 6>{0, 1, 2, 3, 4, 5}));
}

// A port of the host's that answers everybody with a greeting.
class Greeter {
public:
    Greeter() : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        ::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
        ::listen(socket_.get(), 4);
        socklen_t size = sizeof address;
        ::getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&address), &size);
        port_ = ntohs(address.sin_port);
        thread_ = std::jthread([this](const Stop& stop) {
            while (sys::wait_readable(socket_.get(), stop)) {
                const sys::Fd client(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
                static_cast<void>(sys::write_all(client.get(), "greetings\n"));
            }
        });
    }
    int port() const { return port_; }

private:
    sys::Fd socket_;
    int port_ = 0;
    std::jthread thread_;
};

TEST_F(RunTest, IsolatedNetworkReachesOut) {
    const Greeter greeter;
    executor_->warm_up(NetworkMode::isolated);
    const std::string script = fmt::format(
        "set -- $(ip route | grep default); echo via $2; nc -w 5 outside {} </dev/null; ip route | grep -c eth0",
        greeter.port());
    ProcessSpec process = spec(script);
    process.network = NetworkMode::isolated;
    process.extra_hosts = {{"outside", "host-gateway"}};
    const std::string out = output_of(process);
    EXPECT_NE(out.find("via via\ngreetings\n2\n"), std::string::npos) << out << err_;
}

TEST_F(RunTest, NoneNetworkIsAlone) { EXPECT_EQ(output_of(spec("ip -o link | grep -c LOOPBACK,UP; ip route")), "1\n"); }

TEST_F(RunTest, HostNetworkIsTheHosts) {
    const Greeter greeter;
    ProcessSpec process = spec(fmt::format("nc -w 5 127.0.0.1 {} </dev/null", greeter.port()));
    process.network = NetworkMode::host;
    EXPECT_EQ(output_of(process), "greetings\n");
}

// What a server on the loopback says; empty when nobody answers.
std::string ask(std::uint16_t port) {
    const sys::Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return "";
    return sys::read_to_end(fd.get(), 1000).value_or("");
}

TEST_F(RunTest, PublishedPortsWorkFromTheLoopback) {
    ProcessSpec process = spec("echo hello > /tmp/h; while :; do nc -l -p 8080 < /tmp/h; done");
    process.network = NetworkMode::isolated;
    process.ports = {{.host_address = "127.0.0.1", .container_port = 8080}};
    std::string answer;
    std::jthread client;
    StopSource source;
    Streams streams;
    streams.started = [&](Streams::Control& control) {
        const std::uint16_t port = control.ports().front().host_port;
        client = std::jthread([&, port](const Stop& stop) {
            while (answer.empty() && !stop.stop_requested()) answer = ask(port);
            source.request_stop();
        });
    };
    EXPECT_FALSE(executor_->run(process, streams, source.get_token()).has_value());
    if (client.joinable()) client.join();
    EXPECT_EQ(answer, "hello\n");
}

TEST_F(RunTest, InteractiveTerminal) {
    const sys::Fd master(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
    ASSERT_EQ(::grantpt(master.get()), 0);
    ASSERT_EQ(::unlockpt(master.get()), 0);
    const sys::Fd slave(::open(::ptsname(master.get()), O_RDWR | O_NOCTTY | O_CLOEXEC));
    ASSERT_TRUE(sys::set_window_size(slave.get(), {33, 101}).has_value());
    ProcessSpec process = spec("read line; echo \"<$line>\"; busybox stty size; exit 9");
    process.tty = true;
    process.stdin_mode = StdinMode::forward;
    ASSERT_TRUE(sys::write_all(master.get(), "typed\r").has_value());
    const auto exit = run_interactive(*executor_, process, {slave.get(), slave.get(), slave.get(), {}}, {});
    ASSERT_TRUE(exit.has_value()) << exit.error().to_string();
    EXPECT_EQ(exit->status.code, 9);
    std::array<std::byte, 4096> buffer;
    const auto n = sys::read_some(master.get(), buffer);
    ASSERT_TRUE(n.has_value());
    const std::string shown(as_text(std::span(buffer).first(*n)));
    EXPECT_NE(shown.find("<typed>"), std::string::npos) << shown;
    EXPECT_NE(shown.find("33 101"), std::string::npos) << shown;
}

TEST_F(RunTest, InteractivePipes) {
    auto in = sys::make_pipe();
    auto out = sys::make_pipe();
    ProcessSpec process = spec("cat; exit 4");
    process.stdin_mode = StdinMode::forward;
    ASSERT_TRUE(sys::write_all(in->write_end.get(), "through").has_value());
    in->write_end = sys::Fd();
    const auto exit = run_interactive(*executor_, process, {in->read_end.get(), out->write_end.get(), 2, {}}, {});
    out->write_end = sys::Fd();
    ASSERT_TRUE(exit.has_value()) << exit.error().to_string();
    EXPECT_EQ(exit->status.code, 4);
    EXPECT_EQ(sys::read_to_end(out->read_end.get(), 100).value_or(""), "through");
}

// How many processes have this word in their arguments.
int processes_with(const std::string& word) {
    int count = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
        std::ifstream file(entry.path() / "cmdline");
        const std::string line((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
        if (line.find(word) != std::string::npos) count++;
    }
    return count;
}

// Not a test: the program that SurvivorsDieWithUs kills.
TEST_F(RunTest, DISABLED_Victim) {
    Streams streams;
    streams.stdout_fd = 1;
    static_cast<void>(executor_->run(spec("echo ready; sleep 7654321"), streams, {}));
}

TEST_F(RunTest, NothingOutlivesAKilledProgram) {
    auto out = sys::make_pipe();
    sys::SpawnSpec victim;
    victim.program = "/proc/self/exe";
    victim.args = {"run_test", "--gtest_filter=RunTest.DISABLED_Victim", "--gtest_also_run_disabled_tests"};
    victim.fds = {{1, out->write_end.get()}};
    victim.env = std::vector<std::string>{"TEST_TMPDIR=" + step_.path()};  // ours, so that it is removed
    auto child = sys::Child::spawn(victim);
    ASSERT_TRUE(child.has_value()) << child.error().to_string();
    out->write_end = sys::Fd();
    std::string seen;
    std::array<std::byte, 256> buffer;
    while (seen.find("ready") == std::string::npos) {
        const auto n = sys::read_some(out->read_end.get(), buffer);
        ASSERT_TRUE(n.has_value() && *n > 0) << seen;
        seen += as_text(std::span(buffer).first(*n));
    }
    ASSERT_GT(processes_with("7654321"), 0);
    child->kill_and_wait();
    // The last holder of the pipe is the container itself.
    ASSERT_TRUE(sys::read_to_end(out->read_end.get(), 1 << 20).has_value());
    while (processes_with("7654321") > 0) std::this_thread::yield();
    std::ifstream mounts("/proc/self/mountinfo");
    const std::string text((std::istreambuf_iterator<char>(mounts)), std::istreambuf_iterator<char>());
    EXPECT_EQ(text.find("/state/sandbox"), std::string::npos);
}

TEST(SealedProgram, CanBeRunAndNotBeWritten) {
    const auto copy = sealed_copy("/bin/true");
    ASSERT_TRUE(copy.has_value());
    const std::string path = fmt::format("/proc/self/fd/{}", copy->get());
    EXPECT_FALSE(sys::Fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC)).valid() && ::pwrite(copy->get(), "#!", 2, 0) == 2);
    EXPECT_NE(::ftruncate(copy->get(), 0), 0);
    sys::SpawnSpec spawn;
    spawn.program = path;
    spawn.args = {"true"};
    auto child = sys::Child::spawn(spawn);
    ASSERT_TRUE(child.has_value()) << child.error().to_string();
    const auto end = child->wait(Stop());
    ASSERT_TRUE(end.has_value());
    EXPECT_EQ(end->code, 0);
}

TEST(SealedProgram, OnlyOfPrograms) {
    EXPECT_FALSE(sealed_copy("/no/such/program").has_value());
    EXPECT_FALSE(sealed_copy("/etc").has_value());
    const sys::TempDir dir = *sys::TempDir::create("/tmp", "sealed-");
    put(dir.path() + "/script", "#!/bin/sh\n");
    EXPECT_FALSE(sealed_copy(dir.path() + "/script").has_value());
}

TEST(EtcFiles, LoopbackServersAreReplaced) {
    EXPECT_EQ(make_resolv_conf("search x\nnameserver 127.0.0.1\nnameserver 10.0.0.1\n", NetworkMode::isolated, {}),
              "search x\nnameserver 10.0.0.1\n");
    EXPECT_TRUE(make_resolv_conf("nameserver ::1\n", NetworkMode::none, {}).starts_with("nameserver 8.8.8.8\n"));
    EXPECT_EQ(make_resolv_conf("nameserver 127.0.0.1\n", NetworkMode::host, {}), "nameserver 127.0.0.1\n");
}

TEST(RuntimeConfig, LaterVariablesWin) {
    ProcessSpec spec;
    spec.env = {"A=1", "B=2", "A=3"};
    EXPECT_EQ(effective_env(spec)[0], "A=3");
    EXPECT_EQ(effective_env(spec).size(), 3U);
}

// Interprets the filter as the kernel does, for the instructions we use.
std::uint32_t decide(const std::vector<sock_filter>& program, const seccomp_data& data) {
    std::uint32_t accumulator = 0;
    for (std::size_t at = 0; at < program.size(); at++) {
        const sock_filter& step = program[at];
        switch (step.code) {
            case BPF_LD | BPF_W | BPF_ABS:
                std::memcpy(&accumulator, reinterpret_cast<const char*>(&data) + step.k, sizeof accumulator);
                break;
            case BPF_RET | BPF_K:
                return step.k;
            case BPF_JMP | BPF_JA:
                at += step.k;
                break;
            case BPF_JMP | BPF_JEQ | BPF_K:
                at += accumulator == step.k ? step.jt : step.jf;
                break;
            case BPF_JMP | BPF_JGE | BPF_K:
                at += accumulator >= step.k ? step.jt : step.jf;
                break;
            case BPF_JMP | BPF_JSET | BPF_K:
                at += (accumulator & step.k) != 0 ? step.jt : step.jf;
                break;
            default:
                ADD_FAILURE() << "instruction " << step.code;
                return 0;
        }
    }
    ADD_FAILURE() << "ran off the end";
    return 0;
}

#if defined(__x86_64__)
TEST(Seccomp, FilterAgreesWithTheTable) {
    const auto program = seccomp_filter();
    ASSERT_LT(program.size(), 4096U);
    std::array<std::vector<bool>, 2> allowed{std::vector<bool>(600), std::vector<bool>(600)};
    for (const AllowedSyscall& call : allowed_syscalls()) {
        if (call.x86_64 >= 0) allowed[0].at(static_cast<std::size_t>(call.x86_64)) = true;
        if (call.i386 >= 0) allowed[1].at(static_cast<std::size_t>(call.i386)) = true;
    }
    const std::array<std::vector<int>, 2> special{std::vector<int>{56, 41, 135, 435},
                                                  std::vector<int>{120, 359, 136, 435}};
    for (std::size_t arch = 0; arch < 2; arch++) {
        for (int number = 0; number < 600; number++) {
            if (std::find(special[arch].begin(), special[arch].end(), number) != special[arch].end()) continue;
            const seccomp_data data{number, arch == 0 ? AUDIT_ARCH_X86_64 : AUDIT_ARCH_I386, 0, {}};
            const bool is_allowed = allowed[arch][static_cast<std::size_t>(number)];
            const std::uint32_t expected =
                is_allowed ? SECCOMP_RET_ALLOW : SECCOMP_RET_ERRNO | (number > 466 ? ENOSYS : EPERM);
            EXPECT_EQ(decide(program, data), expected) << arch << " " << number;
        }
    }
}

TEST(Seccomp, LooksAtArguments) {
    const auto program = seccomp_filter();
    const auto call = [&program](int number, std::uint64_t first) {
        return decide(program, seccomp_data{number, AUDIT_ARCH_X86_64, 0, {first}});
    };
    EXPECT_EQ(call(56, 0x11), SECCOMP_RET_ALLOW);
    EXPECT_EQ(call(56, 0x10000000), SECCOMP_RET_ERRNO | EPERM);  // CLONE_NEWUSER
    EXPECT_EQ(call(435, 0), SECCOMP_RET_ERRNO | ENOSYS);
    EXPECT_EQ(call(41, 2), SECCOMP_RET_ALLOW);
    EXPECT_EQ(call(41, 40), SECCOMP_RET_ERRNO | EPERM);
    EXPECT_EQ(call(135, 0xffffffff), SECCOMP_RET_ALLOW);
    EXPECT_EQ(call(135, 0x400000), SECCOMP_RET_ERRNO | EPERM);
    EXPECT_EQ(call(0x40000000, 0), SECCOMP_RET_ERRNO | ENOSYS);
}

TEST(Seccomp, LargeReservationsAreNotSupportedWhereTheDiskIsWatched) {
    const auto free = seccomp_filter();
    const auto watched = seccomp_filter(DiskUse::watched);
    const auto reserve = [](const std::vector<sock_filter>& program, std::uint64_t mode, std::uint64_t length) {
        const std::uint32_t decided =
            decide(program, seccomp_data{285, AUDIT_ARCH_X86_64, 0, {3, mode, 0, length, 0, 0}});
        EXPECT_EQ(decide(program,
                         seccomp_data{324, AUDIT_ARCH_I386, 0, {3, mode, 0, 0, length & 0xffffffffU, length >> 32U}}),
                  decided);
        return decided;
    };
    constexpr std::uint32_t kUnsupported = SECCOMP_RET_ERRNO | EOPNOTSUPP;
    EXPECT_EQ(reserve(free, 0, std::uint64_t{1} << 40U), SECCOMP_RET_ALLOW);
    EXPECT_EQ(reserve(watched, 0, kMaxReservedBytes - 1), SECCOMP_RET_ALLOW);
    EXPECT_EQ(reserve(watched, 0, kMaxReservedBytes), kUnsupported);
    EXPECT_EQ(reserve(watched, 1, kMaxReservedBytes), kUnsupported);
    EXPECT_EQ(reserve(watched, 0, std::uint64_t{1} << 32U), kUnsupported);
    EXPECT_EQ(reserve(watched, 3, std::uint64_t{1} << 40U), SECCOMP_RET_ALLOW);  // punches a hole
    EXPECT_EQ(decide(watched, seccomp_data{1, AUDIT_ARCH_X86_64, 0, {}}), SECCOMP_RET_ALLOW);
}
#endif

TEST(FakeExecutor, HasEffects) {
    FakeExecutor executor;
    executor.on("make all", [](const FakeExecutor::Context& context) {
        context.streams.output(1, context.root_host_path);
        return 4;
    });
    ProcessSpec spec;
    spec.args = {"make", "all"};
    spec.root = HostTree{"/somewhere"};
    std::string out;
    Streams streams;
    streams.output = [&out](int, std::string_view chunk) { out += chunk; };
    EXPECT_EQ(executor.run(spec, streams, {})->status.code, 4);
    EXPECT_EQ(out, "/somewhere");
    spec.args = {"other"};
    EXPECT_EQ(executor.run(spec, streams, {})->status.code, 127);
    EXPECT_EQ(executor.history(), (std::vector<std::string>{"make all", "other"}));
}

}  // namespace
}  // namespace cooper::run
