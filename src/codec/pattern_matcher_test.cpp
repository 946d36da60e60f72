#include "codec/pattern_matcher.hpp"

#include "codec/path_match.hpp"

#include <gtest/gtest.h>

namespace cooper::codec {
namespace {

struct MatchCase {
    const char* pattern;
    const char* name;
    int expected;  // 1, 0, -1 = syntax error
};

// Facts of Go's path.Match.
constexpr MatchCase kMatchCases[] = {
    {"abc", "abc", 1},
    {"*", "abc", 1},
    {"*c", "abc", 1},
    {"a*", "a", 1},
    {"a*", "abc", 1},
    {"a*", "ab/c", 0},
    {"a*/b", "abc/b", 1},
    {"a*/b", "a/c/b", 0},
    {"a*b*c*d*e*/f", "axbxcxdxe/f", 1},
    {"a*b*c*d*e*/f", "axbxcxdxexxx/f", 1},
    {"a*b*c*d*e*/f", "axbxcxdxe/xxx/f", 0},
    {"a*b?c*x", "abxbbxdbxebxczzx", 1},
    {"a*b?c*x", "abxbbxdbxebxczzy", 0},
    {"ab[c]", "abc", 1},
    {"ab[b-d]", "abc", 1},
    {"ab[e-g]", "abc", 0},
    {"ab[^c]", "abc", 0},
    {"ab[^e-g]", "abc", 1},
    {"a\\*b", "a*b", 1},
    {"a\\*b", "ab", 0},
    {"a?b", "a\u263ab", 1},
    {"a[^a]b", "a\u263ab", 1},
    {"a???b", "a\u263ab", 0},
    {"[a-\u03b6]*", "\u03b1", 1},
    {"*[a-\u03b6]", "A", 0},
    {"a?b", "a/b", 0},
    {"a*b", "a/b", 0},
    {"[\\]a]", "]", 1},
    {"[\\-]", "-", 1},
    {"[x\\-]", "z", 0},
    {"[]a]", "]", -1},
    {"[-]", "-", -1},
    {"[x-]", "x", -1},
    {"[-x]", "a", -1},
    {"\\", "a", -1},
    {"[a-b-c]", "a", -1},
    {"[", "a", -1},
    {"[^", "a", -1},
    {"[^bc", "a", -1},
    {"a[", "a", -1},
    {"a[", "ab", -1},
    {"a[", "x", -1},
    {"a/b[", "x", -1},
    {"*x", "xxx", 1},
    {"", "", 1},
    {"", "a", 0},
};

TEST(PathMatch, IsGosPathMatch) {
    for (const auto& [pattern, name, expected] : kMatchCases) {
        const auto result = path_match(pattern, name);
        EXPECT_EQ(result ? (*result ? 1 : 0) : -1, expected) << pattern << " against " << name;
    }
}

TEST(PathMatch, LexicalPaths) {
    EXPECT_EQ(clean_path(""), ".");
    EXPECT_EQ(clean_path("a//b/./c/../d/"), "a/b/d");
    EXPECT_EQ(clean_path("/../a"), "/a");
    EXPECT_EQ(clean_path("../../a/.."), "../..");
    EXPECT_EQ(clean_path("a/.."), ".");
    EXPECT_EQ(clean_path("../a/../b"), "../b");
    EXPECT_EQ(rooted_path("../x/"), "/x");
    EXPECT_EQ(join_path("a", "../b"), "b");
    EXPECT_EQ(base_name("/"), "/");
    EXPECT_EQ(base_name("/a/b/"), "b");
    EXPECT_EQ(dir_name("/a"), "/");
    EXPECT_EQ(dir_name("/a/b"), "/a");
    EXPECT_EQ(split_wildcard("/a/b*/c").fixed, "/a");
    EXPECT_EQ(split_wildcard("/a/b*/c").pattern, "b*/c");
    EXPECT_EQ(split_wildcard("/*").fixed, "/");
    EXPECT_EQ(split_wildcard("/a/\\*b").pattern, "");
}

struct PatternCase {
    const char* pattern;
    const char* path;
    char expected;  // 'e' exactly, 'p' only because a parent matches, '-' not
};

constexpr PatternCase kPatternCases[] = {
    {"**", "file", 'e'},
    {"**", "dir/file", 'e'},
    {"**/", "file", 'e'},
    {"**/**", "dir/file", 'e'},
    {"dir/**", "dir/file", 'e'},
    {"dir/**", "dir/dir2/file", 'e'},
    {"dir/**", "dir", '-'},
    {"**/dir", "dir", 'e'},
    {"**/dir", "dir/file", 'p'},
    {"**/dir2/*", "dir/dir2/file", 'e'},
    {"**/dir2/**", "dir/dir2/dir3/file", 'e'},
    {"**file", "file", 'e'},
    {"**file", "dir/file", 'e'},
    {"**/file", "dir/dir/file", 'e'},
    {"**/file*", "dir/dir/file.txt", 'e'},
    {"**/file*txt", "dir/dir/file.txt", 'e'},
    {"**/file*.txt*", "dir/dir/file.txt", 'e'},
    {"**/**/*.txt", "dir/dir/file.txt", 'e'},
    {"**/**/*.txt2", "dir/dir/file.txt", '-'},
    {"**/*.txt", "file.txt", 'e'},
    {"a**/*.txt", "a/file.txt", 'e'},
    {"a**/*.txt", "a/dir/dir/file.txt", 'e'},
    {"a/*.txt", "a/dir/file.txt", '-'},
    {"a/*.txt**", "a/file.txt", 'e'},
    {"a[b-d]e", "ae", '-'},
    {"a[b-d]e", "ace", 'e'},
    {"a[b-d]e", "aae", '-'},
    {"a[^b-d]e", "aze", 'e'},
    {".*", ".foo", 'e'},
    {".*", "foo", '-'},
    {"abc.def", "abcZdef", '-'},
    {"abc?def", "abcZdef", 'e'},
    {"abc?def", "abcdef", '-'},
    {"a\\\\", "a\\", 'e'},
    {"a\\*b", "a*b", 'e'},
    {"**/foo/bar", "foo/bar", 'e'},
    {"**/foo/bar", "dir/dir2/foo/bar", 'e'},
    {"**/.foo", "bar.foo", '-'},
    {"a(b)c/def", "a(b)c/def", 'e'},
    {"a(b)c/def", "a(b)c/xyz", '-'},
    {"a.|)$(}+{bc", "a.|)$(}+{bc", 'e'},
    {"dist/*.whl", "dist/x-2.4.0rc3.dev36+g08acad9-any.whl", 'e'},
    {"a?c", "a\u263ac", 'e'},
    {"x/*", "x/y/z", 'p'},
    {"dir/", "dir/a/b", 'p'},
    {"[", "x", '!'},
    {"a[", "x", '!'},
    {"!", "x", '!'},
};

bool walk(const PatternMatcher& matcher, std::string_view path) {
    PatternMatcher::ParentResults parent;
    PatternMatcher::ParentResults mine;
    for (std::size_t slash = path.find('/'); slash != std::string_view::npos; slash = path.find('/', slash + 1)) {
        static_cast<void>(matcher.matches(path.substr(0, slash), parent, mine));
        parent = mine;
    }
    return matcher.matches(path, parent, mine);
}

TEST(PatternMatcher, IsMobys) {
    for (const auto& [pattern, path, expected] : kPatternCases) {
        const auto matcher = PatternMatcher::create({pattern});
        ASSERT_EQ(matcher.has_value(), expected != '!') << pattern;
        if (!matcher) continue;
        EXPECT_EQ(matcher->matches_exact(path), expected == 'e') << pattern << " " << path;
        EXPECT_EQ(matcher->matches_or_parent_matches(path), expected != '-') << pattern << " " << path;
        EXPECT_EQ(walk(*matcher, path), expected != '-') << pattern << " " << path;
        PatternMatcher::ParentResults mine;
        EXPECT_EQ(matcher->matches(path, {}, mine), expected != '-') << pattern << " " << path;
    }
}

TEST(PatternMatcher, LastMatchWinsAndExceptionsReachBelowParents) {
    struct Case {
        std::vector<std::string> patterns;
        const char* path;
        bool expected;
    };
    const Case cases[] = {
        {{"**", "!util/web"}, "util/web/foo", false},
        {{"**", "!util/web", "util/web/foo"}, "util/web/foo", true},
        {{"**", "!dist/*.whl"}, "dist/a.whl", false},
        {{"docs", "!docs/README.md"}, "docs/README.md", false},
        {{"docs", "!docs/README.md"}, "docs/other.md", true},
        {{"!a.go", "*.go"}, "a.go", true},
        {{"*.go", "!a.go"}, "a.go", false},
        {{"*", "!src", "src/tmp"}, "src/tmp/x", true},
        {{"*", "!src", "src/tmp"}, "src/main", false},
        {{"  docs  ", "", "  !docs/keep "}, "docs/keep", false},
    };
    for (const auto& [patterns, path, expected] : cases) {
        const auto matcher = PatternMatcher::create(patterns);
        ASSERT_TRUE(matcher);
        EXPECT_EQ(matcher->matches_or_parent_matches(path), expected) << path;
        EXPECT_EQ(walk(*matcher, path), expected) << path;
    }
}

TEST(PatternMatcher, SaysWhichDirectoriesCanBeSkipped) {
    const auto matcher = PatternMatcher::create({"node_modules", "!node_modules/keep/x", "out/**"});
    EXPECT_TRUE(matcher->may_except_below("node_modules"));
    EXPECT_TRUE(matcher->may_except_below("node_modules/keep"));
    EXPECT_FALSE(matcher->may_except_below("node_modules/other"));
    EXPECT_FALSE(matcher->may_match_below("src"));
    EXPECT_TRUE(matcher->may_match_below("out"));
    EXPECT_TRUE(PatternMatcher::create({"a", "!**/x"})->may_except_below("a/b"));
}

TEST(PatternMatcher, HostilePatternsStayFast) {
    std::string pattern;
    for (int i = 0; i < 200; ++i) pattern += "**/a*";
    const auto matcher = PatternMatcher::create({pattern});
    ASSERT_TRUE(matcher);
    EXPECT_FALSE(matcher->matches_or_parent_matches(std::string(2000, 'a') + "b"));
    EXPECT_FALSE(PatternMatcher::create({std::string(5000, 'a')}));
}

TEST(IgnoreFile, ReadsAsDocker) {
    const std::vector<std::string> expected = {"a", "b/c", "!d/e", "!x", "#not", "lib", "!", ".", "/", "*.o"};
    EXPECT_EQ(read_ignore_file("\xEF\xBB\xBF"
                               "a\n# comment\n /b//c/ \n\n!d/./e\n!  /x\n  #not\r\n/lib\n!\n.\n/\n*.o"),
              expected);
}

}  // namespace
}  // namespace cooper::codec
