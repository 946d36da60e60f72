#include "sys/rooted_dir.hpp"

#include <cstdlib>
#include <gtest/gtest.h>
#include <unistd.h>

namespace cooper::sys {
namespace {

class RootedDirTest : public ::testing::Test {
protected:
    void SetUp() override {
        std::string pattern = ::testing::TempDir() + "cooper-sys-XXXXXX";
        ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
        host_ = pattern;
        root_ = std::move(*RootedDir::open_host(host_));
    }
    void TearDown() override { EXPECT_TRUE(remove_tree_at(AT_FDCWD, host_)); }
    std::string host_;
    RootedDir root_;
};

TEST_F(RootedDirTest, LinksCannotLeaveTheRoot) {
    ASSERT_EQ(::symlinkat("/etc/passwd", root_.fd(), "abs"), 0);
    ASSERT_EQ(::symlinkat("../../../../etc/passwd", root_.fd(), "up"), 0);
    for (const char* name : {"abs", "up", "../../etc/passwd"}) {
        const auto opened = root_.open(name, O_RDONLY, Follow::yes, 0);
        ASSERT_FALSE(opened) << name;
        EXPECT_EQ(opened.error().code(), Code::not_found) << name;
    }
    ASSERT_TRUE(root_.make_dirs("/etc", 0755));
    const Fd made = std::move(*root_.open("abs", O_WRONLY | O_CREAT, Follow::yes, 0600));
    EXPECT_EQ(::faccessat(root_.fd(), "etc/passwd", F_OK, 0), 0);
}

TEST_F(RootedDirTest, MakeDirsIgnoresUmaskAndRemoveAllEndsIt) {
    const mode_t old = ::umask(077);
    EXPECT_TRUE(root_.make_dirs("a/b/c", 0755));
    ::umask(old);
    EXPECT_EQ(root_.stat("a/b/c", Follow::no)->st_mode & 07777U, 0755U);
    EXPECT_TRUE(root_.remove_all("a"));
    EXPECT_TRUE(root_.remove_all("a"));
    EXPECT_FALSE(root_.stat("a", Follow::no));
}

TEST_F(RootedDirTest, ReadFileIsBounded) {
    const Fd file = std::move(*root_.open("f", O_WRONLY | O_CREAT, Follow::no, 0644));
    ASSERT_TRUE(write_all(file.get(), "0123456789"));
    EXPECT_EQ(*root_.read_file("f", 10), "0123456789");
    EXPECT_EQ(root_.read_file("f", 9).error().code(), Code::resource_exhausted);
}

}  // namespace
}  // namespace cooper::sys
