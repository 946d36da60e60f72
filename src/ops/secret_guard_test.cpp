#include "ops/secret_guard.hpp"

#include "base/clock.hpp"
#include "sys/temp_dir.hpp"

#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <unistd.h>

namespace cooper::ops {
namespace {

const std::string kValue = "s3cr3t-value-of-token";

class GuardTest : public ::testing::Test {
protected:
    std::string check(const SecretGuard& guard) {
        const auto done = guard.check(temp_.dir(), progress_, {});
        return done ? "" : done.error().to_string();
    }
    void write(const std::string& path, const std::string& text) {
        const std::string full = temp_.path() + "/" + path;
        std::filesystem::create_directories(std::filesystem::path(full).parent_path());
        std::ofstream(full) << text;
    }
    sys::TempDir temp_ = std::move(*sys::TempDir::create("/tmp", "guard-"));
    NullProgress silent_;
    SystemClock clock_;
    VertexProgress progress_{silent_, Digest(), clock_};
};

TEST_F(GuardTest, NothingIsFoundWhereNothingIs) {
    SecretGuard guard(OnLeak::fail);
    EXPECT_EQ(check(guard), "");
    guard.add("token", session::Secret(kValue));
    write("a/b", "s3cr3t-value-of-toke");
    EXPECT_EQ(check(guard), "");
}

TEST_F(GuardTest, InAFileWithoutTheLineEnd) {
    SecretGuard guard(OnLeak::fail);
    guard.add("token", session::Secret(kValue + "\n"));
    write("root/.npmrc", "//registry/:_authToken=" + kValue + ";");
    const std::string error = check(guard);
    EXPECT_NE(error.find("\"token\" is in /root/.npmrc"), std::string::npos) << error;
    EXPECT_EQ(error.find(kValue), std::string::npos);
}

TEST_F(GuardTest, AcrossThePiecesOfALargeFile) {
    SecretGuard guard(OnLeak::fail);
    guard.add("token", session::Secret(kValue));
    constexpr std::size_t kMiB = 1U << 20U;
    for (const std::size_t before : {kMiB - 5, kMiB - kValue.size(), kMiB, 2 * kMiB - 1}) {
        write("large", std::string(before, 'x') + kValue + "yy");
        EXPECT_NE(check(guard), "") << before;
    }
    write("large", std::string(3 * kMiB + 7, 'x'));
    EXPECT_EQ(check(guard), "");
}

TEST_F(GuardTest, InNamesAndLinks) {
    SecretGuard guard(OnLeak::fail);
    guard.add("token", session::Secret(kValue));
    write("d/x-" + kValue, "");
    EXPECT_NE(check(guard).find("the name of a file in /d"), std::string::npos);
    std::filesystem::remove_all(temp_.path() + "/d");
    ASSERT_EQ(::symlink(("/x/" + kValue).c_str(), (temp_.path() + "/link").c_str()), 0);
    EXPECT_NE(check(guard).find("the link /link"), std::string::npos);
}

TEST_F(GuardTest, ShortOnesAndAllowedOnesAreNotLookedFor) {
    SecretGuard guard(OnLeak::fail);
    guard.allow("token");
    guard.add("token", session::Secret(kValue));
    guard.add("short", session::Secret("seven77"));
    write("f", kValue + "seven77");
    EXPECT_EQ(check(guard), "");
    SecretGuard quiet(OnLeak::warn);
    quiet.add("token", session::Secret(kValue));
    EXPECT_EQ(check(quiet), "");
    SecretGuard off(OnLeak::allow);
    off.add("token", session::Secret(kValue));
    EXPECT_EQ(check(off), "");
}

TEST_F(GuardTest, InAText) {
    SecretGuard guard(OnLeak::fail);
    guard.add("token", session::Secret(kValue));
    EXPECT_TRUE(guard.check("{}", "the configuration", progress_));
    const auto found = guard.check("Env: A=" + kValue, "the configuration", progress_);
    ASSERT_FALSE(found);
    EXPECT_EQ(found.error().code(), Code::failed_precondition);
}

}  // namespace
}  // namespace cooper::ops
