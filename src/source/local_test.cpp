#include "source/local.hpp"

#include <cstdlib>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace cooper::source {
namespace {

class LocalContextTest : public ::testing::Test {
protected:
    void SetUp() override {
        std::string pattern = ::testing::TempDir() + "cooper-local-XXXXXX";
        ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
        host_ = pattern;
        ASSERT_EQ(::mkdir((host_ + "/c").c_str(), 0755), 0);
    }
    void TearDown() override { EXPECT_TRUE(sys::remove_tree_at(AT_FDCWD, host_)); }
    void write(const std::string& name, const std::string& data) const {
        const sys::Fd fd(::open((host_ + "/c/" + name).c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
        ASSERT_TRUE(sys::write_all(fd.get(), data));
    }
    std::unique_ptr<LocalContext> context(const std::vector<std::string>& exclude) const {
        return std::move(
            *LocalContext::open({.host_path = host_ + "/c", .exclude = exclude, .stat_cache_file = host_ + "/stats"}));
    }
    std::string host_;
};

TEST_F(LocalContextTest, RemembersAcrossProcessesAndSeesExcludedFilesNot) {
    write("a", "1");
    write("b", "2");
    std::string all;
    {
        auto first = context({});
        all = first->digest({}, {})->to_string();
    }
    struct stat saved{};
    ASSERT_EQ(::stat((host_ + "/stats").c_str(), &saved), 0);
    {
        auto some = context({"b"});
        EXPECT_NE(some->digest({}, {})->to_string(), all);
        const std::vector<layer::ContentSelector> b{{.path = "/b"}};
        EXPECT_EQ(some->digest(b, {}).error().to_string(), "\"/b\": not found");
    }
    auto again = context({});
    EXPECT_EQ(again->digest({}, {})->to_string(), all);
    write("b", "3");
    EXPECT_NE(context({})->digest({}, {})->to_string(), all);
}

TEST_F(LocalContextTest, MistakesAreNamed) {
    write("file", "x");
    EXPECT_EQ(LocalContext::open({.host_path = host_ + "/c/file"}).error().to_string(),
              "build context is not a directory: " + host_ + "/c/file");
    EXPECT_EQ(LocalContext::open({.host_path = host_ + "/none"}).error().to_string(),
              "build context does not exist: " + host_ + "/none");
    EXPECT_FALSE(LocalContext::open({.host_path = host_ + "/c", .exclude = {"["}}));
}

TEST_F(LocalContextTest, FollowPathsBringInWhatLinksLeadTo) {
    ASSERT_EQ(::mkdir((host_ + "/c/real").c_str(), 0755), 0);
    write("real/f", "f");
    write("other", "o");
    ASSERT_EQ(::symlink("real", (host_ + "/c/link").c_str()), 0);
    const auto opened =
        LocalContext::open({.host_path = host_ + "/c", .include = {"nothing"}, .follow_paths = {"link/f"}});
    ASSERT_TRUE(opened);
    EXPECT_EQ(**(*opened)->tree()->read_file("/link/f", 10), "f");
    EXPECT_FALSE(*(*opened)->tree()->find("/other", snapshot::FollowLast::no));
}

}  // namespace
}  // namespace cooper::source
