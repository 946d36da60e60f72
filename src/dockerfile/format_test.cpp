// The canonical form: what changes, what stays, and that it builds the same.
#include "dockerfile/format.hpp"

#include "base/text.hpp"
#include "dockerfile/fake_bridge.hpp"
#include "dockerfile/to_llb.hpp"

#include <filesystem>
#include <fmt/core.h>
#include <fstream>
#include <gtest/gtest.h>
#include <sstream>

namespace cooper::dockerfile {
namespace {

std::string formatted(std::string_view text) {
    const auto out = format(text, "Dockerfile");
    EXPECT_TRUE(out) << out.error().to_string();
    return out.value_or("");
}

// Both the form of `text` and that the form has itself as form.
std::string form_of(std::string_view text) {
    const std::string once = formatted(text);
    EXPECT_EQ(formatted(once), once) << text;
    return once;
}

TEST(Format, OneLine) {
    EXPECT_EQ(form_of("  from   alpine:3   as   build  "), "FROM alpine:3 AS build\n");
    EXPECT_EQ(form_of("FROM a\ncopy   --from=x    a\tb   c"), "FROM a\nCOPY --from=x a b c\n");
    EXPECT_EQ(form_of("FROM a\nenv   a=1    b=\"x  y\""), "FROM a\nENV a=1 b=\"x  y\"\n");
    EXPECT_EQ(form_of("FROM a\nenv   a   x  y "), "FROM a\nENV a x  y\n");
    EXPECT_EQ(form_of("FROM a\nRun  --network=none   echo  'a  b' "), "FROM a\nRUN --network=none echo  'a  b'\n");
    EXPECT_EQ(form_of("FROM a\nCMD [ \"a\" ,\"b<&>\"]"), "FROM a\nCMD [\"a\", \"b<&>\"]\n");
    EXPECT_EQ(form_of("FROM a\nHEALTHCHECK   --retries=3  CMD   [\"a\",\"b\"]"),
              "FROM a\nHEALTHCHECK --retries=3 CMD [\"a\", \"b\"]\n");
    EXPECT_EQ(form_of("FROM a\nonbuild   run  x  y"), "FROM a\nONBUILD run  x  y\n");
}

TEST(Format, BlanksThatCount) {
    // Quotes keep a flag together, and the shell sees the blanks of its command.
    EXPECT_EQ(form_of("FROM a\nCOPY   --from=\"a b\"  x y\n"), "FROM a\nCOPY --from=\"a b\"  x y\n");
    EXPECT_EQ(form_of("FROM a\nRUN a \\ \n\t  b \\\n  # note  \n c\n"), "FROM a\nRUN a \\\n\t  b \\\n  # note\n c\n");
    EXPECT_EQ(form_of("FROM a\nENV a=\"x \\\n  y\" b=1\n"), "FROM a\nENV a=\"x \\\n  y\" b=1\n");
    EXPECT_EQ(form_of("FROM a\nENV a=x\\\ny\n"), "FROM a\nENV a=x\\\ny\n");
}

TEST(Format, Lists) {
    EXPECT_EQ(form_of("FROM a\nEnv   a=1   \\\n\n# why\n      b=2\\\n\tc=3\n"),
              "FROM a\nENV a=1 \\\n    # why\n    b=2 \\\n    c=3\n");
    EXPECT_EQ(form_of("FROM a\nCOPY \\\na \\\n  b /\n"), "FROM a\nCOPY \\\n    a \\\n    b /\n");
    EXPECT_EQ(form_of("FROM a\nARG x \\\n"), "FROM a\nARG x \\\n");
}

TEST(Format, DirectivesCommentsAndEmptyLines) {
    EXPECT_EQ(form_of("#syntax = x  \n#   Escape=`\n\n\n\n#note  \n   # two\n\nFROM a\n\n\nRUN b `\n c\n\n\n"),
              "# syntax=x\n# escape=`\n\n#note\n# two\n\nFROM a\n\nRUN b `\n c\n");
    // Behind an empty line it is a comment, and must stay one.
    EXPECT_EQ(form_of("\n\n# escape=`\nFROM a\nRUN b \\\n c\n"), "\n# escape=`\nFROM a\nRUN b \\\n c\n");
    EXPECT_EQ(form_of("\n\n# hello\nFROM a\n"), "# hello\nFROM a\n");
    EXPECT_EQ(form_of("\xef\xbb\xbf# escape=`\r\nFROM a\r\nRUN b\r\n"), "# escape=`\nFROM a\nRUN b\n");
}

TEST(Format, Heredocs) {
    const std::string text = "FROM a\nCOPY  <<A   <<-'B'  /x\n  1  \r\nA\n\t2\n\tB\nRUN <<EOF  \n  x  \n\n\nEOF\n";
    EXPECT_EQ(form_of(text), "FROM a\nCOPY <<A <<-'B' /x\n  1  \r\nA\n\t2\n\tB\nRUN <<EOF\n  x  \n\n\nEOF\n");
}

TEST(Format, Mistakes) {
    const auto out = format("FROM a\nCOPPY b c\n", "Dockerfile");
    ASSERT_FALSE(out);
    EXPECT_NE(out.error().to_string().find("did you mean COPY?"), std::string::npos);
}

TEST(Tree, Members) {
    const auto tree =
        syntax_tree_json("# escape=`\n# the one\nFROM --platform=p a AS b\nCOPY <<E /x\nhi\nE\nENV k=\"v\"\n", "D");
    ASSERT_TRUE(tree);
    for (const char* part :
         {"\"escape\": \"`\"", "\"name\": \"b\"", "\"base\": \"a\"", "\"platform\": \"p\"", "\"instruction\": \"COPY\"",
          "\"content\": \"hi\\n\"", "\"key\": \"k\"", "\"value\": \"\\\"v\\\"\"", "\"the one\"", "\"--platform=p\""}) {
        EXPECT_NE(tree->find(part), std::string::npos) << part << *tree;
    }
}

// --- everything there is ---

std::vector<std::string> dockerfiles_of(const std::string& text) {
    std::vector<std::string> out;
    bool inside = false;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        if (line.starts_with("-- ") && line.ends_with(" --")) {
            inside = line.find("ockerfile") != std::string::npos;
            if (inside) out.emplace_back();
        } else if (inside) {
            out.back() += line + "\n";
        }
    }
    return out;
}

std::vector<std::string> corpus() {
    std::vector<std::string> out;
    const std::filesystem::path root = COOPER_SOURCE_DIR;
    for (const char* folder : {"tests/scenarios", "examples"}) {
        for (const auto& entry : std::filesystem::recursive_directory_iterator(root / folder)) {
            const std::string name = entry.path().filename();
            if (!entry.is_regular_file() || (!name.ends_with(".scn") && !name.starts_with("Dockerfile"))) continue;
            std::ifstream file(entry.path(), std::ios::binary);
            std::string text((std::istreambuf_iterator<char>(file)), {});
            if (!name.ends_with(".scn")) {
                out.push_back(std::move(text));
            } else {
                for (std::string& one : dockerfiles_of(text)) out.push_back(std::move(one));
            }
        }
    }
    return out;
}

Result<BuildPlan> plan_of(const std::string& text) {
    FakeBridge bridge;
    bridge.any_image = true;
    ConvertOptions options;
    options.build_platforms = {oci::Platform{.os = "linux", .architecture = "amd64"}};
    return to_llb(text, options, bridge, Stop{});
}

TEST(Format, AllDockerfilesOfTheProjectBuildTheSame) {
    std::size_t built = 0;
    for (const std::string& text : corpus()) {
        const auto form = format(text, "Dockerfile");
        if (!form) continue;
        ASSERT_EQ(format(*form, "Dockerfile").value(), *form) << text;
        const ParsedFile before = parse(text, "D").value();
        const ParsedFile after = parse(*form, "D").value();
        ASSERT_EQ(before.nodes.size(), after.nodes.size()) << text;
        EXPECT_EQ(before.escape, after.escape);
        EXPECT_EQ(before.syntax, after.syntax);
        EXPECT_EQ(before.check, after.check);
        for (std::size_t i = 0; i < before.nodes.size(); ++i) {
            EXPECT_TRUE(same_meaning(before.nodes[i], after.nodes[i])) << text;
            EXPECT_EQ(before.nodes[i].comments, after.nodes[i].comments) << text;
        }
        const auto one = plan_of(text);
        const auto two = plan_of(*form);
        ASSERT_EQ(one.has_value(), two.has_value()) << text;
        if (!one) continue;
        ++built;
        EXPECT_EQ(one->definition.ops, two->definition.ops) << text << *form;
        EXPECT_EQ(one->image, two->image) << text << *form;
    }
    EXPECT_GT(built, 200U);
}

}  // namespace
}  // namespace cooper::dockerfile
