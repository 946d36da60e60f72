#include "dockerfile/parse.hpp"

#include "base/text.hpp"
#include "dockerfile/directives.hpp"
#include "dockerfile/line_words.hpp"

#include <gtest/gtest.h>

namespace cooper::dockerfile {
namespace {

using Words = std::vector<std::string>;

ParsedFile parsed(std::string_view text) {
    auto file = parse(text, "Dockerfile");
    EXPECT_TRUE(file) << text << ": " << file.error().to_string();
    return file ? std::move(*file) : ParsedFile{};
}

std::string error_of(std::string_view text) {
    const auto file = parse(text, "Dockerfile");
    return file ? "" : file.error().to_string();
}

TEST(Parse, ContinuationsCommentsAndLines) {
    const ParsedFile file = parsed(
        "# a comment\n"
        "\n"
        "  from scratch \n"
        "RUN a \\\n"
        "  b \\ \t \n"
        "  # inside\n"
        "\tc\n"
        "\n"
        "run\techo hi\r\n"
        "CMD x\\\\\n"
        "ENV a=b\\\n"
        "c\n"
        "USER u \\");
    ASSERT_EQ(file.nodes.size(), 6U);
    EXPECT_EQ(file.nodes[0].command, "from");
    EXPECT_EQ(file.nodes[0].keyword, "from");
    EXPECT_EQ(file.nodes[0].lines, (Lines{3, 3}));
    EXPECT_EQ(file.nodes[1].original, "RUN a   b \tc");
    EXPECT_EQ(file.nodes[1].words, Words{"a   b \tc"});
    EXPECT_EQ(file.nodes[1].lines, (Lines{4, 7}));
    EXPECT_EQ(file.nodes[2].words, Words{"echo hi"});
    EXPECT_EQ(file.nodes[3].words, Words{"x\\\\"});
    EXPECT_EQ(file.nodes[4].pairs[0].value, "bc");
    EXPECT_EQ(file.nodes[4].lines, (Lines{11, 12}));
    EXPECT_EQ(file.nodes[5].words, Words{"u"});
    EXPECT_TRUE(file.warnings.empty());
}

TEST(Parse, EmptyLinesInContinuationsWarn) {
    const ParsedFile file = parsed("FROM a\nRUN x \\\n\n  \n y\nRUN z\n");
    ASSERT_EQ(file.nodes.size(), 3U);
    EXPECT_EQ(file.nodes[1].words, Words{"x  y"});
    ASSERT_EQ(file.warnings.size(), 1U);
    EXPECT_EQ(file.warnings[0].rule, "NoEmptyContinuation");
    EXPECT_EQ(file.warnings[0].lines, (Lines{5, 5}));
}

TEST(Parse, OddBytes) {
    EXPECT_EQ(parsed("\xef\xbb\xbf"
                     "FROM a\n")
                  .nodes[0]
                  .command,
              "from");
    EXPECT_EQ(parsed("\xc2\xa0"
                     "FROM a\xc2\xa0\n")
                  .nodes[0]
                  .words,
              Words{"a"});
    EXPECT_EQ(parsed(std::string_view("FROM a\0b\n", 9)).nodes[0].words, Words{std::string("a\0b", 3)});
    EXPECT_EQ(parsed("RUN \xff\xfe\n").nodes[0].words, Words{"\xff\xfe"});
    EXPECT_EQ(parsed("FROM\va\n").nodes[0].words, Words{"a"});
}

TEST(Parse, CarriageReturnsEndLines) {
    const ParsedFile file = parsed("FROM a\r\nRUN b \\\r\n  c\r\nCMD d");
    ASSERT_EQ(file.nodes.size(), 3U);
    EXPECT_EQ(file.nodes[1].words, Words{"b   c"});
}

TEST(Parse, Limits) {
    EXPECT_TRUE(parse("RUN " + std::string(kMaxLine - 4, 'x') + "\n", "f"));
    EXPECT_TRUE(parse("RUN " + std::string(kMaxLine - 4, 'x'), "f"));
    EXPECT_NE(error_of("FROM a\nRUN " + std::string(kMaxLine - 3, 'x'))
                  .find("line 2: dockerfile line greater than max allowed size of 65535"),
              std::string::npos);
    EXPECT_FALSE(parse(std::string(kMaxFile + 1, '\n'), "f"));
    std::string many;
    for (std::size_t i = 0; i <= kMaxInstructions; ++i) many += "RUN\n";
    EXPECT_NE(error_of(many).find("more than 50000 instructions"), std::string::npos);
    std::string comments;
    for (int i = 0; i < 2500; ++i) comments += fmt::format("# {}\n", i);
    const ParsedFile file = parsed(comments + "FROM a\n");
    EXPECT_EQ(file.nodes[0].comments.size(), kMaxComments);
    EXPECT_EQ(file.nodes[0].comments.back(), "2499");
}

TEST(Parse, IsNotReadBehindManyMistakes) {
    std::string text = "FROM a\n";
    for (std::size_t i = 0; i < kMaxErrors - 1; ++i) text += i % 2 == 0 ? "x y\n" : "ENV a\n";
    EXPECT_EQ(parsed(text + "RUN b\n").nodes.size(), kMaxErrors + 1);
    EXPECT_EQ(parsed(text + "x\nRUN b\n").nodes.size(), kMaxErrors + 1);
}

TEST(Parse, NothingIsAnError) {
    EXPECT_EQ(error_of(""), "the Dockerfile cannot be empty");
    EXPECT_EQ(error_of("\n# x\n"), "dockerfile parse error on line 2: file with no instructions");
}

TEST(Parse, Directives) {
    const ParsedFile file = parsed("# SyntaX = a/b:1 x \n#escape=`\n# check=skip=all\n# note\nFROM a\nRUN b `\n c\\\n");
    EXPECT_EQ(file.syntax, "a/b:1 x");
    EXPECT_EQ(file.escape, '`');
    EXPECT_EQ(file.check, "skip=all");
    ASSERT_EQ(file.nodes.size(), 2U);
    EXPECT_EQ(file.nodes[0].comments, Words{"note"});
    EXPECT_EQ(file.nodes[1].words, Words{"b  c\\"});

    EXPECT_EQ(parsed("\n# escape=`\nFROM a\n").escape, '\\');
    EXPECT_EQ(parsed("# x\n# escape=`\nFROM a\n").escape, '\\');
    EXPECT_EQ(parsed("# unknown=x\n# escape=`\nFROM a\n").escape, '\\');
    EXPECT_EQ(parsed("FROM a\n# escape=`\n").escape, '\\');
    EXPECT_EQ(parsed("# escape=\nFROM a\n").escape, '\\');
    EXPECT_EQ(error_of("# escape=x\nFROM a\n"),
              "dockerfile parse error on line 1: invalid escape token 'x' does not match ` or \\");
    EXPECT_EQ(error_of("# syntax=a\n# syntax=b\nFROM a\n"),
              "dockerfile parse error on line 2: only one syntax parser directive can be used");
}

TEST(Parse, DetectSyntax) {
    const auto image = [](std::string_view text) {
        const auto found = detect_syntax(text);
        return found ? fmt::format("{}|{}|{}", found->image, found->command_line, found->line) : "none";
    };
    EXPECT_EQ(image("# syntax=docker/dockerfile:1 --x\nFROM a"), "docker/dockerfile:1|docker/dockerfile:1 --x|1");
    EXPECT_EQ(image("\xef\xbb\xbf#syntax=a"), "a|a|1");
    EXPECT_EQ(image("#!/usr/bin/env x\n# check=skip=all\n# syntax=a"), "a|a|3");
    EXPECT_EQ(image("// syntax=a\nlet x"), "a|a|1");
    EXPECT_EQ(image("{\"x\": 1, \"syntax\": \"a b\"}"), "a b|a b|1");
    EXPECT_EQ(image("{\"syntax\": 1}"), "none");
    EXPECT_EQ(image("FROM a\n# syntax=b"), "none");
    EXPECT_EQ(image(""), "none");
}

TEST(Parse, CommentsAboveInstructions) {
    const ParsedFile file = parsed(
        "# one\n# two\nFROM a\n"
        "# gone\n#\n# kept\nRUN b\n"
        "# gone too\n\nRUN c\n"
        "RUN d \\\n# inside\n e\n"
        "RUN f\n");
    EXPECT_EQ(file.nodes[0].comments, (Words{"one", "two"}));
    EXPECT_EQ(file.nodes[1].comments, Words{"kept"});
    EXPECT_EQ(file.nodes[2].comments, Words{});
    EXPECT_EQ(file.nodes[4].comments, Words{});
}

TEST(Parse, Flags) {
    const auto flags = [](std::string_view line) {
        const Node node = parsed(line).nodes[0];
        return join(node.flags, "|") + " ~ " + join(node.words, " ");
    };
    EXPECT_EQ(flags("COPY --from=a --link b c"), "--from=a|--link ~ b c");
    EXPECT_EQ(flags("COPY   --from=\"a b\"c  d e"), "--from=a bc ~ d e");
    EXPECT_EQ(flags("COPY --x='a\\'b' c"), "--x=a'b ~ c");
    EXPECT_EQ(flags("COPY --x=a\\ b c"), "--x=a b ~ c");
    EXPECT_EQ(flags("COPY -- --x y"), " ~ --x y");
    EXPECT_EQ(flags("COPY --a -- --x y"), "--a ~ --x y");
    EXPECT_EQ(flags("COPY -x --y z"), " ~ -x --y z");
    EXPECT_EQ(flags("COPY a --y z"), " ~ a --y z");
    EXPECT_EQ(flags("COPY --x"), "--x ~ ");
    EXPECT_EQ(flags("COPY --"), " ~ ");
    EXPECT_EQ(flags("COPY --\"\" a"), " ~ a");
    EXPECT_EQ(flags("COPY --x=\"unterminated a"), "--x=unterminated a ~ ");
    EXPECT_EQ(flags("COPY --x=한 a"), "--x=한 ~ a");
    EXPECT_EQ(flags("RUN --mount=type=cache,target=/x \\\n  --network=none ls"),
              "--mount=type=cache,target=/x|--network=none ~ ls");
    EXPECT_EQ(flags("# escape=`\nCOPY --x=a` b c"), "--x=a b ~ c");
}

TEST(Parse, JsonForm) {
    struct Case {
        const char* text;
        bool json;
        Words words;
    };
    const std::vector<Case> cases = {
        {"[]", true, {}},
        {"[\"a\"]", true, {"a"}},
        {"  [ \"a b\" , \"c\" ] ", true, {"a b", "c"}},
        {"[\"\\u00e9\\n\\\"\"]", true, {"é\n\""}},
        {"[\"\\ud83d\\ude00\"]", true, {"😀"}},
        {"[\"\\ud800x\"]", true, {"\xef\xbf\xbdx"}},
        {"[\"a\xff\"]", true, {"a\xef\xbf\xbd"}},
        {"[\"\\\\ud800\"]", true, {"\\ud800"}},
        {"['a']", false, {"['a']"}},
        {"[\"a\",]", false, {"[\"a\",]"}},
        {"[\"a\"] b", false, {"[\"a\"] b"}},
        {"[a]", false, {"[a]"}},
        {"[", false, {"["}},
        {"[\"\t\"]", false, {"[\"\t\"]"}},
        {"{\"a\": 1}", false, {"{\"a\": 1}"}},
        {"[ -f x ] && y", false, {"[ -f x ] && y"}},
    };
    for (const Case& one : cases) {
        const Node node = parsed(std::string("RUN ") + one.text).nodes[0];
        EXPECT_EQ(node.json, one.json) << one.text;
        EXPECT_EQ(node.words, one.words) << one.text;
    }
    for (const std::string text : {"[1]", "[\"a\", null]", "[[\"a\"]]", "[{}]", "[true]"}) {
        const Node node = parsed("CMD " + text).nodes[0];
        ASSERT_TRUE(node.mistake) << text;
        EXPECT_EQ(node.mistake->message(), "when using JSON array syntax, arrays must be comprised of strings only");
    }
    EXPECT_EQ(parsed("COPY [\"a b\", \"/c d/\"]").nodes[0].words, (Words{"a b", "/c d/"}));
    EXPECT_EQ(parsed("COPY a  b\t/c").nodes[0].words, (Words{"a", "b", "/c"}));
    EXPECT_EQ(parsed("VOLUME /a /b").nodes[0].words, (Words{"/a", "/b"}));
    EXPECT_EQ(parsed("RUN " + std::string(30000, '[')).nodes[0].json, false);
    EXPECT_TRUE(parsed("RUN " + std::string(30000, '[') + std::string(30000, ']')).nodes[0].mistake);
}

TEST(Parse, QuotedWords) {
    struct Case {
        const char* text;
        Words words;
    };
    const std::vector<Case> cases = {
        {"", {}},
        {"a b", {"a", "b"}},
        {"a=\"b c\" d", {"a=\"b c\"", "d"}},
        {"a='b c' d", {"a='b c'", "d"}},
        {"a=b\\ c d", {"a=b\\ c", "d"}},
        {"a=\"b\\\"c\" d", {"a=\"b\\\"c\"", "d"}},
        {"a='b\\' c", {"a='b\\'", "c"}},
        {"\"\" ''", {"\"\"", "''"}},
        {"a\\", {"a"}},
        {"\"a\\", {"\"a"}},
        {"a\"b c", {"a\"b c"}},
        {"\\", {}},
        {"a\xe3\x80\x80"
         "b",
         {"a", "b"}},
    };
    for (const Case& one : cases) EXPECT_EQ(quoted_words(one.text, '\\', kMaxWords), one.words) << one.text;
    EXPECT_EQ(quoted_words("a` b\\ c", '`', kMaxWords), (Words{"a` b\\", "c"}));
}

TEST(Parse, KeyValues) {
    const auto pairs = [](std::string_view line) {
        std::string out;
        const Node node = parsed(line).nodes[0];
        for (const KeyValue& pair : node.pairs) {
            out += fmt::format("({}{}{})", pair.key, pair.has_separator ? "=" : " ", pair.value);
        }
        return out;
    };
    EXPECT_EQ(pairs("ENV a=b c=\"d e\" f="), "(a=b)(c=\"d e\")(f=)");
    EXPECT_EQ(pairs("ENV a=b=c"), "(a=b=c)");
    EXPECT_EQ(pairs("ENV a  b c=d \"e\""), "(a b c=d \"e\")");
    EXPECT_EQ(pairs("LABEL \"a b\"=c"), "(\"a b\"=c)");
    EXPECT_EQ(pairs("ENV =b"), "(=b)");
    EXPECT_EQ(pairs("ENV"), "");
    EXPECT_EQ(pairs("ENV a=b \\\n  c=d"), "(a=b)(c=d)");
    EXPECT_EQ(parsed("ENV a").nodes[0].mistake->message(), "ENV must have two arguments");
    EXPECT_EQ(parsed("LABEL a=b c").nodes[0].mistake->message(),
              "Syntax error - can't find = in \"c\". Must be of the form: name=value");
}

TEST(Parse, RangesInTheFile) {
    const Node node = parsed("FROM a\n  COPY --from=x \\\n    # no\n    src \\\n  dst\n").nodes[1];
    const auto range = [&](std::string_view word) {
        const SourceRange found = range_in_file(node, node.original.find(word), word.size());
        return fmt::format("{}:{}-{}:{}", found.first_line, found.first_column, found.last_line, found.last_column);
    };
    EXPECT_EQ(range("COPY"), "2:3-2:6");
    EXPECT_EQ(range("--from=x"), "2:8-2:15");
    EXPECT_EQ(range("src"), "4:5-4:7");
    EXPECT_EQ(range("dst"), "5:3-5:5");
    EXPECT_EQ(range("src   dst"), "4:5-5:5");
    const SourceRange whole = range_in_file(node, std::string::npos - 5, 3);
    EXPECT_EQ(whole.first_line, 2);
    EXPECT_EQ(whole.last_line, 5);
    EXPECT_EQ(whole.first_column, 0);
}

TEST(Parse, Excerpts) {
    const std::string text = "FROM x\n\nRUN a\nCOPPY a \\\n b\nRUN c\nRUN d\n";
    EXPECT_EQ(
        excerpt("Dockerfile", text, {{"", 4, 5, 0, 0}}),
        "Dockerfile:4\n--------------------\n"
        "   2 |     \n   3 |     RUN a\n   4 | >>> COPPY a \\\n   5 | >>>  b\n   6 |     RUN c\n   7 |     RUN d\n"
        "--------------------\n");
    EXPECT_EQ(excerpt("D", "a\nb\nc\nd\ne\nf\ng\nh\ni\n", {{"", 1, 1, 0, 0}, {"", 8, 8, 0, 0}}),
              "D:1\n--------------------\n   1 | >>> a\n   2 |     b\n   3 |     c\n ...\n   6 |     f\n   7 |     g\n"
              "   8 | >>> h\n   9 |     i\n--------------------\n");
    EXPECT_EQ(excerpt("D", "a\x1b[31m\xff" + std::string(1000, 'x') + "\r\n", {{"", 1, 1, 0, 0}}),
              "D:1\n--------------------\n   1 | >>> a [31m\xef\xbf\xbd" + std::string(193, 'x') +
                  "\n--------------------\n");
    EXPECT_EQ(excerpt("D", "", {{"", 0, 0, 0, 0}}), "D:0\n--------------------\n--------------------\n");
    EXPECT_EQ(excerpt("D", "\tä b\n", {{"", 1, 1, 5, 5}}),
              "D:1:5\n--------------------\n   1 | >>> \tä b\n     |     \t  ^\n--------------------\n");
    EXPECT_EQ(excerpt("D", "a b c\n", {{"", 1, 1, 1, 1}, {"", 1, 1, 5, 90}}),
              "D:1:1\n--------------------\n   1 | >>> a b c\n     |     ^   ^\n--------------------\n");
}

TEST(Parse, WordsFitToShow) {
    EXPECT_EQ(shown("a\x1b[1m"), "a [1m");
    EXPECT_EQ(shown(std::string(100, 'x')), std::string(60, 'x') + "…");
    const Error error = fit_to_show(bad_input("{}", std::string(1000, 'y')).with_hint("h").with_detail(Errno{3}));
    EXPECT_EQ(error.message(), std::string(400, 'y') + "…");
    EXPECT_EQ(error.hint(), "h");
    EXPECT_EQ(error.find_detail<Errno>()->value, 3);
}

}  // namespace
}  // namespace cooper::dockerfile
