#include "dockerfile/heredoc.hpp"

#include "dockerfile/instructions.hpp"

#include <gtest/gtest.h>

namespace cooper::dockerfile {
namespace {

std::string shown(const Heredoc& doc) {
    return fmt::format("{}{}{}{}", doc.fd, doc.chomp ? "-" : "", doc.expand ? "" : "'", doc.name);
}

TEST(Heredoc, Words) {
    const std::vector<std::pair<const char*, const char*>> good = {
        {"<<EOF", "0EOF"},      {"<<-EOF", "0-EOF"},       {"<<'EOF'", "0'EOF"}, {"<<\"EOF\"", "0'EOF"},
        {"<<-'EOF'", "0-'EOF"}, {"<<EO\"F\"", "0'EOF"},    {"3<<EOF", "3EOF"},   {"12<<-E", "12-E"},
        {"<< EOF", "0EOF"},     {"<<- EOF", "0-EOF"},      {"<<E\\OF", "0EOF"},  {"<<'one two'", "0'one two"},
        {"<<$EOF", "0$EOF"},    {"<<${X:-y}", "0${X:-y}"}, {"<<é", "0é"}};
    for (const auto& [word, expected] : good) {
        const auto doc = parse_heredoc_word(word);
        ASSERT_TRUE(doc) << word;
        EXPECT_EQ(shown(*doc), expected) << word;
    }
    for (const char* word : {"", "EOF", "<<", "<<-", "<EOF", "<<<EOF", "<<EOF sh", "x<<EOF", "<<a<b", "<<''", "<<  "}) {
        EXPECT_TRUE(read_heredoc_word(word)) << word;
        EXPECT_FALSE(parse_heredoc_word(word)) << word;
    }
    for (const char* word : {"<<'EOF", "<<\"EOF", "<<EOF'", "<<EOF\""}) EXPECT_FALSE(read_heredoc_word(word)) << word;
}

TEST(Heredoc, Lines) {
    const std::vector<std::pair<const char*, const char*>> cases = {
        {"RUN <<EOF", "0EOF"},
        {"RUN <<-EOF", "0-EOF"},
        {"RUN << EOF", "0EOF"},
        {"RUN << -EOF", "0-EOF"},  // a name that begins with "-", no chomping
        {"RUN <<- EOF", ""},
        {"RUN 4<<EOF", "4EOF"},
        {"RUN <<A <<B cat", "0A 0B"},
        {"COPY <<a b <<'c' /d", "0a 0'c"},
        {"RUN '<<EOF'", ""},
        {"RUN \"<<EOF\"", ""},
        {"RUN \\<<EOF", ""},
        {"RUN x<<EOF", ""},
        {"RUN echo $((1<<2))", ""},
        {"RUN cat <<<word", ""},
        {"RUN it's <<EOF", ""},  // no shell could read this line either
        {"RUN a < b", ""},
    };
    for (const auto& [line, expected] : cases) {
        std::string out;
        const auto docs = heredocs_of_line(line).value();
        for (const Heredoc& doc : docs) out += (out.empty() ? "" : " ") + shown(doc);
        EXPECT_EQ(out, expected) << line;
    }
    EXPECT_FALSE(parse_heredoc_word("<< -EOF")->chomp);
}

TEST(Heredoc, Bodies) {
    const auto file = parse(
        "FROM a\n"
        "RUN <<EOF cat\n"
        "# no comment\n"
        "\n"
        " EOF\n"
        "EOF\r\n"
        "COPY <<-A <<B /x/\n"
        "\ttab\\\n"
        "\tA\n"
        "keep\r\n"
        "B\n"
        "USER u\n",
        "Dockerfile");
    ASSERT_TRUE(file) << file.error().to_string();
    ASSERT_EQ(file->nodes.size(), 4U);
    EXPECT_EQ(file->nodes[1].heredocs[0].data, "# no comment\n\n EOF\n");
    EXPECT_EQ(file->nodes[1].lines, (Lines{2, 6}));
    EXPECT_EQ(file->nodes[2].heredocs[0].data, "\ttab\\\n");
    EXPECT_EQ(file->nodes[2].heredocs[1].data, "keep\r\n");
    EXPECT_EQ(file->nodes[3].lines, (Lines{12, 12}));

    const auto copy = parse_instruction(file->nodes[2]);
    const auto& files = std::get<CopyCommand>(copy->command).files;
    ASSERT_EQ(files.contents.size(), 2U);
    EXPECT_EQ(files.contents[0].data, "tab\\\n");
    EXPECT_EQ(files.contents[1].name, "B");
    EXPECT_EQ(files.dest, "/x/");
}

TEST(Heredoc, WhereTheyAreNone) {
    for (const std::string text : {"RUN [\"<<EOF\"]\n", "COPY [\"<<EOF\", \"/x\"]\n", "CMD <<EOF\n", "ENV a=<<EOF\n",
                                   "ONBUILD RUN [\"<<EOF\"]\n", "ONBUILD CMD <<EOF\n", "RUN echo '<<EOF'\n"}) {
        const auto file = parse("FROM a\n" + text + "USER u\n", "Dockerfile");
        ASSERT_TRUE(file) << text;
        EXPECT_EQ(file->nodes.size(), 3U) << text;
        EXPECT_TRUE(file->nodes[1].heredocs.empty()) << text;
    }
}

TEST(Heredoc, InTriggers) {
    const auto file = parse("FROM a\nONBUILD COPY <<A <<-B /x\n1\nA\n\t2\nB\n", "Dockerfile");
    ASSERT_TRUE(file) << file.error().to_string();
    const auto trigger = parse_instruction(file->nodes[1]);
    ASSERT_TRUE(trigger);
    EXPECT_EQ(std::get<OnbuildCommand>(trigger->command).expression, "COPY <<A <<-B /x\n1\nA\n\t2\nB");
}

TEST(Heredoc, MustEnd) {
    const auto file = parse_stages(parse("FROM a\nRUN <<EOF\nx\n EOF\n", "Dockerfile").value());
    ASSERT_FALSE(file);
    EXPECT_EQ(file.error().to_string(), "dockerfile parse error on line 2: unterminated heredoc: EOF is missing");
    EXPECT_EQ(file.error().find_detail<SourceRange>()->first_line, 2);
    EXPECT_NE(file.error().find_detail<Excerpt>()->text.find("   2 | >>> RUN <<EOF\n"), std::string::npos);
}

TEST(Heredoc, WholeAndChomp) {
    EXPECT_TRUE(is_whole_heredoc("<<EOF"));
    EXPECT_TRUE(is_whole_heredoc(" <<-'EOF' "));
    EXPECT_FALSE(is_whole_heredoc("<<EOF sh"));
    EXPECT_FALSE(is_whole_heredoc("cat <<EOF"));
    EXPECT_EQ(chomp_heredoc("\t\ta\n b\n\t"), "a\n b\n");
    EXPECT_EQ(chomp_heredoc("a\tb\n\n\tc"), "a\tb\n\nc");
    EXPECT_EQ(chomp_heredoc(""), "");
}

}  // namespace
}  // namespace cooper::dockerfile
