#include "cli/line_diff.hpp"

#include <gtest/gtest.h>

namespace cooper::cli {
namespace {

std::string diff(std::string_view a, std::string_view b) { return unified_diff(a, b, "a", "b"); }

TEST(LineDiff, Hunks) {
    EXPECT_EQ(diff("x\n", "x\n"), "");
    EXPECT_EQ(diff("1\n2\n3\n", "1\nb\n3\n"), "--- a\n+++ b\n@@ -1,3 +1,3 @@\n 1\n-2\n+b\n 3\n");
    EXPECT_EQ(diff("", "1\n"), "--- a\n+++ b\n@@ -0,0 +1,1 @@\n+1\n");
    EXPECT_EQ(diff("1\n2", "1\n2\n"), "--- a\n+++ b\n@@ -1,2 +1,2 @@\n 1\n-2\n\\ No newline at end of file\n+2\n");
}

TEST(LineDiff, FarChangesAreHunksOfTheirOwn) {
    std::string before;
    for (int i = 1; i <= 30; ++i) before += std::to_string(i) + "\n";
    std::string after = before;
    after.erase(0, 2);  // without line 1
    after += "31\n";
    EXPECT_EQ(diff(before, after),
              "--- a\n+++ b\n@@ -1,4 +1,3 @@\n-1\n 2\n 3\n 4\n@@ -28,3 +27,4 @@\n 28\n 29\n 30\n+31\n");
}

TEST(LineDiff, ManyChangesEnd) {
    std::string before;
    std::string after;
    for (int i = 0; i < 5000; ++i) {
        before += "a" + std::to_string(i) + "\n";
        after += "b" + std::to_string(i) + "\n";
    }
    EXPECT_EQ(diff(before, after).find("@@ -1,5000 +1,5000 @@"), 12U);
}

}  // namespace
}  // namespace cooper::cli
