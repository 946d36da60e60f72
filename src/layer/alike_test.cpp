#include "layer/alike.hpp"

#include "layer/copy.hpp"

#include <gtest/gtest.h>

namespace cooper::layer {
namespace {

using snapshot::Kind;
using snapshot::Node;

constexpr const char* kTexts[] = {"0",       "4755", "u=rwX,go=rX", "go-w", "a+x",     "a=r", "u+s",
                                  "a-x,u+X", "g=u",  "u+x,g=o,o=g", "+t",   "o=g,g=u", "a=X", "u=rw,g=u-w,o="};

// The whole promise: the copy of either is the same, and what is alike is alike to the same one.
TEST(AlikeTest, EveryModeGetsOneWithTheSameOutcome) {
    for (const char* text : kTexts) {
        for (const Kind kind : {Kind::file, Kind::directory}) {
            for (std::uint32_t mode = 0; mode <= 07777; ++mode) {
                const Node usual = usual_node({.mode = text}, {.kind = kind, .mode = mode});
                const bool is_directory = kind == Kind::directory;
                ASSERT_EQ(apply_mode_text(text, usual.mode, is_directory).value(),
                          apply_mode_text(text, mode, is_directory).value())
                    << text << ' ' << mode;
                ASSERT_EQ(usual_node({.mode = text}, usual).mode, usual.mode) << text << ' ' << mode;
            }
        }
    }
}

TEST(AlikeTest, UsualModesAreTheUsualOnes) {
    const auto mode = [](const char* text, Kind kind, std::uint32_t was) {
        return usual_node({.mode = text}, {.kind = kind, .mode = was}).mode;
    };
    EXPECT_EQ(mode("0", Kind::file, 0400), 0644U);
    EXPECT_EQ(mode("0", Kind::directory, 0700), 0755U);
    EXPECT_EQ(mode("0", Kind::fifo, 0600), 0644U);
    EXPECT_EQ(mode("u=rwX,go=rX", Kind::file, 0700), 0755U);
    EXPECT_EQ(mode("u=rwX,go=rX", Kind::file, 0660), 0644U);
    EXPECT_EQ(mode("u+s", Kind::file, 0600), 04600U);
    EXPECT_EQ(mode("not a mode", Kind::file, 0600), 0600U);
    EXPECT_EQ(mode("", Kind::file, 0600), 0600U);
}

TEST(AlikeTest, LinksHaveNoMode) {
    const Node link{.kind = Kind::symlink, .mode = 0777, .uid = 5, .gid = 6};
    EXPECT_EQ(usual_node({.mode = "0"}, link).mode, 0777U);
    EXPECT_EQ(usual_node({.mode = "0"}, link).uid, 5U);
    EXPECT_EQ(usual_node({.owner = true}, link).uid, 0U);
    EXPECT_EQ(usual_node({.owner = true}, link).gid, 0U);
}

}  // namespace
}  // namespace cooper::layer
