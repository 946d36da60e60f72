#include "sourcepolicy/policy.hpp"

#include "base/text.hpp"
#include "llb/load.hpp"
#include "llb/marshal.hpp"
#include "llb/state.hpp"

#include <gtest/gtest.h>

namespace cooper::sourcepolicy {
namespace {

Policies policies(std::string_view rules) {
    const auto policy = parse_policy(fmt::format(R"({{"version":1,"rules":[{}]}})", rules));
    EXPECT_TRUE(policy) << (policy ? "" : policy.error().to_string());
    auto made = Policies::create({policy ? *policy : Policy()});
    EXPECT_TRUE(made) << (made ? "" : made.error().to_string());
    return made ? *made : Policies();
}

// What an identifier becomes; "denied"; or the error.
std::string after(const Policies& rules, const std::string& identifier, std::map<std::string, std::string> attrs = {}) {
    llb::SourceOp source{identifier, std::move(attrs)};
    const auto changed = rules.apply(source);
    if (!changed) return changed.error().code() == Code::permission_denied ? "denied" : changed.error().to_string();
    EXPECT_EQ(*changed, source.identifier != identifier);
    return source.identifier;
}

TEST(Policies, WithoutRulesEverythingIsAllowed) {
    EXPECT_TRUE(Policies().empty());
    EXPECT_EQ(after(Policies(), "docker-image://x"), "docker-image://x");
    EXPECT_TRUE(policies("").empty());
}

TEST(Policies, TheLastMatchingRuleDecides) {
    const auto deny_first = policies(R"({"action":"DENY","selector":{"identifier":"docker-image://*"}},
        {"action":"ALLOW","selector":{"identifier":"docker-image://docker.io/library/alpine:*"}})");
    EXPECT_EQ(after(deny_first, "docker-image://docker.io/library/alpine:3"),
              "docker-image://docker.io/library/alpine:3");
    EXPECT_EQ(after(deny_first, "docker-image://docker.io/library/busybox:1"), "denied");
    EXPECT_EQ(after(deny_first, "https://example.com/docker-image://"), "https://example.com/docker-image://");
    const auto deny_last = policies(R"({"action":"ALLOW","selector":{"identifier":"a:*"}},
        {"action":"DENY","selector":{"identifier":"a:b"}})");
    EXPECT_EQ(after(deny_last, "a:b"), "denied");
    EXPECT_EQ(after(deny_last, "a:c"), "a:c");
}

TEST(Policies, KindsOfMatches) {
    const auto exact = policies(R"({"action":"DENY","selector":{"identifier":"a*","matchType":"EXACT"}})");
    EXPECT_EQ(after(exact, "ab"), "ab");
    EXPECT_EQ(after(exact, "a*"), "denied");
    const auto regex = policies(R"({"action":"DENY","selector":{"identifier":"^http://","match_type":2}})");
    EXPECT_EQ(after(regex, "http://x/y"), "denied");
    EXPECT_EQ(after(regex, "https://x/y"), "https://x/y");
    // What has a meaning in expressions has none in a pattern.
    const auto dots = policies(R"({"action":"DENY","selector":{"identifier":"a.b+*"}})");
    EXPECT_EQ(after(dots, "axb+1"), "axb+1");
    EXPECT_EQ(after(dots, "a.b+1"), "denied");
}

TEST(Policies, Conversions) {
    const auto stars = policies(R"({"action":"CONVERT","selector":{"identifier":"docker-image://docker.io/*:*"},
        "updates":{"identifier":"docker-image://mirror.example/${1}:$2"}})");
    EXPECT_EQ(after(stars, "docker-image://docker.io/library/x:1"), "docker-image://mirror.example/library/x:1");
    const auto groups =
        policies(R"({"action":"CONVERT","selector":{"identifier":"^http://(?P<rest>.*)$","matchType":"REGEX"},
        "updates":{"identifier":"https://${rest}"}})");
    EXPECT_EQ(after(groups, "http://a/b"), "https://a/b");
    const auto part = policies(
        R"({"action":"CONVERT","selector":{"identifier":"old","matchType":"REGEX"},"updates":{"identifier":"new$$"}})");
    EXPECT_EQ(after(part, "an old and an old"), "an new$ and an new$");
    const auto nothing = policies(
        R"({"action":"CONVERT","selector":{"identifier":"x*","matchType":"REGEX"},"updates":{"identifier":"-"}})");
    EXPECT_NE(after(nothing, "ab").find("becomes longer than"), std::string::npos);
}

TEST(Policies, AConversionThatChangesNothingDecidesNothing) {
    const auto denied = policies(R"({"action":"DENY","selector":{"identifier":"docker-image://a:1"}},
        {"action":"CONVERT","selector":{"identifier":"docker-image://*"},"updates":{"identifier":"docker-image://a:1"}})");
    EXPECT_EQ(after(denied, "docker-image://a:1"), "denied");
    EXPECT_EQ(after(denied, "docker-image://a:2"), "denied");
}

TEST(Policies, AConversionIsLookedAtAgain) {
    const auto rules = policies(R"({"action":"CONVERT","selector":{"identifier":"a"},"updates":{"identifier":"b"}},
        {"action":"DENY","selector":{"identifier":"b"}})");
    EXPECT_EQ(after(rules, "a"), "denied");
    const auto endless =
        policies(R"({"action":"CONVERT","selector":{"identifier":"a*"},"updates":{"identifier":"aa${1}"}})");
    EXPECT_NE(after(endless, "a").find("converted more than 20 times"), std::string::npos);
    const auto back = policies(R"({"action":"CONVERT","selector":{"identifier":"a"},"updates":{"identifier":"b"}},
        {"action":"CONVERT","selector":{"identifier":"b"},"updates":{"identifier":"a"}})");
    EXPECT_NE(after(back, "a").find("converted more than 20 times"), std::string::npos);
}

TEST(Policies, Attributes) {
    const auto pin = policies(
        R"({"action":"CONVERT","selector":{"identifier":"https://x/a"},"updates":{"attrs":{"http.checksum":"sha256:1"}}})");
    llb::SourceOp source{"https://x/a", {}};
    EXPECT_TRUE(*pin.apply(source));
    EXPECT_EQ(source.attrs.at("http.checksum"), "sha256:1");
    EXPECT_FALSE(*pin.apply(source));
    const auto rules = policies(R"({"action":"DENY","selector":{"identifier":"git://*","constraints":[
        {"key":"git.fullurl","value":"^https://","condition":"MATCHES"},{"key":"k","value":"v","condition":"NOTEQUAL"},
        {"key":"e","value":"1"}]}})");
    EXPECT_EQ(after(rules, "git://x", {{"git.fullurl", "https://x"}, {"e", "1"}}), "denied");
    EXPECT_EQ(after(rules, "git://x", {{"git.fullurl", "ssh://x"}, {"e", "1"}}), "git://x");
    EXPECT_EQ(after(rules, "git://x", {{"git.fullurl", "https://x"}, {"e", "1"}, {"k", "v"}}), "git://x");
    EXPECT_EQ(after(rules, "git://x", {{"git.fullurl", "https://x"}}), "git://x");
}

TEST(Policies, EveryPolicyHasItsSay) {
    const auto one = *parse_policy(R"({"rules":[{"action":"ALLOW","selector":{"identifier":"a"}}]})");
    const auto two = *parse_policy(R"({"rules":[{"action":"DENY","selector":{"identifier":"a"}}]})");
    EXPECT_EQ(after(*Policies::create({one, two}), "a"), "denied");
    EXPECT_EQ(after(*Policies::create({two, one}), "a"), "denied");
}

TEST(Policies, BadPoliciesAreRefused) {
    for (const char* text :
         {"", "[]", "{\"rule\":[]}", R"({"rules":{}})", R"({"rules":[{}]})",
          R"({"rules":[{"action":"FORBID","selector":{"identifier":"a"}}]})",
          R"({"rules":[{"action":7,"selector":{"identifier":"a"}}]})", R"({"rules":[{"selector":{"identifier":5}}]})",
          R"({"version":"1"})", R"({"rules":[{"selector":{"identifier":"a","matchtype":"EXACT"}}]})"}) {
        EXPECT_FALSE(parse_policy(text)) << text;
    }
    for (const char* text :
         {R"({"version":2,"rules":[{"selector":{"identifier":"a"}}]})", R"({"rules":[{"selector":{"identifier":""}}]})",
          R"({"rules":[{"action":"CONVERT","selector":{"identifier":"a"}}]})",
          R"({"rules":[{"selector":{"identifier":"(","matchType":"REGEX"}}]})"}) {
        const auto policy = parse_policy(text);
        ASSERT_TRUE(policy) << text;
        EXPECT_FALSE(Policies::create({*policy})) << text;
    }
}

llb::Definition two_sources() {
    const llb::State base = llb::image("docker.io/library/a:1", {});
    const llb::State other = llb::image("docker.io/library/b:1", {});
    llb::FileActions copy;
    copy.copy(other, "/x", "/y", {});
    const auto definition =
        llb::marshal_definition(base.file(std::move(copy), {}), {.architecture = "amd64", .os = "linux"});
    EXPECT_TRUE(definition);
    return definition ? *definition : llb::Definition();
}

TEST(ChangeSources, UnchangedStaysByteForByte) {
    const auto definition = two_sources();
    const auto same = change_sources(definition, [](llb::SourceOp&, const auto&) -> Result<bool> { return false; });
    ASSERT_TRUE(same);
    EXPECT_EQ(*same, definition);
}

TEST(ChangeSources, WhatIsAboveIsRenamedWithItsMetadata) {
    const auto definition = two_sources();
    const auto changed = change_sources(definition, [](llb::SourceOp& source, const auto&) -> Result<bool> {
        if (source.identifier != "docker-image://docker.io/library/b:1") return false;
        source.identifier = "docker-image://mirror.example/b:1";
        return true;
    });
    ASSERT_TRUE(changed);
    const auto before = llb::load(definition);
    const auto graph = llb::load(*changed);
    ASSERT_TRUE(before);
    ASSERT_TRUE(graph) << graph.error().to_string();
    ASSERT_EQ(graph->vertices.size(), 3U);
    std::size_t kept = 0;
    for (const auto& vertex : graph->vertices) {
        if (before->find(vertex.digest) != nullptr) ++kept;
        EXPECT_TRUE(changed->metadata.contains(vertex.digest.to_string()));
    }
    EXPECT_EQ(kept, 1U);
    EXPECT_EQ(changed->metadata.size(), definition.metadata.size());
}

TEST(ChangeSources, ARefusalEndsIt) {
    const auto refused = change_sources(two_sources(), [](llb::SourceOp&, const auto&) -> Result<bool> {
        return fail(Code::permission_denied, Blame::user, "no");
    });
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Code::permission_denied);
}

}  // namespace
}  // namespace cooper::sourcepolicy
