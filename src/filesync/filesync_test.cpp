#include "filesync/fake_pipe.hpp"
#include "filesync/local_tree.hpp"
#include "filesync/packet.hpp"
#include "filesync/receive.hpp"
#include "filesync/send.hpp"
#include "sys/temp_dir.hpp"
#include "sys/xattr.hpp"

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <thread>
#include <unistd.h>

namespace cooper::filesync {
namespace {

namespace fs = std::filesystem;

class Transfer : public testing::Test {
protected:
    void SetUp() override {
        base_ = sys::TempDir::create("/tmp", "filesync-").value();
        fs::create_directory(from());
        fs::create_directory(to());
    }
    [[nodiscard]] std::string from() const { return base_.path() + "/from"; }
    [[nodiscard]] std::string to() const { return base_.path() + "/to"; }

    static void write(const std::string& path, std::string_view content) {
        fs::create_directories(fs::path(path).parent_path());
        std::ofstream(path, std::ios::binary) << content;
    }
    static std::string read(const std::string& path) {
        std::ifstream in(path, std::ios::binary);
        return {std::istreambuf_iterator<char>(in), {}};
    }
    static struct stat stat_of(const std::string& path) {
        struct stat st{};
        EXPECT_EQ(::lstat(path.c_str(), &st), 0) << path;
        return st;
    }
    [[nodiscard]] std::vector<std::string> received() const {
        std::vector<std::string> names;
        for (const auto& entry : fs::recursive_directory_iterator(to())) {
            names.push_back(entry.path().lexically_relative(to()).string());
        }
        std::sort(names.begin(), names.end());
        return names;
    }

    // As a daemon that is root takes a context, or as a caller who may not set owners.
    ReceiveOptions options() {
        ReceiveOptions options;
        options.adjust = [](Stat& stat) {
            stat.uid = ::geteuid();
            stat.gid = ::getegid();
        };
        return options;
    }

    Result<ReceiveStats> transfer(const ReceiveOptions& options, const LocalPatterns& patterns) {
        FakePipe pipe(3);
        const auto tree = open_local_tree(from(), patterns);
        if (!tree) return tree.error();
        Result<SendStats> sent = SendStats();
        std::jthread sender([&] {
            sent = send(pipe.left(), {{.name = "", .tree = *tree}}, {}, Stop());
            static_cast<void>(pipe.left().close_send());
        });
        const auto dest = sys::RootedDir::open_host(to()).value();
        Result<ReceiveStats> result = receive(pipe.right(), dest, options, Stop());
        sender.join();
        if (result) {
            EXPECT_TRUE(sent) << sent.error().to_string();
        }
        last_sent_ = sent ? *sent : SendStats();
        return result;
    }
    ReceiveStats transfer() {
        auto result = transfer(options(), {});
        EXPECT_TRUE(result) << result.error().to_string();
        return result ? *result : ReceiveStats();
    }

    // A sender that says what it likes.
    Result<ReceiveStats> receive_packets(const std::vector<std::string>& packets) {
        FakePipe pipe(1000);
        for (const auto& packet : packets) EXPECT_TRUE(pipe.left().send(packet));
        EXPECT_TRUE(pipe.left().close_send());
        const auto dest = sys::RootedDir::open_host(to()).value();
        return receive(pipe.right(), dest, options(), Stop());
    }
    std::string failure(const std::vector<std::string>& packets) {
        const auto result = receive_packets(packets);
        EXPECT_FALSE(result);
        return result ? "" : result.error().to_string();
    }

    sys::TempDir base_;
    SendStats last_sent_;
};

std::string offer(const std::string& path, std::uint32_t mode) {
    return stat_packet({.path = path, .mode = mode, .size = 5, .mtime_ns = 1});
}
std::string offer_link(const std::string& path, std::uint32_t mode, const std::string& target) {
    return stat_packet({.path = path, .mode = mode, .mtime_ns = 1, .linkname = target});
}

TEST_F(Transfer, EverythingArrives) {
    write(from() + "/a", "alpha");
    write(from() + "/empty", "");
    write(from() + "/dir/sub/big", std::string(1'000'000, 'x') + "end");
    write(from() + "/dir.txt", "sorted after what is in dir");
    fs::create_directory(from() + "/nothing");
    fs::create_symlink("../a", from() + "/dir/link");
    fs::create_symlink("/absolute/nowhere", from() + "/dangling");
    ::chmod((from() + "/a").c_str(), 04751);
    ASSERT_EQ(::mkfifo((from() + "/fifo").c_str(), 0640), 0);
    const timespec times[2] = {{.tv_sec = 1'000'000, .tv_nsec = 7}, {.tv_sec = 1'000'000, .tv_nsec = 7}};
    ::utimensat(AT_FDCWD, (from() + "/a").c_str(), times, 0);
    ::utimensat(AT_FDCWD, (from() + "/dir").c_str(), times, 0);
    const ReceiveStats stats = transfer();
    EXPECT_EQ(received(), (std::vector<std::string>{"a", "dangling", "dir", "dir.txt", "dir/link", "dir/sub",
                                                    "dir/sub/big", "empty", "fifo", "nothing"}));
    EXPECT_EQ(stats.entries, 10U);
    EXPECT_EQ(stats.received, 4U);
    EXPECT_EQ(stats.bytes, 5U + 1'000'003 + 27);
    EXPECT_EQ(read(to() + "/dir/sub/big"), std::string(1'000'000, 'x') + "end");
    EXPECT_EQ(fs::read_symlink(to() + "/dir/link"), "../a");
    EXPECT_EQ(fs::read_symlink(to() + "/dangling"), "/absolute/nowhere");
    EXPECT_EQ(stat_of(to() + "/a").st_mode & 07777U, 04751U);
    EXPECT_TRUE(S_ISFIFO(stat_of(to() + "/fifo").st_mode));
    for (const char* name : {"/a", "/dir"}) {
        EXPECT_EQ(stat_of(to() + name).st_mtim.tv_sec, 1'000'000) << name;
        EXPECT_EQ(stat_of(to() + name).st_mtim.tv_nsec, 7) << name;
    }
}

TEST_F(Transfer, SecondTimeSendsOnlyWhatChanged) {
    write(from() + "/same", "same");
    write(from() + "/changed", "before");
    write(from() + "/dir/gone", "x");
    write(from() + "/gone_too/deep/file", "x");
    fs::create_symlink("same", from() + "/link");
    transfer();
    const auto same = stat_of(to() + "/same").st_ino;
    const auto link = stat_of(to() + "/link").st_ino;
    write(from() + "/changed", "after!");
    fs::remove(from() + "/dir/gone");
    fs::remove_all(from() + "/gone_too");
    const ReceiveStats stats = transfer();
    EXPECT_EQ(stats.received, 1U);
    EXPECT_EQ(last_sent_.requested, 1U);
    EXPECT_EQ(stats.removed, 2U);
    EXPECT_EQ(received(), (std::vector<std::string>{"changed", "dir", "link", "same"}));
    EXPECT_EQ(read(to() + "/changed"), "after!");
    EXPECT_EQ(stat_of(to() + "/same").st_ino, same);
    EXPECT_EQ(stat_of(to() + "/link").st_ino, link);
}

TEST_F(Transfer, ModeOrTimeAloneIsAChange) {
    write(from() + "/mode", "1");
    write(from() + "/time", "2");
    transfer();
    ::chmod((from() + "/mode").c_str(), 0755);
    fs::last_write_time(from() + "/time", fs::file_time_type::clock::now() - std::chrono::hours(5));
    EXPECT_EQ(transfer().received, 2U);
    EXPECT_EQ(transfer().received, 0U);
}

TEST_F(Transfer, CompareNoneAsksForEverything) {
    write(from() + "/file", "1");
    transfer();
    ReceiveOptions all = options();
    all.compare = Compare::none;
    EXPECT_EQ(transfer(all, {}).value().received, 1U);
}

TEST_F(Transfer, KindsReplaceEachOther) {
    write(from() + "/a/file", "in dir a");
    write(from() + "/b", "file b");
    fs::create_symlink("b", from() + "/c");
    transfer();
    fs::remove_all(from() + "/a");
    fs::remove(from() + "/b");
    fs::remove(from() + "/c");
    write(from() + "/a", "now a file");
    fs::create_symlink("a", from() + "/b");
    write(from() + "/c/d", "now a directory");
    transfer();
    EXPECT_EQ(read(to() + "/a"), "now a file");
    EXPECT_EQ(fs::read_symlink(to() + "/b"), "a");
    EXPECT_EQ(read(to() + "/c/d"), "now a directory");
    EXPECT_EQ(received(), (std::vector<std::string>{"a", "b", "c", "c/d"}));
}

TEST_F(Transfer, MergeKeepsOthers) {
    write(to() + "/mine", "mine");
    write(to() + "/dir/mine", "mine");
    write(to() + "/dir/both", "old");
    write(from() + "/dir/both", "new");
    ReceiveOptions merge = options();
    merge.others = Others::keep;
    merge.compare = Compare::none;  // both were written within one tick of the clock
    ASSERT_TRUE(transfer(merge, {}));
    EXPECT_EQ(received(), (std::vector<std::string>{"dir", "dir/both", "dir/mine", "mine"}));
    EXPECT_EQ(read(to() + "/dir/both"), "new");
}

TEST_F(Transfer, ReplacingDoesNotWriteIntoTheOldFile) {
    write(from() + "/file", "one");
    transfer();
    fs::create_hard_link(to() + "/file", base_.path() + "/elsewhere");
    write(from() + "/file", "other");
    transfer();
    EXPECT_EQ(read(base_.path() + "/elsewhere"), "one");
    EXPECT_EQ(read(to() + "/file"), "other");
}

TEST_F(Transfer, HardLinksStayLinks) {
    write(from() + "/a", "shared");
    fs::create_directory(from() + "/dir");
    fs::create_hard_link(from() + "/a", from() + "/dir/b");
    fs::create_hard_link(from() + "/a", from() + "/z");
    EXPECT_EQ(transfer().received, 1U);
    EXPECT_EQ(stat_of(to() + "/a").st_ino, stat_of(to() + "/z").st_ino);
    EXPECT_EQ(stat_of(to() + "/a").st_ino, stat_of(to() + "/dir/b").st_ino);
    EXPECT_EQ(transfer().received, 0U);
    // The content of all names changes at once.
    write(from() + "/a", "changed");
    EXPECT_EQ(transfer().received, 1U);
    EXPECT_EQ(read(to() + "/dir/b"), "changed");
    EXPECT_EQ(stat_of(to() + "/a").st_ino, stat_of(to() + "/z").st_ino);
    // And the names part.
    fs::remove(from() + "/z");
    fs::copy_file(from() + "/a", from() + "/z");
    fs::last_write_time(from() + "/z", fs::last_write_time(from() + "/a"));
    transfer();
    EXPECT_NE(stat_of(to() + "/a").st_ino, stat_of(to() + "/z").st_ino);
    EXPECT_EQ(read(to() + "/z"), "changed");
}

TEST_F(Transfer, HardLinkWhoseFirstNameIsExcludedIsAFile) {
    write(from() + "/a", "shared");
    fs::create_hard_link(from() + "/a", from() + "/b");
    fs::create_hard_link(from() + "/a", from() + "/c");
    ASSERT_TRUE(transfer(options(), {.include = {}, .exclude = {"a"}, .follow_paths = {}}));
    EXPECT_EQ(received(), (std::vector<std::string>{"b", "c"}));
    EXPECT_EQ(read(to() + "/b"), "shared");
    EXPECT_EQ(stat_of(to() + "/b").st_ino, stat_of(to() + "/c").st_ino);
}

TEST_F(Transfer, ExtendedAttributes) {
    write(from() + "/file", "x");
    const sys::Fd file(::open((from() + "/file").c_str(), O_RDONLY));
    if (!sys::set_xattr(file.get(), "user.color", "blue")) GTEST_SKIP() << "no extended attributes here";
    transfer();
    const sys::Fd copy(::open((to() + "/file").c_str(), O_RDONLY));
    EXPECT_EQ(sys::find_xattr(copy.get(), "user.color").value(), "blue");
}

TEST_F(Transfer, ManyFilesThroughANarrowPipe) {
    for (int i = 0; i < 1000; ++i) write(from() + "/d" + std::to_string(i % 17) + "/" + std::to_string(i), "n");
    EXPECT_EQ(transfer().received, 1000U);
    EXPECT_EQ(transfer().received, 0U);
}

// Ends of files are sent ahead while there are others to end; the pipe holds back what is sent ahead.
TEST_F(Transfer, TheLastEndsWaitForNoOther) {
    for (int i = 0; i < 8; ++i) write(from() + "/" + std::to_string(i), "n");
    ReceiveOptions everything = options();
    everything.compare = Compare::none;
    for (int i = 0; i < 40; ++i) ASSERT_EQ(transfer(everything, {}).value().received, 8U);
}

TEST_F(Transfer, SeveralTreesHaveDirectoriesOfTheirOwnAndOneTime) {
    write(from() + "/file", "x");
    const auto tree = open_local_tree(from(), {}).value();
    FakePipe pipe(3);
    std::jthread sender([&] {
        EXPECT_TRUE(send(pipe.left(), {{.name = "linux_amd64", .tree = tree}, {.name = "linux_arm64", .tree = tree}},
                         {.epoch_seconds = 12345}, Stop()));
        static_cast<void>(pipe.left().close_send());
    });
    ASSERT_TRUE(receive(pipe.right(), sys::RootedDir::open_host(to()).value(), options(), Stop()));
    EXPECT_EQ(received(),
              (std::vector<std::string>{"linux_amd64", "linux_amd64/file", "linux_arm64", "linux_arm64/file"}));
    EXPECT_EQ(stat_of(to() + "/linux_arm64").st_mtim.tv_sec, 12345);
    EXPECT_EQ(stat_of(to() + "/linux_amd64/file").st_mtim.tv_sec, 12345);
}

TEST_F(Transfer, MetadataOnlyListsAllAndMakesSome) {
    write(from() + "/data", "1");
    write(from() + "/dir/file1", "file1");
    write(from() + "/dir/file2", "2");
    write(from() + "/dir/other/x", "3");
    write(from() + "/foo", "4");
    write(to() + "/dir/stale", "old");
    ReceiveOptions some = options();
    some.materialize = [](std::string_view path) { return path == "dir/file1"; };
    ASSERT_TRUE(transfer(some, {}));
    EXPECT_EQ(received(), (std::vector<std::string>{".fsutil-metadata", "dir", "dir/file1"}));
    std::string list = read(to() + "/.fsutil-metadata");
    std::vector<std::string> paths;
    while (!list.empty()) {
        std::uint32_t size = 0;
        ASSERT_GE(list.size(), 4U);
        std::memcpy(&size, list.data(), 4);
        ASSERT_GE(list.size(), 4 + size);
        paths.push_back(parse_stat(std::string_view(list).substr(4, size)).value().path);
        list.erase(0, 4 + size);
    }
    EXPECT_EQ(paths,
              (std::vector<std::string>{"data", "dir", "dir/file1", "dir/file2", "dir/other", "dir/other/x", "foo"}));
}

TEST_F(Transfer, StoppedInTheMiddle) {
    write(from() + "/file", std::string(1000, 'x'));
    FakePipe pipe(1);
    StopSource stop;
    std::jthread stopper([&] {
        // The receiver has sent its request once this message is here; nobody answers.
        static_cast<void>(pipe.left().send(offer("file", 0644)));
        EXPECT_EQ(parse_packet(pipe.left().receive().value().value()).value().type, PacketType::request);
        stop.request_stop();
    });
    const auto result = receive(pipe.right(), sys::RootedDir::open_host(to()).value(), options(), stop.get_token());
    ASSERT_FALSE(result);
    EXPECT_TRUE(result.error().is_cancelled());
    EXPECT_TRUE(received().empty());
}

TEST_F(Transfer, SenderStoppedWhileNobodyReads) {
    for (int i = 0; i < 100; ++i) write(from() + "/" + std::to_string(i), "x");
    const auto tree = open_local_tree(from(), {}).value();
    FakePipe pipe(1);
    StopSource stop;
    std::jthread stopper([&] {
        static_cast<void>(pipe.right().receive());
        stop.request_stop();
    });
    const auto result = send(pipe.left(), {{.name = "", .tree = tree}}, {}, stop.get_token());
    ASSERT_FALSE(result);
    EXPECT_TRUE(result.error().is_cancelled());
}

TEST_F(Transfer, UnfinishedFileLeavesTheOldOne) {
    write(to() + "/file", "old");
    EXPECT_NE(failure({offer("file", 0644), data_packet(0, "ne")}), "");
    EXPECT_EQ(received(), (std::vector<std::string>{"file"}));
    EXPECT_EQ(read(to() + "/file"), "old");
}

TEST_F(Transfer, ErrorsAreTold) {
    EXPECT_EQ(failure({error_packet("disk on fire")}), "error from sender: disk on fire");
    const auto tree = open_local_tree(from(), {}).value();
    FakePipe pipe(10);
    ASSERT_TRUE(pipe.right().send(error_packet("no space")));
    EXPECT_EQ(send(pipe.left(), {{.name = "", .tree = tree}}, {}, Stop()).error().to_string(),
              "error from receiver: no space");
}

TEST_F(Transfer, ReceiverTellsWhatFailed) {
    FakePipe pipe(10);
    ASSERT_TRUE(pipe.left().send(offer("../x", 0644)));
    EXPECT_FALSE(receive(pipe.right(), sys::RootedDir::open_host(to()).value(), options(), Stop()));
    const Packet packet = parse_packet(pipe.left().receive().value().value()).value();
    EXPECT_EQ(packet.type, PacketType::error);
}

TEST_F(Transfer, HostilePaths) {
    for (const char* path : {"", "/etc", "..", "../x", "a/../b", "./a", "a//b", "a/", "a/./b"}) {
        SCOPED_TRACE(path);
        EXPECT_NE(failure({offer(path, 0644)}).find("bad path"), std::string::npos);
    }
    EXPECT_NE(failure({offer(std::string("a\0b", 3), 0644)}).find("bad path"), std::string::npos);
    EXPECT_NE(failure({offer(std::string(300, 'x'), 0644)}).find("bad path"), std::string::npos);
    EXPECT_TRUE(received().empty());
}

TEST_F(Transfer, HostileOrder) {
    const auto dir = go_mode::directory | 0755U;
    EXPECT_NE(failure({offer("b", 0644), offer("a", 0644)}).find("out of order"), std::string::npos);
    EXPECT_NE(failure({offer("a", 0644), offer("a", 0644)}).find("out of order"), std::string::npos);
    EXPECT_NE(failure({offer("a.b", dir), offer("a/b", 0644)}).find("out of order"), std::string::npos);
    EXPECT_NE(failure({offer("a/b", 0644)}).find("no directory of this transfer"), std::string::npos);
    EXPECT_NE(failure({offer("a", dir), offer("b", dir), offer("b/c/d", 0644)}).find("no directory"),
              std::string::npos);
    EXPECT_NE(failure({offer("a", 0644), offer("a/b", 0644)}).find("no directory"), std::string::npos);
    EXPECT_NE(failure({end_of_stats_packet(), offer("a", 0644)}).find("after the last"), std::string::npos);
}

TEST_F(Transfer, HostileLinks) {
    write(base_.path() + "/outside/secret", "secret");
    const auto link = go_mode::symlink | 0777U;
    const auto dir = go_mode::directory | 0755U;
    // Below a link that the sender made.
    EXPECT_NE(failure({offer_link("a", link, "../outside"), offer("a/secret", 0644)}).find("no directory"),
              std::string::npos);
    // Below a link that was there before.
    fs::remove_all(to() + "/a");
    fs::create_symlink("../outside", to() + "/a");
    EXPECT_NE(failure({offer("a", dir), offer("a/secret", 0644), data_packet(1, "owned"), data_packet(1, "")}), "");
    EXPECT_EQ(read(base_.path() + "/outside/secret"), "secret");
    EXPECT_TRUE(fs::is_directory(fs::symlink_status(to() + "/a")));
    // Hard links of what is no file of the transfer.
    for (const char* target : {"../outside/secret", "/etc/passwd", "later", "dir", "a"}) {
        SCOPED_TRACE(target);
        const auto text = failure({offer_link("a", link, "../outside/secret"), offer("dir", dir),
                                   offer_link("hard", 0644, target), end_of_stats_packet()});
        EXPECT_NE(text.find("no earlier file"), std::string::npos) << text;
    }
}

TEST_F(Transfer, HostileContent) {
    EXPECT_NE(failure({data_packet(0, "x")}).find("not asked for"), std::string::npos);
    EXPECT_NE(failure({offer("a", go_mode::directory | 0755U), data_packet(0, "x")}).find("not asked for"),
              std::string::npos);
    EXPECT_NE(failure({offer("f", 0644), data_packet(0, "x"), data_packet(0, ""), data_packet(0, "more")})
                  .find("not asked for"),
              std::string::npos);
    EXPECT_NE(failure({fin_packet()}).find("before it was complete"), std::string::npos);
    EXPECT_NE(failure({offer("g", 0644), end_of_stats_packet(), fin_packet()}).find("before it was complete"),
              std::string::npos);
    EXPECT_NE(failure({end_of_stats_packet()}).find("before it was complete"), std::string::npos);
    EXPECT_NE(failure({request_packet(0)}).find("asked for a file"), std::string::npos);
    EXPECT_NE(failure({offer("h", go_mode::directory | go_mode::symlink)}).find("unknown file mode"),
              std::string::npos);
    EXPECT_NE(failure({"\x08\x09"}).find("unknown type"), std::string::npos);
    EXPECT_NE(failure({"\x12\xff"}), "");
}

TEST_F(Transfer, HostileSizes) {
    ReceiveOptions small = options();
    small.max_bytes = 10;
    write(from() + "/f", std::string(11, 'x'));
    EXPECT_EQ(transfer(small, {}).error().code(), Code::resource_exhausted);
    small = options();
    small.max_entries = 2;
    write(from() + "/g", "");
    write(from() + "/h", "");
    EXPECT_EQ(transfer(small, {}).error().code(), Code::resource_exhausted);
}

TEST_F(Transfer, HostileRequests) {
    write(from() + "/file", "x");
    fs::create_directory(from() + "/adir");
    const auto tree = open_local_tree(from(), {}).value();
    for (const auto& requests : std::vector<std::vector<std::uint32_t>>{{7}, {0}, {1, 1}}) {
        FakePipe pipe(100);
        std::jthread other([&] {
            for (int i = 0; i < 3; ++i) static_cast<void>(pipe.right().receive());  // both entries and the end
            for (const auto id : requests) static_cast<void>(pipe.right().send(request_packet(id)));
        });
        const auto result = send(pipe.left(), {{.name = "", .tree = tree}}, {}, Stop());
        ASSERT_FALSE(result);
        EXPECT_EQ(result.error().code(), Code::invalid_argument);
    }
}

TEST_F(Transfer, FileThatMayNotBeReadIsAnError) {
    if (::geteuid() == 0) GTEST_SKIP() << "root reads everything";
    write(from() + "/file", "x");
    ::chmod((from() + "/file").c_str(), 0);
    EXPECT_NE(transfer(options(), {}).error().to_string().find("error from sender"), std::string::npos);
}

TEST(Packet, BytesAreThoseOfProtobuf) {
    EXPECT_EQ(end_of_stats_packet(), "");
    EXPECT_EQ(request_packet(300), std::string("\x08\x01\x18\xac\x02"));
    EXPECT_EQ(data_packet(0, "ab"), std::string("\x08\x02\x22\x02"
                                                "ab"));
    EXPECT_EQ(fin_packet(), "\x08\x03");
    Stat stat{.path = "d", .mode = go_mode::directory | 0755U, .mtime_ns = -1};
    stat.xattrs = {{"user.a", ""}};
    const std::string bytes = stat_packet(stat);
    const Packet packet = parse_packet(bytes).value();
    EXPECT_EQ(packet.stat->path, "d");
    EXPECT_EQ(packet.stat->mode, 0x800001edU);
    EXPECT_EQ(packet.stat->mtime_ns, -1);
    EXPECT_EQ(packet.stat->xattrs, stat.xattrs);
}

}  // namespace
}  // namespace cooper::filesync
