#include "why/cause.hpp"
#include "why/compare.hpp"
#include "why/files.hpp"
#include "why/ingredients.hpp"
#include "why/redact.hpp"

#include <gtest/gtest.h>

namespace cooper::why {
namespace {

TEST(Redactor, HidesWhatItsNameCallsASecret) {
    const Redactor redactor("key");
    EXPECT_TRUE(is_hidden(redactor.value("NPM_TOKEN", "abc")));
    EXPECT_EQ(redactor.value("NPM_TOKEN", "abc"), redactor.value("NPM_TOKEN", "abc"));
    EXPECT_NE(redactor.value("NPM_TOKEN", "abc"), redactor.value("NPM_TOKEN", "abd"));
    EXPECT_NE(redactor.value("NPM_TOKEN", "abc"), Redactor("other").value("NPM_TOKEN", "abc"));
    EXPECT_EQ(redactor.value("VERSION", "1.2"), "1.2");
    EXPECT_EQ(redactor.value("AUTHOR", "me"), "me");
}

TEST(Redactor, HidesWhatLooksLikeASecret) {
    const Redactor redactor("key");
    EXPECT_TRUE(is_hidden(redactor.value("X", "ghp_0123456789abcdefABCDEF")));
    EXPECT_TRUE(is_hidden(redactor.value("X", "aB3kZ9qL2mN8vX1cR7tY4wQ6")));
    EXPECT_TRUE(is_hidden(redactor.value("X", "https://me:word@example.com/a")));
    EXPECT_FALSE(is_hidden(redactor.value("X", "https://example.com/a/b?c=1")));
    EXPECT_FALSE(is_hidden(redactor.value("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")));
    EXPECT_FALSE(is_hidden(redactor.value("X", "build-essential-and-friends")));
}

TEST(Redactor, HidesWordsOfAnInstruction) {
    const Redactor redactor("key");
    const std::string text = redactor.text("RUN curl -H 'Authorization: Bearer abc' -o x && API_TOKEN=hush make");
    EXPECT_EQ(text.find("abc"), std::string::npos);
    EXPECT_EQ(text.find("hush"), std::string::npos);
    EXPECT_NE(text.find("make"), std::string::npos);
    EXPECT_EQ(redactor.text("RUN --mount=type=secret,id=x make"), "RUN --mount=type=secret,id=x make");
    EXPECT_EQ(redactor.text("RUN TOKEN=$TOKEN make"), "RUN TOKEN=$TOKEN make");
}

TEST(Redactor, HidesKnownSecretsWhereverTheyStand) {
    const Redactor redactor = Redactor("key").knowing({"hush", "ab"});
    const std::string text = redactor.text("RUN echo xhushy about");
    EXPECT_EQ(text.find("hush"), std::string::npos);
    EXPECT_NE(text.find("about"), std::string::npos);
}

TEST(Place, IsReadFromTheName) {
    const Place place = place_of("[linux/arm64 builder 3/8] RUN make");
    EXPECT_EQ(place.platform, "linux/arm64");
    EXPECT_EQ(place.stage, "builder");
    EXPECT_EQ(place.number, 3);
    EXPECT_EQ(place.count, 8);
    EXPECT_EQ(place.text, "RUN make");
    EXPECT_EQ(place_of("[2/3] COPY . .").number, 2);
    EXPECT_EQ(place_of("[internal] load").number, 0);
    EXPECT_EQ(place_of("[9/3] x").number, 0);
    EXPECT_EQ(place_of("[x").text, "[x");
}

TEST(Files, ComeBackAsTheyWere) {
    std::vector<FileEntry> files = {{.path = "/b", .mode = 0644, .size = 3}, {.path = "/a", .kind = FileKind::link}};
    const auto back = unpack(pack(files));
    ASSERT_TRUE(back);
    std::swap(files[0], files[1]);
    EXPECT_EQ(*back, files);
    EXPECT_FALSE(unpack("what is this"));
    std::string damaged = pack(files);
    damaged.resize(damaged.size() - 3);
    EXPECT_FALSE(unpack(damaged));
}

FileEntry file(const char* path, std::uint8_t content) {
    FileEntry entry{.path = path, .mode = 0644, .size = 10};
    entry.digest[0] = content;
    return entry;
}

TEST(Files, ChangesAreNamed) {
    FileEntry mode = file("/m", 2);
    mode.mode = 0755;
    FileEntry owner = file("/o", 2);
    owner.uid = 7;
    const auto found = changes({file("/a", 1), file("/gone", 1), file("/m", 1), file("/o", 1), file("/same", 1)},
                               {file("/a", 2), mode, file("/new", 1), owner, file("/same", 1)});
    std::vector<std::string> all;
    for (const auto& one : found) all.push_back(one.path + " " + one.change);
    EXPECT_EQ(all, (std::vector<std::string>{"/a content", "/gone removed", "/m mode", "/new added", "/o owner"}));
    EXPECT_EQ(found[2].before, "0644");
    EXPECT_EQ(found[4].after, "7:0");
}

TEST(Files, ADirectoryIsNamedWhenNothingElseChanged) {
    FileEntry before{.path = "/d", .kind = FileKind::directory, .mode = 0755};
    FileEntry after = before;
    after.mode = 0700;
    after.digest[0] = 1;
    EXPECT_EQ(changes({before}, {after}).at(0).change, "mode");
    EXPECT_EQ(changes({before, file("/d/f", 1)}, {after, file("/d/f", 2)}).at(0).path, "/d/f");
}

TEST(Ingredients, ComeBackAsTheyWere) {
    Ingredients one{.builder = "1", .project = "p", .name = "[1/2] RUN x", .kind = "exec", .text = "RUN x"};
    one.values = {{"env A", "\xff"}, {"user", "me"}};
    one.variables = {{"A", true, "A=1", "2", true}};
    one.inputs = {{.step = "s", .is_local = true, .state = "1,2", .content = "sha256:ab", .files = "f"}};
    one.result = "1,2,3";
    const auto back = parse_ingredients(to_json(one));
    ASSERT_TRUE(back);
    EXPECT_EQ(back->variables, one.variables);
    EXPECT_EQ(back->inputs, one.inputs);
    EXPECT_EQ(back->values[1], one.values[1]);
    EXPECT_FALSE(parse_ingredients("[1"));
    EXPECT_TRUE(parse_ingredients("{\"values\":[3,{\"n\":4}]}"));
}

TEST(Compare, AnArgumentIsNamedNotWhatFollowsFromIt) {
    Ingredients then{.kind = "exec", .text = "RUN x"};
    then.values = {{"env A", "1"}, {"env B", "1"}};
    then.variables = {{"A", true, "A", "1", true}, {"B", false, "B=$A", "", false}};
    Ingredients now = then;
    now.values = {{"env A", "2"}, {"env B", "2"}};
    now.variables[0].given = "2";
    const auto cause = cause_in_text(now, then);
    ASSERT_TRUE(cause);
    EXPECT_EQ(to_text(*cause), "ARG A: 1 → 2");
}

TEST(Compare, VariablesThatTheStepDoesNotSeeAreNoCause) {
    Ingredients then{.kind = "exec", .text = "RUN x"};
    then.variables = {{"A", true, "A", "1", true}};
    Ingredients now = then;
    now.variables[0].given = "2";
    EXPECT_FALSE(cause_in_text(now, then));
}

TEST(Compare, AnInstructionThatIsStillThereIsNotWhatThisOneWas) {
    Ingredients then{.project = "p", .name = "[2/3] RUN a", .kind = "exec", .text = "RUN a"};
    Ingredients now{.project = "p", .name = "[2/4] RUN new", .kind = "exec", .text = "RUN new"};
    EXPECT_GT(likeness(now, then, {}), 0);
    EXPECT_EQ(likeness(now, then, {"RUN a"}), 0);
}

TEST(Cause, IsToldShort) {
    EXPECT_EQ(to_text({.kind = CauseKind::file, .what = "src/a", .change = "content", .others = 2}),
              "src/a changed, and 2 other files");
    EXPECT_EQ(to_text({.kind = CauseKind::file,
                       .what = "a",
                       .change = "mode",
                       .before = "0644",
                       .after = "0755",
                       .step = "[2/3] COPY a /"}),
              "a: mode 0644 → 0755 ([2/3] COPY a /)");
    EXPECT_EQ(to_text({.kind = CauseKind::argument, .what = "TOKEN", .before = "***1", .after = "***2"}),
              "ARG TOKEN changed (its value is not shown)");
}

TEST(Miss, ComesBackAsItWas) {
    Miss miss{.step = "[b 1/2] RUN x", .stage = "b", .number = 1, .count = 2, .instruction = "RUN x"};
    miss.cause = {.kind = CauseKind::file, .what = "a\xff", .change = "mode", .before = "1", .after = "2", .others = 3};
    const auto back = parse_miss(to_json(miss));
    ASSERT_TRUE(back);
    EXPECT_EQ(back->cause.others, 3U);
    EXPECT_EQ(back->cause.kind, CauseKind::file);
    EXPECT_EQ(back->number, 1);
    EXPECT_FALSE(parse_miss("{}"));
}

}  // namespace
}  // namespace cooper::why
