#include "dockerfile/shell_lex.hpp"

#include "dockerfile/runes.hpp"

#include <fmt/ranges.h>
#include <gtest/gtest.h>

namespace cooper::dockerfile {
namespace {

llb::EnvList env_of(const std::vector<std::pair<const char*, const char*>>& pairs) {
    llb::EnvList env;
    for (const auto& [key, value] : pairs) env.set(key, value);
    return env;
}

const llb::EnvList& standard() {
    static const llb::EnvList kEnv = env_of({{"HOME", "/home"},
                                             {"SHELL", "bash"},
                                             {"EMPTY", ""},
                                             {"KO", "한국어"},
                                             {"FILE", "/usr/lib/foo.tar.gz"},
                                             {"STARS", "a*b*c"},
                                             {"REPEAT", "abcabc"},
                                             {"LINES", "one\ntwo\nthree"},
                                             {"PATTERN", "*/"},
                                             {"NAME_1", "first"},
                                             {"SPACED", "a b  c"},
                                             {"QUOTED", "a\"b'c"},
                                             {"BACK", "x\\y"},
                                             {"0", "zero"},
                                             {"привет", "мир"}});
    return kEnv;
}

struct Case {
    const char* word;
    const char* text;  // nullptr: an error
};

constexpr Case kPlain[] = {
    // Text, quotes, escapes.
    {"", ""},
    {"hello", "hello"},
    {"he'll'o", "hello"},
    {"he'llo", nullptr},
    {"he\\'llo", "he'llo"},
    {"he\\\\'llo", nullptr},
    {"abc\\tdef", "abctdef"},
    {"'abc\\tdef'", "abc\\tdef"},
    {"\"abc\\tdef\"", "abc\\tdef"},
    {"\"a\\\"b\"", "a\"b"},
    {"\"a\\$b\"", "a$b"},
    {"\"a\\\\b\"", "a\\b"},
    {"\"it's\"", "it's"},
    {"'say \"hi\"'", "say \"hi\""},
    {"\"open", nullptr},
    {"\"open\\", nullptr},
    {"'a''b'", "ab"},
    {"a\"b\"'c'd", "abcd"},
    {"trailing\\", "trailing"},
    {"\\", ""},
    {"\\\\", "\\"},
    {"\\$HOME", "$HOME"},
    {"\\\\$HOME", "\\/home"},
    {"'$HOME'", "$HOME"},
    {"\"$HOME\"", "/home"},
    {"'\\''", nullptr},
    {"a  b", "a  b"},
    {" a ", " a "},
    {"\t", "\t"},
    {"한글", "한글"},
    {"\\한", "한"},
    {"\xff\xfe", "\xff\xfe"},
    {"a<b<<c", "a<b<<c"},
    // Names.
    {"$", "$"},
    {"a$", "a$"},
    {"$ a", "$ a"},
    {"$HOME", "/home"},
    {"${HOME}", "/home"},
    {"$HOME/x", "/home/x"},
    {"$HOMEX", ""},
    {"${HOME}X", "/homeX"},
    {"$HOME$SHELL", "/homebash"},
    {"$HOME.$SHELL", "/home.bash"},
    {"$NAME_1", "first"},
    {"$UNSET", ""},
    {"a${UNSET}b", "ab"},
    {"$KO!", "한국어!"},
    {"$привет", "мир"},
    {"${привет}", "мир"},
    {"$HOME\xe2\x9c\x93", "/home\xe2\x9c\x93"},
    {"$HOME\xff", "/home\xff"},
    {"$1", ""},
    {"$12x", "x"},
    {"$1x", "x"},
    {"${1}", ""},
    {"$@", ""},
    {"$*$#$?$-$!", ""},
    {"$$", ""},
    {"$0", "zero"},
    {"${0}", "zero"},
    {"$_", ""},
    {"\"$\"", "$"},
    {"$'a'", "$a"},
    {"$\"a\"", "$a"},
    {"$\\a", "$a"},
    {"$(pwd)", "$(pwd)"},
    {"`pwd`", "`pwd`"},
    {"$QUOTED", "a\"b'c"},
    {"$BACK", "x\\y"},
    // Broken.
    {"${", nullptr},
    {"${HOME", nullptr},
    {"${}", nullptr},
    {"${{HOME}}", nullptr},
    {"${:-x}", nullptr},
    {"${:}", nullptr},
    {"${HOME:}", nullptr},
    {"${HOME:", nullptr},
    {"${HOME:-", nullptr},
    {"${HOME:=x}", nullptr},
    {"${HOME=x}", nullptr},
    {"${HOME:x}", nullptr},
    {"${HOME x}", nullptr},
    {"${HOME~}", nullptr},
    {"${HOME:#x}", nullptr},
    {"${HOME:%x}", nullptr},
    {"${HOME:-'x}", nullptr},
    // - and +.
    {"${UNSET-x}", "x"},
    {"${UNSET:-x}", "x"},
    {"${EMPTY-x}", ""},
    {"${EMPTY:-x}", "x"},
    {"${HOME-x}", "/home"},
    {"${HOME:-x}", "/home"},
    {"${UNSET:-}", ""},
    {"${UNSET-}", ""},
    {"${UNSET+x}", ""},
    {"${UNSET:+x}", ""},
    {"${EMPTY+x}", "x"},
    {"${EMPTY:+x}", ""},
    {"${HOME+x}", "x"},
    {"${HOME:+x}", "x"},
    {"${HOME:+}", ""},
    {"${UNSET:-$HOME}", "/home"},
    {"${UNSET:-${EMPTY:-${HOME}}}", "/home"},
    {"${UNSET:-${UNSET2:-deep}}", "deep"},
    {"${HOME:+${SHELL}-${SHELL}}", "bash-bash"},
    {"${UNSET:-a b}", "a b"},
    {"${UNSET:-'a}b'}", "a}b"},
    {"${UNSET:-\"a}b\"}", "a}b"},
    {"${UNSET:-a\\}b}", "a}b"},
    {"${UNSET:-\\$HOME}", "$HOME"},
    {"${UNSET:-\\\\}", "\\"},
    {"${UNSET:--}", "-"},
    {"\"${UNSET:-x y}\"", "x y"},
    {"a${UNSET:-b}c${HOME:+d}e", "abcde"},
    {"${UNSET:-한}", "한"},
    // ?.
    {"${HOME?msg}", "/home"},
    {"${HOME:?msg}", "/home"},
    {"${EMPTY?msg}", ""},
    {"${EMPTY:?msg}", nullptr},
    {"${UNSET?msg}", nullptr},
    {"${UNSET:?}", nullptr},
    {"${UNSET?}", nullptr},
    // # and ##.
    {"${FILE#/}", "usr/lib/foo.tar.gz"},
    {"${FILE#*/}", "usr/lib/foo.tar.gz"},
    {"${FILE##*/}", "foo.tar.gz"},
    {"${FILE#x}", "/usr/lib/foo.tar.gz"},
    {"${FILE#}", "/usr/lib/foo.tar.gz"},
    {"${FILE##}", "/usr/lib/foo.tar.gz"},
    {"${FILE#*}", "/usr/lib/foo.tar.gz"},
    {"${FILE##*}", ""},
    {"${FILE#????}", "/lib/foo.tar.gz"},
    {"${KO#?}", "국어"},
    {"${KO##??}", "어"},
    {"${STARS#a\\*}", "b*c"},
    {"${STARS##*\\*}", "c"},
    {"${STARS#a\\?}", "a*b*c"},
    {"${STARS#\\a}", nullptr},
    {"${STARS#a\\", nullptr},
    {"${FILE#$PATTERN}", "usr/lib/foo.tar.gz"},
    {"${FILE#\\/usr}", "/lib/foo.tar.gz"},
    {"${FILE#[/]}", "/usr/lib/foo.tar.gz"},
    {"${UNSET#x}", ""},
    {"${LINES#*t}", "one\ntwo\nthree"},
    {"${LINES##*}", "\ntwo\nthree"},
    {"${REPEAT#*b*a}", "bc"},
    {"${REPEAT##*a*b}", "c"},
    // % and %%.
    {"${FILE%.gz}", "/usr/lib/foo.tar"},
    {"${FILE%.*}", "/usr/lib/foo.tar"},
    {"${FILE%%.*}", "/usr/lib/foo"},
    {"${FILE%/*}", "/usr/lib"},
    {"${FILE%%/*}", ""},
    {"${FILE%}", "/usr/lib/foo.tar.gz"},
    {"${FILE%%}", "/usr/lib/foo.tar.gz"},
    {"${FILE%*}", "/usr/lib/foo.tar.gz"},
    {"${KO%?}", "한국"},
    {"${STARS%\\**}", "a*b"},
    {"${STARS%%\\**}", "a"},
    {"${BACK%\\\\y}", "x"},
    {"${REPEAT%b?}", "abca"},
    {"${REPEAT%%b*}", "a"},
    // / and //.
    {"${REPEAT/b/X}", "aXcabc"},
    {"${REPEAT//b/X}", "aXcaXc"},
    {"${REPEAT/b/}", "acabc"},
    {"${REPEAT//b/}", "acac"},
    {"${REPEAT/z/X}", "abcabc"},
    {"${REPEAT//?c/-}", "a-a-"},
    {"${REPEAT/b*/X}", "aX"},
    {"${REPEAT//*/X}", "X"},
    {"${REPEAT//b\\/c/X}", "abcabc"},
    {"${FILE//\\//-}", "-usr-lib-foo.tar.gz"},
    {"${FILE/\\/usr/\\/opt}", "\\/opt/lib/foo.tar.gz"},
    {"${FILE//./$SHELL}", "/usr/lib/foobashtarbashgz"},
    {"${FILE/$PATTERN/X}", "Xfoo.tar.gz"},
    {"${REPEAT//b/\\$0\\$0}", "a\\b\\bca\\b\\bc"},
    {"${REPEAT//b/\\$1x}", "a\\ca\\c"},
    {"${REPEAT//b/\\${0}}", "a\\${0ca\\${0c}"},
    {"${REPEAT/b/\\$0}", "a\\$0cabc"},
    {"${REPEAT//b/\\$}", "a\\$ca\\$c"},
    {"${LINES//e/E}", "onE\ntwo\nthrEE"},
    {"${LINES//*/-}", "-\n-\n-"},
    {"${EMPTY/x/y}", ""},
    {"${UNSET//x/y}", ""},
    {"${SHELL//}", nullptr},
    {"${SHELL/a}", nullptr},
    {"${SHELL/a/b", nullptr},
    {"${SHELL///}", "bash"},
    {"${SHELL///-}", "-b-a-s-h-"},
    {"${SHELL//\\q/x}", nullptr},
    {"${KO//국/X}", "한X어"},
};

TEST(ShellLex, Table) {
    static_assert(std::size(kPlain) >= 120);
    const ShellLex lex('\\');
    for (const Case& one : kPlain) {
        const auto result = lex.expand_word(one.word, standard());
        if (one.text == nullptr) {
            EXPECT_FALSE(result) << one.word << " gave " << *result;
        } else {
            ASSERT_TRUE(result) << one.word << ": " << result.error().to_string();
            EXPECT_EQ(*result, one.text) << one.word;
        }
    }
}

TEST(ShellLex, OtherEscapeCharacter) {
    const ShellLex lex('`');
    const std::vector<Case> cases = {
        {"`$HOME", "$HOME"}, {"\\$HOME", "\\/home"}, {"\"`\"\"", "\""}, {"C:\\dir\\$SHELL", "C:\\dir\\bash"},
        {"``", "`"},         {"\"a\\b\"", "a\\b"},   {"'`'", "`"}};
    for (const Case& one : cases) EXPECT_EQ(lex.expand_word(one.word, standard()).value(), one.text) << one.word;
}

TEST(ShellLex, Words) {
    struct WordCase {
        const char* text;
        std::vector<std::string> words;
    };
    const std::vector<WordCase> cases = {
        {"", {}},
        {"   ", {}},
        {"hello", {"hello"}},
        {"hello world", {"hello", "world"}},
        {"  hello\tworld \n", {"hello", "world"}},
        {"'a b' c", {"a b", "c"}},
        {"\"a b\"c d", {"a bc", "d"}},
        {"a\\ b c", {"a b", "c"}},
        {"$SPACED", {"a", "b", "c"}},
        {"\"$SPACED\"", {"a b  c"}},
        {"x${SPACED}y", {"xa", "b", "cy"}},
        {"$EMPTY", {}},
        {"$EMPTY $UNSET a", {"a"}},
        {"''", {}},
        {"a\xc2\xa0"
         "b",
         {"a", "b"}},
        {"a\xe3\x80\x80"
         "b",
         {"a", "b"}},
        {"<< EOF x", {"<< EOF", "x"}},
        {"a<b <c", {"a<b", "<c"}},
        {"\\", {}},
    };
    for (const WordCase& one : cases) {
        EXPECT_EQ(ShellLex('\\').expand_words(one.text, standard()).value(), one.words) << one.text;
    }
}

TEST(ShellLex, RawKinds) {
    const ShellLex display('\\', {.raw_quotes = true, .keep_unset = true});
    const std::vector<Case> kept = {{"$UNSET", "$UNSET"},
                                    {"${UNSET}", "${UNSET}"},
                                    {"${UNSET:-x}", "${UNSET:-x}"},
                                    {"${UNSET##*/}", "${UNSET##*/}"},
                                    {"${UNSET/a/b}", "${UNSET/a/b}"},
                                    {"'$HOME' \"$HOME\"", "'$HOME' \"/home\""},
                                    {"echo $HOME$1", "echo /home$1"}};
    for (const Case& one : kept) EXPECT_EQ(display.expand_word(one.word, standard()).value(), one.text) << one.word;

    const ShellLex escapes('\\', {.raw_quotes = true, .raw_escapes = true});
    EXPECT_EQ(escapes.expand_word("a\\ b \"c\\\"d\" \\x", standard()).value(), "a\\ b \"c\\\"d\" \\x");
    const ShellLex body('\\', {.skip_quotes = true});
    EXPECT_EQ(body.expand_word("it's \"$HOME\" \\$HOME $UNSET.", standard()).value(), "it's \"/home\" $HOME .");
}

TEST(ShellLex, MatchedAndUnmatchedNames) {
    const auto names = [](std::string_view word) {
        const auto result = ShellLex('\\').expand(word, standard()).value();
        return fmt::format("{} | {}", fmt::join(result.matched, " "), fmt::join(result.unmatched, " "));
    };
    EXPECT_EQ(names("plain"), " | ");
    EXPECT_EQ(names("$HOME $A ${B:-$SHELL}"), "HOME SHELL | A B");
    // A default is looked through even when it is not used.
    EXPECT_EQ(names("${HOME:-$C}"), "HOME | C");
    EXPECT_EQ(names("${EMPTY:+x}${D:+$E}"), "EMPTY | D E");
    EXPECT_EQ(names("${FILE#$PATTERN}${FILE/$F/$HOME}"), "FILE HOME PATTERN | F");
    EXPECT_EQ(names("'$HOME' \\$SHELL"), " | ");
}

TEST(ShellLex, ErrorsSayWhat) {
    const auto message = [](std::string_view word) {
        return ShellLex('\\').expand_word(word, standard()).error().to_string();
    };
    EXPECT_EQ(message("${HOME"), "failed to process \"${HOME\": syntax error: missing '}'");
    EXPECT_EQ(message("${}"), "failed to process \"${}\": syntax error: bad substitution");
    EXPECT_EQ(message("${HOME:=x}"), "failed to process \"${HOME:=x}\": unsupported modifier (:=) in substitution");
    EXPECT_EQ(message("${SHELL/a}"), "failed to process \"${SHELL/a}\": syntax error: missing '/' in ${}");
    EXPECT_EQ(message("${UNSET?}"), "failed to process \"${UNSET?}\": UNSET: is not allowed to be unset");
    EXPECT_EQ(message("${EMPTY:?}"), "failed to process \"${EMPTY:?}\": EMPTY: is not allowed to be empty");
    EXPECT_EQ(message("${UNSET:?set $HOME}"), "failed to process \"${UNSET:?set $HOME}\": UNSET: set /home");
    EXPECT_NE(message("'x").find("looking for matching single-quote"), std::string::npos);
    EXPECT_NE(message("\"x").find("looking for matching double-quote"), std::string::npos);
    EXPECT_NE(message("${HOME#\\x}").find("invalid escape '\\x'"), std::string::npos);
}

TEST(ShellLex, HostileInputIsBounded) {
    std::string deep;
    for (int i = 0; i < 200; ++i) deep += "${UNSET:-";
    EXPECT_FALSE(ShellLex('\\').expand_word(deep + std::string(200, '}'), standard()));

    llb::EnvList env;
    env.set("BIG", std::string(1U << 20U, 'a'));
    std::string many;
    for (int i = 0; i < 20; ++i) many += "$BIG";
    EXPECT_FALSE(ShellLex('\\').expand_word(many, env));
    EXPECT_FALSE(ShellLex('\\').expand_word("${BIG//*b*c*d/x}", env));
    // Values inside values: each is small enough, all of them are not.
    std::string nested = "$BIG";
    for (int i = 0; i < 40; ++i) nested = "${BIG:+" + nested + "}";
    EXPECT_FALSE(ShellLex('\\').expand_word(nested, env));
    EXPECT_EQ(ShellLex('\\').expand_word("${BIG//a/}", env).value(), "");
    EXPECT_EQ(ShellLex('\\').expand_word("${BIG##*}", env).value(), "");
    EXPECT_EQ(ShellLex('\\').expand_word("${BIG%%a*}", env).value(), "");
}

TEST(Runes, SpacesAndRoundTrips) {
    EXPECT_EQ(trim_space("\xe2\x80\x83 a b\xc2\xa0\n"), "a b");
    EXPECT_EQ(trim_space("\x85"), "\x85");  // a byte, not U+0085
    EXPECT_EQ(trim_space("\xe3\x80\x80"), "");
    for (const std::string text : {"", "abc", "한\xff국", "\xc0\x80", "\xed\xa0\x80", "\xf0\x9f\x98\x80", "\xf5"}) {
        EXPECT_EQ(from_runes(to_runes(text)), text);
    }
    EXPECT_TRUE(is_valid_utf8("한국어"));
    EXPECT_FALSE(is_valid_utf8("\xed\xa0\x80"));
    EXPECT_EQ(replace_invalid_utf8("a\xff"), "a\xef\xbf\xbd");
}

}  // namespace
}  // namespace cooper::dockerfile
