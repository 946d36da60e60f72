#include "base/bytes.hpp"
#include "base/clock.hpp"
#include "base/digest.hpp"
#include "base/result.hpp"
#include "base/text.hpp"
#include "base/work_pool.hpp"

#include <atomic>
#include <gtest/gtest.h>

namespace cooper {
namespace {

Result<int> positive(int value) {
    if (value < 0) return bad_input("negative: {}", value);
    return value;
}
Result<int> twice(int value) {
    const int checked = TRY_CONTEXT(positive(value), "twice");
    return 2 * checked;
}

TEST(Result, TryPassesValuesAndErrors) {
    EXPECT_EQ(*twice(4), 8);
    const auto failed = twice(-4);
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().to_string(), "twice: negative: -4");
    EXPECT_EQ(failed.error().code(), Code::invalid_argument);
}

TEST(Result, ErrnoKeepsItsNumber) {
    const Error error = fail_errno(ENOENT, "open x");
    EXPECT_EQ(error.code(), Code::not_found);
    ASSERT_NE(error.find_detail<Errno>(), nullptr);
    EXPECT_EQ(error.find_detail<Errno>()->value, ENOENT);
    EXPECT_EQ(error.to_string(), "open x: No such file or directory");
}

TEST(Digest, ParsesWhatItPrints) {
    const std::string text = "sha256:" + std::string(62, 'a') + "0f";
    const auto digest = Digest::parse(text);
    ASSERT_TRUE(digest);
    EXPECT_EQ(digest->to_string(), text);
    EXPECT_FALSE(Digest::parse("sha256:zz"));
    EXPECT_FALSE(Digest::parse("md5:" + std::string(32, 'a')));
    EXPECT_FALSE(Digest::parse("sha256:" + std::string(64, 'A')));
}

TEST(Text, Basics) {
    EXPECT_EQ(split("a,b,,c", ',').size(), 4U);
    EXPECT_EQ(trim(" \t x y\r\n"), "x y");
    EXPECT_EQ(nearest("COPPY", {"COPY", "ADD"}).value_or(""), "COPY");
    EXPECT_FALSE(nearest("xyzzy", {"COPY", "ADD"}));
    EXPECT_EQ(human_size(17), "17B");
    EXPECT_EQ(human_size(1'234'567), "1.2MB");
    EXPECT_EQ(human_size(123'456'789), "123MB");
    EXPECT_EQ(quoted("a\"\n\x01"), R"("a\"\n\x01")");
    EXPECT_FALSE(parse_int("12x"));
}

TEST(Clock, Rfc3339AsGoPrints) {
    EXPECT_EQ(format_rfc3339(Timestamp{}), "1970-01-01T00:00:00Z");
    EXPECT_EQ(format_rfc3339(Timestamp{std::chrono::nanoseconds(1'500'000'000)}), "1970-01-01T00:00:01.5Z");
}

TEST(WorkPool, RunsEverythingBeforeItEnds) {
    std::atomic<int> count{0};
    {
        WorkPool pool(3);
        for (int i = 0; i < 100; ++i) pool.post([&] { ++count; });
    }
    EXPECT_EQ(count, 100);
}

TEST(WorkPool, ParallelForReportsTheFirstError) {
    std::atomic<int> ran{0};
    const auto result = parallel_for(1000, 2, [&](std::size_t i) -> Result<> {
        ++ran;
        if (i == 3) return bad_input("three");
        return {};
    });
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().message(), "three");
    EXPECT_LT(ran, 1000);
}

}  // namespace
}  // namespace cooper
