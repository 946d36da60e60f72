#include "why/travel.hpp"

#include "codec/compression.hpp"
#include "codec/sha256.hpp"
#include "why/compare.hpp"
#include "why/redact.hpp"

#include <algorithm>
#include <gtest/gtest.h>
#include <random>

namespace cooper::why {
namespace {

Timestamp at(int seconds) { return Timestamp{std::chrono::seconds(1'700'000'000 + seconds)}; }

std::string same(const std::string& state) { return state; }

Ingredients step_of(const std::string& text) {
    Ingredients step{
        .builder = "1",
        .project = "p",
        .name = "[builder 3/8] RUN make 1.2.3",
        .kind = "exec",
        .text = text,
        .values = {{"command", "/bin/sh -c make"}, {"env VERSION", "1.2.3"}, {"source", "tools-1.2.3"}},
        .variables = {{.name = "VERSION", .is_argument = true, .definition = "1", .given = "1.2.3", .is_given = true}},
        .inputs = {{.step = "[builder 2/8] COPY tools-1.2.3 /t", .state = "1,2"}},
        .result = "1,2,3"};
    return step;
}

std::string zstd_of(std::string_view plain) {
    StringSink sink;
    auto compressor = codec::make_compressor(sink, codec::Compression::zstd, 1, 1);
    EXPECT_TRUE(compressor && (*compressor)->write(as_bytes(plain)) && (*compressor)->finish());
    return sink.text;
}

Travelling some() {
    Travelling travelling;
    const std::string list = *pack_for_travel(pack({{.path = "/a"}, {.path = "/b"}}));
    travelling.lists["0123456789abcdef0123456789abcdef"] = {.data = list, .digest = {}, .size = 0};
    travelling.lists["f123456789abcdef0123456789abcdef"] = {.data = {}, .digest = codec::sha256_of("x"), .size = 7};
    for (int i = 0; i < 5; ++i)
        travelling.steps.push_back({portable(step_of("RUN " + std::to_string(i)), same), at(i)});
    return travelling;
}

TEST(Travel, ValuesOfTheCommandLineDoNotTravel) {
    const Ingredients step = portable(step_of("RUN make $VERSION"),
                                      [](const std::string& state) { return state == "1,2" ? "layers x" : ""; });
    const std::string text = to_json(step);
    EXPECT_EQ(text.find("1.2.3"), std::string::npos) << text;
    EXPECT_EQ(text.find("\"p\""), std::string::npos) << text;
    EXPECT_EQ(step.name, "[builder 3/8] RUN make $VERSION");
    EXPECT_EQ(step.inputs[0].state, "layers x");
    EXPECT_EQ(step.result, "");
    // Yet another one is told from it.
    Ingredients other = step_of("RUN make $VERSION");
    other.variables[0].given = "1.2.4";
    other.values[1].value = "1.2.4";
    const auto cause = cause_in_text(portable(other, same), step);
    ASSERT_TRUE(cause);
    EXPECT_EQ(to_text(*cause), "ARG VERSION changed (its value is not shown)");
    // The default, given explicitly, is what it was.
    Ingredients given = step_of("RUN make $VERSION");
    given.variables[0].given = given.variables[0].definition = "1.2.3";
    EXPECT_FALSE(portable(given, same).variables[0].is_given);
}

TEST(Travel, OfHiddenValuesNothingTravels) {
    const Redactor here("here");
    const Redactor there("there");
    const auto with = [](const Redactor& redactor) {
        Ingredients step = step_of(redactor.text("RUN login --password hush"));
        step.variables = {{.name = "TOKEN",
                           .is_argument = true,
                           .definition = "",
                           .given = redactor.value("TOKEN", "hush"),
                           .is_given = true}};
        step.values = {{"env TOKEN", redactor.value("TOKEN", "hush")}};
        return portable(step, same);
    };
    EXPECT_EQ(to_json(with(here)), to_json(with(there)));
    EXPECT_TRUE(is_withheld(with(here).text));
    EXPECT_FALSE(cause_in_text(with(here), with(there)));
    const auto cause = cause_in_hidden(with(here), with(there));
    ASSERT_TRUE(cause);
    EXPECT_EQ(to_text(*cause), "ARG TOKEN must have changed (its value does not travel)");
}

TEST(Travel, WhatOneSideDoesNotKnowIsNoDifference) {
    Ingredients now = step_of("RUN make");
    Ingredients then = step_of("RUN make");
    then.inputs[0].state.clear();
    EXPECT_FALSE(differing_input(now, then));
    then.inputs[0].state = "layers y";
    EXPECT_TRUE(differing_input(now, then));
}

TEST(Travel, TheTextIsReadAgain) {
    const Travelling travelling = some();
    const auto again = parse_travelling(to_text(travelling));
    ASSERT_TRUE(again);
    EXPECT_EQ(again->lists, travelling.lists);
    ASSERT_EQ(again->steps.size(), 5);
    EXPECT_EQ(again->steps[0].created, at(4));
    EXPECT_EQ(to_json(again->steps[0].step), to_json(travelling.steps[4].step));
}

TEST(Travel, TheSameRecordsAreTheSameBytes) {
    Travelling travelling = some();
    const std::string text = to_text(travelling);
    std::ranges::reverse(travelling.steps);
    travelling.steps.push_back(travelling.steps[2]);
    EXPECT_EQ(to_text(travelling), text);
    EXPECT_EQ(to_text(*parse_travelling(text)), text);
}

TEST(Travel, DamagedTextsAreNone) {
    const std::string text = to_text(some());
    std::mt19937 random(7);  // NOLINT(cert-msc51-cpp): the same each time
    for (int i = 0; i < 2'000; ++i) {
        std::string damaged = text;
        if (i % 2 == 0) damaged.resize(random() % damaged.size());
        for (std::size_t n = random() % 4; n > 0 && !damaged.empty(); --n)
            damaged[random() % damaged.size()] = static_cast<char>(random());
        const auto read = parse_travelling(damaged);
        EXPECT_TRUE(!read || read->steps.size() <= kMaxTravellingSteps);
    }
    // Below the compression, too.
    std::string plain = "cooper-steps 1\nlist 0123456789abcdef0123456789abcdef here YWJj\nstep 2024-01-01T00:00:00Z " +
                        to_json(step_of("RUN")) + "\n";
    ASSERT_TRUE(parse_travelling(zstd_of(plain)));
    for (int i = 0; i < 2'000; ++i) {
        std::string damaged = plain;
        for (std::size_t n = 1 + random() % 4; n > 0; --n)
            damaged[random() % damaged.size()] = static_cast<char>(random());
        static_cast<void>(parse_travelling(zstd_of(damaged)));
    }
}

TEST(Travel, HostileTextsAreNone) {
    const std::string head = "cooper-steps 1\n";
    const std::string name = "0123456789abcdef0123456789abcdef";
    EXPECT_FALSE(parse_travelling(""));
    EXPECT_FALSE(parse_travelling(head));
    EXPECT_FALSE(parse_travelling(zstd_of("cooper-steps 2\n")));
    EXPECT_TRUE(parse_travelling(zstd_of(head)));
    EXPECT_TRUE(parse_travelling(zstd_of(head + "later word and more\n")));
    EXPECT_FALSE(parse_travelling(zstd_of(head + "list ../../x here YWJj\n")));
    EXPECT_FALSE(parse_travelling(zstd_of(head + "list " + name + " blob sha256:12 5\n")));
    const std::string digest = codec::sha256_of("x").to_string();
    EXPECT_TRUE(parse_travelling(zstd_of(head + "list " + name + " blob " + digest + " 5\n")));
    EXPECT_FALSE(parse_travelling(zstd_of(head + "list " + name + " blob " + digest + " 99999999999\n")));
    EXPECT_FALSE(parse_travelling(zstd_of(head + "step yesterday {}\n")));
    EXPECT_FALSE(parse_travelling(zstd_of(head + "step 2024-01-01T00:00:00Z [" + std::string(100'000, '[') + "\n")));
    EXPECT_FALSE(
        parse_travelling(zstd_of(head + "step 2024-01-01T00:00:00Z {\"text\":\"" + std::string(5'000, 'x') + "\"}\n")));
    // Much out of little.
    EXPECT_FALSE(parse_travelling(zstd_of(head + std::string(64U << 20U, '\n'))));
    std::string many = head;
    for (std::size_t i = 0; i <= kMaxTravellingSteps; ++i) many += "step 2024-01-01T00:00:00Z {}\n";
    EXPECT_FALSE(parse_travelling(zstd_of(many)));
}

TEST(Travel, ListsCutInTheSameWayAreCompared) {
    std::vector<FileEntry> files = {{.path = "/a"}, {.path = "/b"}};
    for (auto& file : files) file.digest.fill(9);
    const auto packed = pack_for_travel(pack(files));
    ASSERT_TRUE(packed);
    EXPECT_EQ(pack_for_travel(*packed), packed);
    const auto then = unpack(*packed);
    ASSERT_TRUE(then);
    auto now = files;
    EXPECT_NE(now, *then);
    shorten(now);
    EXPECT_EQ(now, *then);
    EXPECT_FALSE(pack_for_travel("nothing"));
}

TEST(Cause, NothingSteersTheTerminal) {
    const Cause cause{.kind = CauseKind::file, .what = "a\x1b[31m\x7f\xc2\x9b\xff ü \xe2\x80\xae", .change = "content"};
    EXPECT_EQ(to_text(cause), "a\\x1b[31m\\x7f\\xc2\\x9b\\xff ü \\xe2\\x80\\xae changed");
}

TEST(Cause, TheCacheIsNamedWithItsAge) {
    Miss miss{.step = "s", .instruction = "i", .cause = {.kind = CauseKind::file, .what = "a", .change = "content"}};
    miss.compared_with = format_rfc3339(at(0));
    EXPECT_EQ(to_text(miss, at(5)), "a changed");
    miss.cache = "r/app:cache";
    EXPECT_EQ(to_text(miss, at(5)), "a changed (cache r/app:cache, made just now)");
    EXPECT_EQ(to_text(miss, at(60)), "a changed (cache r/app:cache, made 1 minute ago)");
    EXPECT_EQ(to_text(miss, at(7'300)), "a changed (cache r/app:cache, made 2 hours ago)");
    EXPECT_EQ(to_text(miss, at(86'400 * 5)), "a changed (cache r/app:cache, made 5 days ago)");
    EXPECT_EQ(parse_miss(to_json(miss))->cache, "r/app:cache");
}

}  // namespace
}  // namespace cooper::why
