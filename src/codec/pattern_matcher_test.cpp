#include "codec/pattern_matcher.hpp"

#include "codec/path_match.hpp"

#include <gtest/gtest.h>
#include <map>
#include <random>

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

// A tree of every path over a, b and c at most four deep, walked with and without the short cuts.
class Pruning {
public:
    explicit Pruning(const PatternMatcher& matcher) : matcher_(matcher) {}

    // Every path below dir that a walk shows which takes no short cuts must not be cut off by one.
    void check(const std::string& dir, const PatternMatcher::ParentResults& known, int depth) {
        for (const char* name : {"a", "b", "c"}) {
            const std::string path = dir.empty() ? name : dir + "/" + name;
            PatternMatcher::ParentResults mine;
            const bool matched = matcher_.matches(path, known, mine);
            for (std::size_t slash = path.find('/'); slash != std::string::npos; slash = path.find('/', slash + 1)) {
                const std::string above = path.substr(0, slash);
                const bool kept = !matched && matched_.at(above);
                const bool found = matched && !matched_.at(above);
                EXPECT_TRUE(!kept || matcher_.may_except_below(above)) << path;
                EXPECT_TRUE(!found || matcher_.may_match_below(above)) << path;
            }
            const auto reason = matcher_.explain(path);
            EXPECT_EQ(reason.matched, matched) << path;
            EXPECT_TRUE(reason.pattern || !matched) << path;
            EXPECT_EQ(path.compare(0, reason.at.size(), reason.at), 0) << path;
            matched_[path] = matched;
            if (depth < 4) check(path, mine, depth + 1);
        }
    }

private:
    const PatternMatcher& matcher_;
    std::map<std::string, bool> matched_;
};

TEST(PatternMatcher, ShortCutsOfAWalkLoseNothing) {
    std::mt19937 random(20240229);  // NOLINT: the same patterns each time
    const std::vector<std::string> pieces = {"a", "b", "c", "*", "**", "?", "[ab]", "a*", "*b", "**c"};
    for (int round = 0; round < 400; ++round) {
        std::vector<std::string> patterns;
        for (std::size_t i = 0, n = 1 + random() % 4; i < n; ++i) {
            std::string pattern = random() % 3 == 0 ? "!" : "";
            for (std::size_t k = 0, m = 1 + random() % 3; k < m; ++k) {
                pattern += (k == 0 ? "" : "/") + pieces[random() % pieces.size()];
            }
            patterns.push_back(std::move(pattern));
        }
        const auto matcher = PatternMatcher::create(patterns);
        ASSERT_TRUE(matcher);
        Pruning(*matcher).check("", {}, 1);
        if (HasFailure()) FAIL() << ::testing::PrintToString(patterns);
    }
}

TEST(PatternMatcher, ExplainsByTheLastPatternThatHolds) {
    const auto matcher = PatternMatcher::create({"docs", "", "!docs/*.md", "*.log"});
    ASSERT_TRUE(matcher);
    const auto check = [&](std::string_view path, bool matched, std::optional<std::size_t> pattern,
                           std::string_view at) {
        const auto reason = matcher->explain(path);
        EXPECT_EQ(reason.matched, matched) << path;
        EXPECT_EQ(reason.pattern, pattern) << path;
        EXPECT_EQ(reason.at, at) << path;
    };
    check("docs/a/b.txt", true, 0, "docs");
    check("docs/x.md", false, 2, "docs/x.md");
    check("docs/x.md/below", false, 2, "docs/x.md");
    check("x.log", true, 3, "x.log");
    check("src/x.log", false, std::nullopt, "");
}

TEST(IgnoreFile, ReadsAsDocker) {
    const std::vector<std::string> expected = {"a", "b/c", "!d/e", "!x", "#not", "lib", "!", ".", "/", "*.o"};
    std::vector<std::string> patterns;
    for (const auto& line :
         read_ignore_lines("\xEF\xBB\xBF"
                           "a\n# comment\n /b//c/ \n\n!d/./e\n!  /x\n  #not\r\n/lib\n!\n.\n/\n*.o")) {
        patterns.push_back(line.pattern);
    }
    EXPECT_EQ(patterns, expected);
}

TEST(IgnoreFile, NamesTheLineOfAMalformedPattern) {
    const auto patterns = read_ignore_file("a\n# c\n\nb[\n", ".dockerignore");
    ASSERT_FALSE(patterns);
    EXPECT_NE(patterns.error().to_string().find(".dockerignore:4"), std::string::npos);
    EXPECT_EQ(*read_ignore_file("a\n\n!b", "x"), (std::vector<std::string>{"a", "!b"}));
}

TEST(IgnoreFile, NamesTheLineOfOneTooMany) {
    std::string text;
    for (int i = 0; i < 10'001; ++i) text += "#\na\n";
    const auto many = read_ignore_file(text, "x");
    ASSERT_FALSE(many);
    EXPECT_EQ(many.error().message(), "x:20002: more than 10000 patterns");
    EXPECT_TRUE(read_ignore_file(std::string(kMaxIgnoreFileBytes, '\n'), "x"));
    const auto large = read_ignore_file(std::string(kMaxIgnoreFileBytes + 1, '\n'), "x");
    ASSERT_FALSE(large);
    EXPECT_EQ(large.error().message(), "x:16777217: the file is larger than 16 MiB");
}

}  // namespace
}  // namespace cooper::codec
