#include "snapshot/chain_view.hpp"
#include "snapshot/layer_builder.hpp"
#include "snapshot/live_dir.hpp"
#include "snapshot/mount_plan.hpp"

#include <cstdlib>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace cooper::snapshot {
namespace {

class SnapshotTest : public ::testing::Test {
protected:
    void SetUp() override {
        std::string pattern = ::testing::TempDir() + "cooper-snapshot-XXXXXX";
        ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
        host_ = pattern;
    }
    void TearDown() override { EXPECT_TRUE(sys::remove_tree_at(AT_FDCWD, host_)); }

    std::string path(const std::string& relative) const { return host_ + "/" + relative; }
    void dir(const std::string& relative) const { ASSERT_EQ(::mkdir(path(relative).c_str(), 0755), 0) << relative; }
    void file(const std::string& relative, const std::string& data) const {
        const sys::Fd fd(::open(path(relative).c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
        ASSERT_TRUE(fd.valid()) << relative;
        ASSERT_TRUE(sys::write_all(fd.get(), data));
    }
    void link(const std::string& relative, const std::string& target) const {
        ASSERT_EQ(::symlink(target.c_str(), path(relative).c_str()), 0) << relative;
    }
    void whiteout(const std::string& relative) const {
        ASSERT_EQ(::mknod(path(relative).c_str(), S_IFCHR, 0), 0) << relative;
    }
    void opaque(const std::string& relative) const {
        ASSERT_EQ(::setxattr(path(relative).c_str(), "trusted.overlay.opaque", "y", 1, 0), 0) << relative;
    }
    std::vector<LayerDir> layers(const std::vector<std::string>& names) const {
        std::vector<std::pair<std::int64_t, std::string>> paths;
        std::int64_t id = 0;
        for (const auto& name : names) paths.emplace_back(++id, path(name));
        auto opened = open_layers(paths);
        EXPECT_TRUE(opened);
        return std::move(*opened);
    }
    TreeRef chain(const std::vector<std::string>& names) const {
        return *ChainView::create(layers(names), ChainView::TopLayer::committed);
    }
    static std::string names(const Tree& tree, const std::string& where) {
        const auto found = tree.find(where, FollowLast::yes);
        if (!found || !*found) return "missing";
        const auto opened = tree.open_dir(**found);
        if (!opened) return opened.error().to_string();
        std::string all;
        const auto entries = (*opened)->list();
        for (const auto& entry : *entries) all += (all.empty() ? "" : " ") + entry.name;
        return all;
    }
    static std::string text(const Tree& tree, const std::string& where) {
        const auto data = tree.read_file(where, 1 << 20);
        return data && *data ? **data : "missing";
    }
    std::string host_;
};

TEST_F(SnapshotTest, ChainHonoursWhiteoutsOpaqueAndReplacement) {
    for (const char* name : {"1", "1/d", "1/d/sub", "1/gone", "1/o", "1/replaced", "2", "2/d", "2/o", "3", "3/d"})
        dir(name);
    file("1/d/a", "one");
    file("1/d/b", "one");
    file("1/d/sub/x", "x");
    file("1/gone/f", "f");
    file("1/o/hidden", "h");
    file("1/replaced/f", "f");
    file("2/d/a", "two");
    file("2/o/shown", "s");
    opaque("2/o");
    whiteout("2/gone");
    file("2/replaced", "now a file");
    whiteout("3/d/b");
    const TreeRef tree = chain({"1", "2", "3"});
    EXPECT_EQ(names(*tree, "/"), "d o replaced");
    EXPECT_EQ(names(*tree, "/d"), "a sub");
    EXPECT_EQ(names(*tree, "/d/sub"), "x");
    EXPECT_EQ(names(*tree, "/o"), "shown");
    EXPECT_EQ(text(*tree, "/d/a"), "two");
    EXPECT_EQ(text(*tree, "/d/b"), "missing");
    EXPECT_EQ(text(*tree, "/replaced"), "now a file");
    EXPECT_EQ(text(*tree, "/replaced/f"), "missing");
    EXPECT_EQ(text(*tree, "/gone/f"), "missing");
    EXPECT_EQ(names(*empty_tree(), "/"), "");
}

TEST_F(SnapshotTest, ResolutionStaysInside) {
    for (const char* name : {"1", "1/a", "1/a/b"}) dir(name);
    file("1/a/b/f", "f");
    link("1/abs", "/a/b");
    link("1/up", "../../../../../../a");
    link("1/a/rel", "../a/b/.");
    link("1/loop", "loop");
    link("1/dangling", "nowhere/at/all");
    const TreeRef tree = chain({"1"});
    for (const char* where : {"/abs/f", "up/b/f", "/a/rel/f", "/a/../a/./b//f", "/../a/b/f", "/a/rel/../b/f"}) {
        EXPECT_EQ(text(*tree, where), "f") << where;
    }
    EXPECT_EQ((*tree->find("/abs", FollowLast::yes))->path, "/a/b");
    EXPECT_EQ((*tree->find("/abs", FollowLast::no))->node.kind, Kind::symlink);
    EXPECT_FALSE(tree->find("/loop", FollowLast::yes));
    EXPECT_FALSE(*tree->find("/dangling", FollowLast::yes));
    EXPECT_FALSE(*tree->find("/a/b/f/x", FollowLast::yes));
    EXPECT_EQ(*tree->resolve("/abs/new/../x"), "/a/b/x");
    EXPECT_EQ(*tree->resolve("/dangling"), "/nowhere/at/all");
    EXPECT_EQ(*tree->resolve("/"), "/");
}

TEST_F(SnapshotTest, LiveDirHidesWhatPatternsExcludeAndShowsRoot) {
    for (const char* name : {"c", "c/src", "c/node_modules", "c/node_modules/keep", "c/node_modules/drop", "c/out"})
        dir(name);
    file("c/src/main", "m");
    file("c/src/main.o", "o");
    file("c/node_modules/keep/x", "x");
    file("c/node_modules/keep/y", "y");
    file("c/node_modules/drop/z", "z");
    file("c/out/o", "o");
    ASSERT_EQ(::chown(path("c/src/main").c_str(), 7, 8), 0);
    const int socket = ::socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un address{.sun_family = AF_UNIX};
    ASSERT_LT(path("c/s").size(), sizeof address.sun_path);
    path("c/s").copy(address.sun_path, sizeof address.sun_path - 1);
    ASSERT_EQ(::bind(socket, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ::close(socket);
    const TreeRef tree = *LiveDir::create(std::move(*sys::RootedDir::open_host(path("c"))),
                                          {.exclude = {"node_modules", "!node_modules/keep/x", "out", "**/*.o"}});
    EXPECT_EQ(names(*tree, "/"), "node_modules src");
    EXPECT_EQ(names(*tree, "/node_modules"), "keep");
    EXPECT_EQ(names(*tree, "/node_modules/keep"), "x");
    EXPECT_EQ(names(*tree, "/src"), "main");
    EXPECT_EQ(text(*tree, "/out/o"), "missing");
    EXPECT_EQ(text(*tree, "/node_modules/keep/y"), "missing");
    const auto node = (*tree->find("/src/main", FollowLast::no))->node;
    EXPECT_EQ(node.uid, 0U);
    EXPECT_EQ(node.gid, 0U);
    const TreeRef some =
        *LiveDir::create(std::move(*sys::RootedDir::open_host(path("c"))), {.include = {"**/main", "out/o"}});
    EXPECT_EQ(names(*some, "/"), "out src");
    EXPECT_EQ(names(*some, "/src"), "main");
}

TEST_F(SnapshotTest, BuilderCopiesUpReplacesAndRemoves) {
    for (const char* name : {"1", "1/d", "1/d/sub", "1/e", "up"}) dir(name);
    file("1/d/old", "old");
    file("1/d/sub/x", "x");
    file("1/e/f", "f");
    ASSERT_EQ(::chown(path("1/d").c_str(), 5, 6), 0);
    ASSERT_EQ(::chmod(path("1/d").c_str(), 02750), 0);
    ASSERT_EQ(::setxattr(path("1/d").c_str(), "user.note", "hi", 2, 0), 0);
    const timespec times[2] = {{1000, 5}, {2000, 7}};
    ASSERT_EQ(::utimensat(AT_FDCWD, path("1/d").c_str(), times, 0), 0);

    auto builder = std::move(*LayerBuilder::create(layers({"1"}), std::move(*sys::RootedDir::open_host(path("up")))));
    const WritableDirRef d = *builder->open_dir("/d");
    ASSERT_TRUE(d->put_bytes("new", "new", {.uid = 3, .gid = 4, .mode = 0640, .mtime_ns = 42}));
    EXPECT_EQ(d->put_bytes("new", "again", {}).error().code(), Code::already_exists);
    ASSERT_TRUE(d->remove("sub"));
    const WritableDirRef sub = *d->make_dir("sub", {.mode = 0700});
    ASSERT_TRUE(sub->put_symlink("l", "/x", {}));
    ASSERT_TRUE((*builder->root())->remove("e"));
    ASSERT_TRUE(builder->finish());

    EXPECT_EQ(names(*builder->view(), "/"), "d");
    EXPECT_EQ(names(*builder->view(), "/d"), "new old sub");
    EXPECT_EQ(names(*builder->view(), "/d/sub"), "l");
    struct stat st{};
    ASSERT_EQ(::stat(path("up/d").c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 07777U, 02750U);
    EXPECT_EQ(st.st_uid, 5U);
    EXPECT_EQ(st.st_mtim.tv_sec, 2000);
    EXPECT_EQ(st.st_mtim.tv_nsec, 7);
    char value[8];
    EXPECT_EQ(::getxattr(path("up/d").c_str(), "user.note", value, sizeof value), 2);
    EXPECT_EQ(::getxattr(path("up/d/sub").c_str(), "trusted.overlay.opaque", value, sizeof value), 1);
    ASSERT_EQ(::lstat(path("up/e").c_str(), &st), 0);
    EXPECT_TRUE(S_ISCHR(st.st_mode) && st.st_rdev == 0);
    ASSERT_EQ(::lstat(path("up/d/new").c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 07777U, 0640U);
    EXPECT_EQ(st.st_uid, 3U);
    EXPECT_EQ(st.st_gid, 4U);
    EXPECT_EQ(st.st_mtim.tv_nsec, 42);
}

TEST_F(SnapshotTest, LinksShareAnInodeOnlyWhenTheSourceDoes) {
    for (const char* name : {"1", "up"}) dir(name);
    file("1/a", "a");
    ASSERT_EQ(::link(path("1/a").c_str(), path("1/b").c_str()), 0);
    auto builder = std::move(*LayerBuilder::create({}, std::move(*sys::RootedDir::open_host(path("up")))));
    const DirectoryRef from = *chain({"1"})->root();
    const Node node = **from->find("a");
    const int fd = from->link_fd(node);
    ASSERT_GE(fd, 0);
    const WritableDirRef root = *builder->root();
    EXPECT_TRUE(*root->put_link("a", fd, "a", node, from->link_domain(node), 1));
    EXPECT_TRUE(*root->put_link("b", fd, "b", node, from->link_domain(node), 1));
    // Another operation copies the same file again: these are two files.
    EXPECT_FALSE(*root->put_link("c", fd, "a", node, from->link_domain(node), 2));
    struct stat st{};
    ASSERT_EQ(::stat(path("up/a").c_str(), &st), 0);
    EXPECT_EQ(st.st_nlink, 4U);
    // What is being written must not be linked from.
    const DirectoryRef now = *builder->view()->root();
    EXPECT_LT(now->link_fd(**now->find("a")), 0);
}

TEST(MountPlan, ShortensLowerPathsAndKnowsThePage) {
    std::vector<std::string> paths;
    for (int i = 1; i <= 300; ++i) paths.push_back("/var/lib/cooper/layers/" + std::to_string(i) + "/fs");
    const auto plan = plan_overlay("/var/lib/cooper/layers", paths, "/u,p", "/w");
    ASSERT_TRUE(plan);
    EXPECT_EQ(plan->lowers.front(), "300/fs");
    EXPECT_TRUE(plan->options.starts_with("lowerdir=300/fs:299/fs:"));
    EXPECT_TRUE(plan->options.ends_with(",upperdir=/u\\,p,workdir=/w"));
    EXPECT_FALSE(plan_overlay("/", paths, "/u", "/w"));
    EXPECT_FALSE(plan_overlay("/", {}, "", ""));
}

}  // namespace
}  // namespace cooper::snapshot
