#include "sys/process.hpp"

#include "sys/file_lock.hpp"
#include "sys/mount.hpp"
#include "sys/namespaces.hpp"
#include "sys/temp_dir.hpp"
#include "sys/terminal.hpp"
#include "sys/xattr.hpp"

#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

namespace cooper::sys {
namespace {

SpawnSpec shell(std::string script) {
    SpawnSpec spec;
    spec.program = "/bin/sh";
    spec.args = {"sh", "-c", std::move(script)};
    return spec;
}

TempDir fresh_dir() {
    auto dir = TempDir::create(::testing::TempDir(), "sys-");
    EXPECT_TRUE(dir.has_value());
    return std::move(*dir);
}

TEST(Process, ReportsExitCodesAndSignals) {
    auto child = Child::spawn(shell("exit 3"));
    ASSERT_TRUE(child.has_value());
    EXPECT_EQ(child->wait({})->code, 3);
    auto killed = Child::spawn(shell("kill -TERM $$"));
    EXPECT_EQ(killed->wait({})->code, 128 + SIGTERM);
}

TEST(Process, PlacesDescriptorsThatCross) {
    auto first = make_pipe();
    auto second = make_pipe();
    SpawnSpec spec = shell("echo one >&8; echo two >&9");
    // Each at the number the other has here.
    const int a = ::dup2(first->write_end.get(), 9);
    const int b = ::dup2(second->write_end.get(), 8);
    spec.fds = {{8, a}, {9, b}};
    auto child = Child::spawn(spec);
    ::close(8);
    ::close(9);
    ASSERT_TRUE(child.has_value());
    EXPECT_EQ(child->wait({})->code, 0);
    first->write_end = Fd();
    second->write_end = Fd();
    EXPECT_EQ(read_to_end(first->read_end.get(), 100).value_or(""), "one\n");
    EXPECT_EQ(read_to_end(second->read_end.get(), 100).value_or(""), "two\n");
}

TEST(Process, MissingProgramIsNotFound) {
    SpawnSpec spec;
    spec.program = "/no/such/program";
    spec.args = {"x"};
    const auto child = Child::spawn(spec);
    ASSERT_FALSE(child.has_value());
    EXPECT_EQ(child.error().code(), Code::not_found);
}

TEST(Process, StoppedWaitKills) {
    StopSource source;
    source.request_stop();
    auto child = Child::spawn(shell("sleep 1000"));
    const pid_t pid = child->pid();
    const auto status = child->wait(source.get_token());
    ASSERT_FALSE(status.has_value());
    EXPECT_TRUE(status.error().is_cancelled());
    EXPECT_EQ(::kill(pid, 0), -1);
}

TEST(Process, IgnoredSignalsAreNotInherited) {
    const auto before = ::signal(SIGPIPE, SIG_IGN);
    const auto result = run_captured(shell("grep SigIgn /proc/self/status"), "", 1000, {});
    ::signal(SIGPIPE, before);
    ASSERT_TRUE(result.has_value());
    EXPECT_EQ(result->out, "SigIgn:\t0000000000000000\n");
}

TEST(Process, CapturesWithInput) {
    const auto result = run_captured(shell("cat; echo oops >&2; exit 2"), std::string(300'000, 'x'), 1 << 20, {});
    ASSERT_TRUE(result.has_value());
    EXPECT_EQ(result->out.size(), 300'000U);
    EXPECT_EQ(result->err, "oops\n");
    EXPECT_EQ(result->status.code, 2);
    // A reader that does not read is no harm.
    EXPECT_EQ(run_captured(shell("exit 0"), std::string(300'000, 'x'), 100, {})->status.code, 0);
}

TEST(FileLock, ExcludesAndCanBeStopped) {
    const TempDir dir = fresh_dir();
    const std::string path = dir.path() + "/lock";
    auto held = FileLock::acquire(path, LockMode::exclusive, {});
    ASSERT_TRUE(held.has_value());
    EXPECT_FALSE(FileLock::try_acquire(path, LockMode::shared)->has_value());
    StopSource source;
    std::jthread stopper([&source] { source.request_stop(); });
    const auto second = FileLock::acquire(path, LockMode::exclusive, source.get_token());
    ASSERT_FALSE(second.has_value());
    EXPECT_TRUE(second.error().is_cancelled());
    *held = FileLock();
    EXPECT_TRUE(FileLock::try_acquire(path, LockMode::shared)->has_value());
}

TEST(FileLock, WaiterGetsItWhenFreed) {
    const TempDir dir = fresh_dir();
    auto held = FileLock::acquire_at(dir.dir().fd(), "lock", LockMode::exclusive, {});
    std::jthread waiter(
        [&dir] { EXPECT_TRUE(FileLock::acquire_at(dir.dir().fd(), "lock", LockMode::exclusive, {}).has_value()); });
    *held = FileLock();
}

TEST(TempDir, DisappearsWithItsContents) {
    std::string path;
    {
        const TempDir dir = fresh_dir();
        path = dir.path();
        std::filesystem::create_directories(path + "/a/b");
        std::ofstream(path + "/a/b/file") << "x";
    }
    EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(Xattr, RoundTrip) {
    const TempDir dir = fresh_dir();
    std::ofstream(dir.path() + "/file") << "x";
    const Fd fd(::open((dir.path() + "/file").c_str(), O_PATH | O_CLOEXEC));
    if (const auto set = set_xattr(fd.get(), "user.cooper", std::string("a\0b", 3)); !set) {
        GTEST_SKIP() << "no xattrs in " << dir.path() << ": " << set.error().to_string();
    }
    EXPECT_EQ(find_xattr(fd.get(), "user.cooper")->value(), std::string("a\0b", 3));
    EXPECT_EQ(list_xattrs(fd.get())->count("user.cooper"), 1U);
    EXPECT_TRUE(remove_xattr(fd.get(), "user.cooper").has_value());
    EXPECT_TRUE(remove_xattr(fd.get(), "user.cooper").has_value());
    EXPECT_FALSE(find_xattr(fd.get(), "user.cooper")->has_value());
}

TEST(Mount, OverlayIsSeenThroughItsDescriptorOnly) {
    if (!can_mount()) GTEST_SKIP() << "needs root";
    const TempDir dir = fresh_dir();
    OverlayPlan plan{.upper = dir.path() + "/upper", .work = dir.path() + "/work"};
    for (int i = 0; i < 3; i++) {
        plan.lower.push_back(fmt::format("{}/{}", dir.path(), i));
        std::filesystem::create_directories(plan.lower.back());
        std::ofstream(plan.lower.back() + "/top") << i;
    }
    std::filesystem::create_directory(plan.upper);
    std::filesystem::create_directory(plan.work);
    {
        const auto mount = mount_overlay(plan);
        ASSERT_TRUE(mount.has_value()) << mount.error().to_string();
        const auto root = mount->root();
        EXPECT_EQ(root->read_file("/top", 10).value_or(""), "2");
        EXPECT_TRUE(root->make_dirs("/made", 0755).has_value());
        std::ifstream mounts("/proc/self/mountinfo");
        const std::string text((std::istreambuf_iterator<char>(mounts)), std::istreambuf_iterator<char>());
        EXPECT_EQ(text.find(dir.path()), std::string::npos);
    }
    EXPECT_TRUE(std::filesystem::is_directory(plan.upper + "/made"));
    EXPECT_TRUE(mount_overlay(plan).has_value());  // again, after a volatile mount
}

TEST(Mount, AttachedMountsEnd) {
    if (!can_mount()) GTEST_SKIP() << "needs root";
    const TempDir dir = fresh_dir();
    const std::string target = dir.path() + "/target";
    std::filesystem::create_directory(target);
    {
        auto tmpfs = mount_tmpfs(1 << 20, 0700);
        ASSERT_TRUE(tmpfs.has_value());
        const auto attached = std::move(*tmpfs).attach(target);
        ASSERT_TRUE(attached.has_value()) << attached.error().to_string();
        std::ofstream(target + "/file") << "x";
        EXPECT_TRUE(std::filesystem::exists(target + "/file"));
    }
    EXPECT_FALSE(std::filesystem::exists(target + "/file"));
    const auto bind = attach({.source = "/proc", .target = target, .type = "bind", .options = {"ro"}});
    ASSERT_TRUE(bind.has_value()) << bind.error().to_string();
    EXPECT_TRUE(std::filesystem::exists(target + "/self"));
}

TEST(Namespaces, NewNetworkHasOnlyALoopback) {
    if (!can_mount()) GTEST_SKIP() << "needs root";
    const auto fd = make_network_namespace();
    ASSERT_TRUE(fd.has_value());
    std::string links;
    const auto done = in_network_namespace(fd->get(), [&links]() -> Result<> {
        const Fd file(::open("/proc/thread-self/net/dev", O_RDONLY | O_CLOEXEC));
        links = TRY(read_to_end(file.get(), 65536));
        return {};
    });
    ASSERT_TRUE(done.has_value());
    EXPECT_NE(links.find("lo:"), std::string::npos);
    EXPECT_EQ(links.find("eth0:"), std::string::npos);
}

TEST(Terminal, RawModeIsUndone) {
    const Fd master(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
    ASSERT_EQ(::grantpt(master.get()), 0);
    ASSERT_EQ(::unlockpt(master.get()), 0);
    const Fd slave(::open(::ptsname(master.get()), O_RDWR | O_NOCTTY | O_CLOEXEC));
    const auto echoes = [&slave] {
        termios now{};
        ::tcgetattr(slave.get(), &now);
        return (now.c_lflag & ECHO) != 0;
    };
    EXPECT_TRUE(echoes());
    {
        const auto raw = RawMode::enter(slave.get());
        ASSERT_TRUE(raw.has_value());
        EXPECT_FALSE(echoes());
    }
    EXPECT_TRUE(echoes());
    EXPECT_FALSE(is_terminal(-1));
}

}  // namespace
}  // namespace cooper::sys
