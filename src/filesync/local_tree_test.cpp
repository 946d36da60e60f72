#include "filesync/local_tree.hpp"

#include "sys/temp_dir.hpp"

#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>

namespace cooper::filesync {
namespace {

namespace fs = std::filesystem;
using Paths = std::vector<std::string>;

class LocalTree : public testing::Test {
protected:
    void SetUp() override { dir_ = sys::TempDir::create("/tmp", "local-tree-").value(); }
    void file(const std::string& name) {
        fs::create_directories(fs::path(dir_.path() + "/" + name).parent_path());
        std::ofstream(dir_.path() + "/" + name) << name;
    }
    void link(const std::string& name, const std::string& target) {
        fs::create_directories(fs::path(dir_.path() + "/" + name).parent_path());
        fs::create_symlink(target, dir_.path() + "/" + name);
    }
    Paths follow(const Paths& paths) {
        const auto tree = open_local_tree(dir_.path(), {}).value();
        const auto result = follow_links(*tree, paths);
        EXPECT_TRUE(result) << result.error().to_string();
        return result ? *result : Paths();
    }
    Paths visible(const LocalPatterns& patterns) {
        const auto tree = open_local_tree(dir_.path(), patterns).value();
        Paths paths;
        collect(*tree->root().value(), "", paths);
        return paths;
    }
    static void collect(const snapshot::Directory& dir, const std::string& prefix, Paths& paths) {
        const auto entries = dir.list().value();
        for (const auto& entry : entries) {
            paths.push_back(prefix + entry.name);
            if (entry.kind == snapshot::Kind::directory) {
                collect(*dir.open_dir(entry.name).value(), prefix + entry.name + "/", paths);
            }
        }
    }
    sys::TempDir dir_;
};

TEST_F(LocalTree, PlainPathsAreKept) {
    file("dir/file");
    EXPECT_EQ(follow({"dir/file", "missing", "dir/other/deep"}), (Paths{"dir/file", "dir/other/deep", "missing"}));
}

TEST_F(LocalTree, LinksAreKeptWithWhatTheyLeadTo) {
    file("real/file");
    link("dir/link", "../real");
    link("abs", "/dir/link");
    EXPECT_EQ(follow({"abs/file"}), (Paths{"abs", "dir/link", "real/file"}));
    EXPECT_EQ(follow({"/abs"}), (Paths{"abs", "dir/link", "real"}));
}

TEST_F(LocalTree, LinksDoNotLeadOut) {
    file("etc/passwd");
    link("out", "../../etc/passwd");
    EXPECT_EQ(follow({"out"}), (Paths{"etc/passwd", "out"}));
}

TEST_F(LocalTree, LoopsEnd) {
    link("a", "b");
    link("b", "a");
    EXPECT_EQ(follow({"a/x", "b"}), (Paths{"a", "b"}));
}

TEST_F(LocalTree, WildcardsStayAndTheirLinksAreFollowed) {
    file("target/x");
    link("dir/l1", "../target");
    link("dir/l2", "/elsewhere");
    link("dir/other", "/not/wanted");
    EXPECT_EQ(follow({"dir/l*"}), (Paths{"dir/l*", "elsewhere", "target"}));
    EXPECT_EQ(follow({"d*r/file"}), (Paths{"d*r/file"}));
}

TEST_F(LocalTree, WhatIsBelowAnotherIsDropped) {
    EXPECT_EQ(follow({"a/b/c", "a", "a/d", "a.b"}), (Paths{"a", "a.b"}));
    EXPECT_EQ(follow({"a", "/"}), Paths{});
}

TEST_F(LocalTree, PatternsLeaveWhatTheySay) {
    file("keep/a");
    file("keep/b.tmp");
    file("drop/c");
    file("drop/d");
    EXPECT_EQ(visible({.include = {"keep"}, .exclude = {"**/*.tmp"}, .follow_paths = {}}), (Paths{"keep", "keep/a"}));
    EXPECT_EQ(visible({.include = {}, .exclude = {"drop", "!drop/d"}, .follow_paths = {}}),
              (Paths{"drop", "drop/d", "keep", "keep/a", "keep/b.tmp"}));
}

TEST_F(LocalTree, FollowedPathsAreIncluded) {
    file("real/file");
    file("other");
    link("link", "real");
    EXPECT_EQ(visible({.include = {}, .exclude = {}, .follow_paths = {"link/file"}}),
              (Paths{"link", "real", "real/file"}));
    EXPECT_EQ(visible({.include = {"other"}, .exclude = {}, .follow_paths = {"link"}}),
              (Paths{"link", "other", "real", "real/file"}));
}

}  // namespace
}  // namespace cooper::filesync
