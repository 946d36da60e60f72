#include "layer/copy.hpp"

#include "snapshot/live_dir.hpp"

#include <cstdlib>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace cooper::layer {
namespace {

using snapshot::ChainView;
using snapshot::FollowLast;
using snapshot::LayerBuilder;
using snapshot::TreeRef;

class CopyTest : public ::testing::Test {
protected:
    void SetUp() override {
        std::string pattern = ::testing::TempDir() + "cooper-copy-XXXXXX";
        ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
        host_ = pattern;
        for (const char* name : {"src", "base", "up", "up2"}) make_dir(name);
    }
    void TearDown() override { EXPECT_TRUE(sys::remove_tree_at(AT_FDCWD, host_)); }

    std::string host(const std::string& relative) const { return host_ + "/" + relative; }
    void make_dir(const std::string& relative) const {
        ASSERT_EQ(::mkdir(host(relative).c_str(), 0755), 0) << relative;
        ASSERT_EQ(::chmod(host(relative).c_str(), 0755), 0);
    }
    void make_file(const std::string& relative, const std::string& data) const {
        const sys::Fd fd(::open(host(relative).c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
        ASSERT_TRUE(fd.valid()) << relative;
        ASSERT_TRUE(sys::write_all(fd.get(), data));
        const timespec times[2] = {{1'000'000, 0}, {1'000'000, 1}};
        ASSERT_EQ(::futimens(fd.get(), times), 0);
    }
    struct stat info(const std::string& relative) const {
        struct stat st{};
        EXPECT_EQ(::lstat(host(relative).c_str(), &st), 0) << relative;
        return st;
    }
    std::vector<snapshot::LayerDir> layer(const std::string& name) const {
        return std::move(*snapshot::open_layers({{1, host(name)}}));
    }
    TreeRef live() const { return *snapshot::LiveDir::create(std::move(*sys::RootedDir::open_host(host("src"))), {}); }
    TreeRef committed(const std::string& name) const {
        return *ChainView::create(layer(name), ChainView::TopLayer::committed);
    }
    std::unique_ptr<LayerBuilder> builder(const std::string& base, const std::string& upper) const {
        auto made = LayerBuilder::create(base.empty() ? std::vector<snapshot::LayerDir>() : layer(base),
                                         std::move(*sys::RootedDir::open_host(host(upper))));
        EXPECT_TRUE(made);
        return std::move(*made);
    }
    // Copies from src onto base and lists the result, "path" or "path/" per line, or gives the error.
    std::string copied(const CopyOptions& options) {
        auto to = builder("base", "up");
        const auto result = copy(live(), *to, options, {});
        if (!result) return result.error().to_string();
        EXPECT_TRUE(to->finish());
        return listing(*to->view(), "/");
    }
    static std::string listing(const snapshot::Tree& tree, const std::string& path) {
        std::string all;
        const auto found = tree.find(path, FollowLast::no);
        const auto dir = tree.open_dir(**found);
        const auto entries = (*dir)->list();
        for (const auto& entry : *entries) {
            const std::string name = (path == "/" ? "" : path) + "/" + entry.name;
            if (entry.kind == snapshot::Kind::directory) {
                all += name + "/ " + listing(tree, name);
            } else {
                all += name + " ";
            }
        }
        return all;
    }
    void sample() const {
        for (const char* name : {"src/d", "src/d/sub"}) make_dir(name);
        make_file("src/a.txt", "a");
        make_file("src/b.txt", "b");
        make_file("src/d/x", "x");
        make_file("src/d/sub/y.txt", "y");
        ASSERT_EQ(::symlink("a.txt", host("src/l").c_str()), 0);
    }
    // As the Dockerfile frontend asks for COPY.
    static CopyOptions dockerfile(const std::string& source, const std::string& destination) {
        return {.source = source,
                .destination = destination,
                .follow_symlink = true,
                .dir_copy_contents = true,
                .create_dest_path = true,
                .allow_wildcard = true,
                .allow_empty_wildcard = true};
    }
    std::string host_;
};

TEST_F(CopyTest, DestinationRules) {
    sample();
    make_dir("base/dir");
    EXPECT_EQ(copied(dockerfile("/a.txt", "/new")), "/dir/ /new ");
    ASSERT_TRUE(sys::remove_tree_at(AT_FDCWD, host("up")));
    make_dir("up");
    EXPECT_EQ(copied(dockerfile("/a.txt", "/dir")), "/dir/ /dir/a.txt ");
    ASSERT_TRUE(sys::remove_tree_at(AT_FDCWD, host("up")));
    make_dir("up");
    EXPECT_EQ(copied(dockerfile("/*.txt", "/p/q/")), "/dir/ /p/ /p/q/ /p/q/a.txt /p/q/b.txt ");
    EXPECT_EQ(copied(dockerfile("/d", "/dir")),
              "/dir/ /dir/sub/ /dir/sub/y.txt /dir/x /p/ /p/q/ /p/q/a.txt /p/q/b.txt ");
    auto whole = dockerfile("/d", "/dir/sub");
    whole.dir_copy_contents = false;
    EXPECT_EQ(copied(whole),
              "/dir/ /dir/sub/ /dir/sub/d/ /dir/sub/d/sub/ /dir/sub/d/sub/y.txt /dir/sub/d/x /dir/sub/y.txt /dir/x /p/ "
              "/p/q/ /p/q/a.txt /p/q/b.txt ");
    EXPECT_EQ(copied(dockerfile("/missing", "/x")), "/missing: no such file or directory");
    EXPECT_EQ(copied(dockerfile("/d", "/p/q/a.txt")), "cannot copy to non-directory: /p/q/a.txt");
    EXPECT_EQ(copied(dockerfile("/a.txt", "/dir/sub/../../n")).find("error"), std::string::npos);
    auto none = dockerfile("/zz*", "/x");
    none.allow_empty_wildcard = false;
    EXPECT_EQ(copied(none), "/zz* not found");
    auto strict = dockerfile("/a.txt", "/not/there/f");
    strict.create_dest_path = false;
    EXPECT_EQ(copied(strict), "failed to stat /not/there/f: no such file or directory");
}

TEST_F(CopyTest, LinksAreFollowedOrKept) {
    sample();
    EXPECT_EQ(copied(dockerfile("/l", "/file")), "/file ");
    EXPECT_TRUE(S_ISREG(info("up/file").st_mode));
    EXPECT_EQ(copied(dockerfile("/", "/all/")),
              "/all/ /all/a.txt /all/b.txt /all/d/ /all/d/sub/ /all/d/sub/y.txt /all/d/x /all/l /file ");
    EXPECT_TRUE(S_ISLNK(info("up/all/l").st_mode));
}

TEST_F(CopyTest, MetadataModesAndOwners) {
    sample();
    ASSERT_EQ(::chown(host("src/a.txt").c_str(), 9, 9), 0);
    ASSERT_EQ(::chmod(host("src/a.txt").c_str(), 0601), 0);
    ASSERT_EQ(::setxattr(host("src/a.txt").c_str(), "user.k", "v", 1, 0), 0);
    copied(dockerfile("/a.txt", "/one/a"));
    EXPECT_EQ(info("up/one/a").st_uid, 0U);
    EXPECT_EQ(info("up/one/a").st_mode & 07777U, 0601U);
    EXPECT_EQ(info("up/one/a").st_mtim.tv_sec, 1'000'000);
    EXPECT_EQ(info("up/one/a").st_mtim.tv_nsec, 1);
    EXPECT_EQ(info("up/one").st_mode & 07777U, 0755U);
    char value[4];
    EXPECT_EQ(::getxattr(host("up/one/a").c_str(), "user.k", value, sizeof value), 1);

    auto owned = dockerfile("/d", "/two/deep");
    owned.owner = Owner{.uid = 11, .gid = 12};
    owned.mode = 0640;
    owned.timestamp_ns = 5'000'000'000;
    copied(owned);
    for (const char* name : {"up/two", "up/two/deep", "up/two/deep/x", "up/two/deep/sub"}) {
        EXPECT_EQ(info(name).st_uid, 11U) << name;
        EXPECT_EQ(info(name).st_gid, 12U) << name;
        EXPECT_EQ(info(name).st_mode & 07777U, 0640U) << name;
        EXPECT_EQ(info(name).st_mtim.tv_sec, 5) << name;
    }
    auto symbolic = dockerfile("/", "/three");
    symbolic.mode_text = "u=rwX,go=rX";
    copied(symbolic);
    EXPECT_EQ(info("up/three/b.txt").st_mode & 07777U, 0644U);
    EXPECT_EQ(info("up/three/a.txt").st_mode & 07777U, 0755U);
    EXPECT_EQ(info("up/three/d/sub").st_mode & 07777U, 0755U);
    auto bad = dockerfile("/a.txt", "/x");
    bad.mode_text = "u=q";
    EXPECT_EQ(copied(bad), "invalid mode: \"u=q\"");
}

TEST_F(CopyTest, ExistingDirectoriesTopKeepsNestedTakes) {
    sample();
    make_dir("base/t");
    make_dir("base/t/sub");
    make_file("base/t/sub/mine", "m");
    ASSERT_EQ(::chmod(host("base/t").c_str(), 0711), 0);
    ASSERT_EQ(::chmod(host("base/t/sub").c_str(), 0711), 0);
    ASSERT_EQ(::chmod(host("src/d").c_str(), 0700), 0);
    ASSERT_EQ(::chmod(host("src/d/sub").c_str(), 0700), 0);
    EXPECT_EQ(copied(dockerfile("/d", "/t")), "/t/ /t/sub/ /t/sub/mine /t/sub/y.txt /t/x ");
    EXPECT_EQ(info("up/t").st_mode & 07777U, 0711U);
    EXPECT_EQ(info("up/t").st_mtim.tv_sec, info("base/t").st_mtim.tv_sec);
    EXPECT_EQ(info("up/t/sub").st_mode & 07777U, 0700U);
}

TEST_F(CopyTest, KindsInTheWay) {
    sample();
    make_dir("base/x");
    make_file("base/sub", "a file");
    EXPECT_EQ(copied(dockerfile("/d", "/")), "cannot copy to non-directory: /sub");
    make_dir("up/fresh");
    auto replace = dockerfile("/d", "/");
    replace.always_replace = true;
    EXPECT_EQ(copied(replace), "/fresh/ /sub/ /sub/y.txt /x ");
    make_dir("base/y.txt");
    EXPECT_EQ(copied(dockerfile("/d/sub", "/")), "cannot replace to directory /y.txt with file");
}

TEST_F(CopyTest, IncludeAndExcludeMakeDirectoriesLate) {
    sample();
    auto include = dockerfile("/", "/o");
    include.include = {"**/y.txt", "b.*"};
    EXPECT_EQ(copied(include), "/o/ /o/b.txt /o/d/ /o/d/sub/ /o/d/sub/y.txt ");
    auto exclude = dockerfile("/", "/e");
    exclude.exclude = {"d", "!d/sub/y.txt", "l"};
    EXPECT_EQ(copied(exclude).find("/e/ /e/a.txt /e/b.txt /e/d/ /e/d/sub/ /e/d/sub/y.txt /o/"), 0U);
    auto nothing = dockerfile("/d", "/n");
    nothing.include = {"*.none"};
    EXPECT_NE(copied(nothing).find("/n/ /o/"), std::string::npos);
}

TEST_F(CopyTest, HardLinksWithinACopyAndLinksAcrossLayers) {
    sample();
    ASSERT_EQ(::link(host("src/a.txt").c_str(), host("src/d/again").c_str()), 0);
    copied(dockerfile("/", "/live"));
    EXPECT_EQ(info("up/live/a.txt").st_ino, info("up/live/d/again").st_ino);
    EXPECT_NE(info("up/live/a.txt").st_ino, info("src/a.txt").st_ino);

    auto to = builder("", "up2");
    const TreeRef from = committed("src");
    ASSERT_TRUE(copy(from, *to, dockerfile("/", "/linked"), {}));
    EXPECT_EQ(info("up2/linked/b.txt").st_ino, info("src/b.txt").st_ino);
    EXPECT_EQ(to->written().linked, to->written().files - 1);  // all but the symbolic link
    ASSERT_TRUE(copy(from, *to, dockerfile("/", "/second"), {}));
    EXPECT_NE(info("up2/second/b.txt").st_ino, info("src/b.txt").st_ino);
    EXPECT_EQ(info("up2/second/a.txt").st_ino, info("up2/second/d/again").st_ino);
    auto owned = dockerfile("/b.txt", "/owned");
    owned.owner = Owner{.uid = 1, .gid = 1};
    ASSERT_TRUE(copy(from, *to, owned, {}));
    EXPECT_EQ(info("src/b.txt").st_uid, 0U);
    EXPECT_EQ(info("up2/owned").st_uid, 1U);
}

TEST_F(CopyTest, EarlierResultIsLinkedAndChangesAreNoticed) {
    sample();
    EarlierCopy earlier;
    {
        TreeDigester digester(live(), {}, 2);
        ASSERT_TRUE(digester.digest({.path = "/"}, {}));
        auto options = dockerfile("/", "/app");
        options.hashed = &digester;
        CopyManifest manifest;
        options.manifest = &manifest;
        auto to = builder("base", "up");
        ASSERT_TRUE(copy(live(), *to, options, {}));
        ASSERT_TRUE(to->finish());
        earlier.manifest = manifest.table();
    }
    earlier.layer = committed("up");
    make_file("src/d/x", "changed");
    TreeDigester digester(live(), {}, 2);
    ASSERT_TRUE(digester.digest({.path = "/"}, {}));
    auto options = dockerfile("/", "/app");
    options.hashed = &digester;
    options.earlier = &earlier;
    auto to = builder("base", "up2");
    ASSERT_TRUE(copy(live(), *to, options, {}));
    EXPECT_EQ(to->written().linked, 3U);
    EXPECT_EQ(info("up2/app/a.txt").st_ino, info("up/app/a.txt").st_ino);
    EXPECT_EQ(**to->view()->read_file("/app/d/x", 100), "changed");
    EXPECT_EQ(**committed("up")->read_file("/app/d/x", 100), "x");

    make_file("src/d/x", "changed again");
    options.earlier = nullptr;
    options.destination = "/third";
    const auto late = copy(live(), *to, options, {});
    ASSERT_FALSE(late);
    EXPECT_EQ(late.error().to_string(), "/d/x: file changed while the build was reading it");
}

TEST_F(CopyTest, OtherActions) {
    make_dir("base/dir");
    make_file("base/file", "old");
    make_file("base/dir/a.log", "1");
    make_file("base/dir/b.log", "2");
    ASSERT_EQ(::chmod(host("base/file").c_str(), 0600), 0);
    ASSERT_EQ(::symlink("nowhere", host("base/dangling").c_str()), 0);
    auto to = builder("base", "up");
    EXPECT_TRUE(make_directory(*to, {.path = "/file"}));  // there already, as it is
    EXPECT_FALSE(make_directory(*to, {.path = "/no/parent"}));
    EXPECT_TRUE(make_directory(*to, {.path = "/m/n", .mode = 0700, .make_parents = true, .owner = Owner{3, 4}}));
    EXPECT_EQ(info("up/m").st_uid, 3U);
    EXPECT_EQ(info("up/m").st_mode & 07777U, 0700U);
    EXPECT_TRUE(layer::make_file(*to, {.path = "/file", .mode = 0755, .data = "new"}));
    EXPECT_EQ(info("up/file").st_mode & 07777U, 0600U);
    EXPECT_EQ(**to->view()->read_file("/file", 100), "new");
    EXPECT_FALSE(layer::make_file(*to, {.path = "/none/f", .data = ""}));
    EXPECT_FALSE(layer::make_file(*to, {.path = "/dir", .data = ""}));
    EXPECT_TRUE(make_symlink(*to, {.old_path = "/x", .new_path = "/dir/link"}));
    EXPECT_FALSE(make_symlink(*to, {.old_path = "/x", .new_path = "/file"}));
    EXPECT_TRUE(remove(*to, {.path = "/dir/*.log", .allow_wildcard = true}));
    EXPECT_EQ(listing(*to->view(), "/dir"), "/dir/link ");
    EXPECT_TRUE(remove(*to, {.path = "/dir/none*", .allow_wildcard = true}));
    EXPECT_FALSE(remove(*to, {.path = "/dangling"}));
    EXPECT_TRUE(remove(*to, {.path = "/dangling", .allow_not_found = true}));
    EXPECT_FALSE(remove(*to, {.path = "/gone"}));
    EXPECT_FALSE(remove(*to, {.path = "/"}));
    EXPECT_TRUE(remove(*to, {.path = "/m"}));
    EXPECT_EQ(listing(*to->view(), "/"), "/dir/ /dir/link /file ");
    EXPECT_TRUE(to->finish());
}

TEST_F(CopyTest, OwnersByName) {
    make_dir("base/etc");
    make_file("base/etc/passwd", "root:x:0:0::/:\napp:x:1000:1001::/:\n");
    make_file("base/etc/group", "root:x:0:\nstaff:x:50:app\n");
    const TreeRef tree = committed("base");
    const auto owner = [&](std::optional<OwnerName> user, std::optional<OwnerName> group) {
        const auto found = look_up_owner(user, group, tree.get(), tree.get());
        return found ? std::to_string(found->uid) + ":" + std::to_string(found->gid) : found.error().to_string();
    };
    EXPECT_EQ(owner(OwnerName{.name = "app"}, std::nullopt), "1000:1001");
    EXPECT_EQ(owner(OwnerName{.name = "app"}, OwnerName{.name = "staff"}), "1000:50");
    EXPECT_EQ(owner(OwnerName{.id = 7}, std::nullopt), "7:7");
    EXPECT_EQ(owner(OwnerName{.id = 7}, OwnerName{.id = 8}), "7:8");
    EXPECT_EQ(owner(OwnerName{.name = "nobody-here"}, OwnerName{.name = "none"}), "0:0");
}

TEST(ModeText, IsChmods) {
    struct Case {
        const char* text;
        std::uint32_t mode;
        bool dir;
        std::uint32_t expected;
    };
    constexpr Case kCases[] = {
        {"u=rwX,go=rX", 0600, false, 0644}, {"u=rwX,go=rX", 0600, true, 0755}, {"u=rwX,go=rX", 0700, false, 0755},
        {"+x", 0644, false, 0755},          {"a-w", 0666, false, 0444},        {"go=", 0777, false, 0700},
        {"g=u", 0740, false, 0770},         {"u+s,g+s", 0755, false, 06755},   {"+t", 0777, true, 01777},
        {"0755", 0, false, 0755},           {"u-x+w", 0555, false, 0655},      {"o=g", 0750, false, 0755},
    };
    for (const auto& [text, mode, dir, expected] : kCases) {
        const auto result = apply_mode_text(text, mode, dir);
        ASSERT_TRUE(result) << text;
        EXPECT_EQ(*result, expected) << text;
    }
    for (const char* bad : {"", "u", "q+x", "u=q", "u+r,", "99999", "u"})
        EXPECT_FALSE(apply_mode_text(bad, 0, false)) << bad;
}

}  // namespace
}  // namespace cooper::layer
