// Git references in all their forms.
#include "frontend/git_ref.hpp"

#include <gtest/gtest.h>

namespace cooper::frontend {
namespace {

GitRef git(std::string_view text) {
    const auto parsed = parse_git_ref(text);
    EXPECT_TRUE(parsed) << (parsed ? "" : parsed.error().to_string());
    EXPECT_TRUE(parsed && *parsed) << text;
    return parsed && *parsed ? **parsed : GitRef{};
}

bool is_not_git(std::string_view text) {
    const auto parsed = parse_git_ref(text);
    return parsed && !*parsed;
}

std::string error_of(std::string_view text) {
    const auto parsed = parse_git_ref(text);
    return parsed ? "" : parsed.error().message();
}

TEST(GitRef, Forms) {
    const GitRef https = git("https://github.com/foo/bar.git#baz/qux:quux/quuz");
    EXPECT_EQ(https.remote, "https://github.com/foo/bar.git");
    EXPECT_EQ(https.ref, "baz/qux");
    EXPECT_EQ(https.subdir, "quux/quuz");
    EXPECT_FALSE(https.indistinguishable_from_local);
    EXPECT_EQ(git("git@github.com:foo/bar.git#v1").remote, "git@github.com:foo/bar.git");
    EXPECT_EQ(git("git@github.com:foo/bar.git#v1").ref, "v1");
    EXPECT_EQ(git("ssh://git@h/x").remote, "ssh://git@h/x");
    EXPECT_EQ(git("git://h/x#main").ref, "main");
    const GitRef old = git("github.com/foo/bar#v2");
    EXPECT_TRUE(old.indistinguishable_from_local);
    EXPECT_EQ(old.remote, "github.com/foo/bar");
}

TEST(GitRef, WhatIsNot) {
    EXPECT_TRUE(is_not_git("./x.git"));
    EXPECT_TRUE(is_not_git("../x.git"));
    EXPECT_TRUE(is_not_git("src/file"));
    EXPECT_TRUE(is_not_git("/abs/x.git"));
    EXPECT_TRUE(is_not_git("https://example.com/a.tar.gz"));
    EXPECT_TRUE(is_not_git("ftp://example.com/a.git"));
    EXPECT_TRUE(is_not_git("a b@c:d"));
    EXPECT_TRUE(is_not_git(""));
}

TEST(GitRef, Query) {
    const GitRef tag = git("https://h/x.git?tag=v1.0&subdir=a%2Fb&submodules=false&keep-git-dir");
    EXPECT_EQ(tag.remote, "https://h/x.git");
    EXPECT_EQ(tag.ref, "refs/tags/v1.0");
    EXPECT_EQ(tag.subdir, "a/b");
    EXPECT_EQ(tag.submodules, false);
    EXPECT_EQ(tag.keep_git_dir, true);
    EXPECT_EQ(git("https://h/x.git?commit=abc").ref, "abc");
    EXPECT_EQ(git("https://h/x.git?branch=main&checksum=abc").checksum, "abc");
    const GitRef pinned = git("https://h/x.git?mtime=commit&fetch-by-commit=1&branch=main");
    EXPECT_EQ(pinned.mtime, "commit");
    EXPECT_TRUE(pinned.fetch_by_commit);
    EXPECT_EQ(pinned.ref, "refs/heads/main");
    EXPECT_FALSE(git("https://h/x.git").fetch_by_commit);
    EXPECT_EQ(git("https://h/x.git").submodules, std::nullopt);
    EXPECT_EQ(error_of("https://h/x.git?mtime=now"), "invalid mtime value: \"now\"");
    EXPECT_EQ(error_of("https://h/x.git?ref=a#b"), "ref conflicts: \"b\" vs \"a\"");
    EXPECT_EQ(error_of("https://h/x.git?tag=a&branch=b"), "branch conflicts with tag");
    EXPECT_EQ(error_of("https://h/x.git?what=a"), "unexpected query \"what\"");
    EXPECT_EQ(error_of("https://h/x.git?ref=a&ref=b"), "query \"ref\" has multiple values");
    EXPECT_EQ(error_of("https://h/x.git?ref="), "query \"ref\" has no value");
    EXPECT_EQ(error_of("https://h/x.git?submodules=maybe"), "invalid submodules value: \"maybe\"");
}

}  // namespace
}  // namespace cooper::frontend
