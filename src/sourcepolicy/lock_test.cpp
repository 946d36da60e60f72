#include "sourcepolicy/lock.hpp"

#include <gtest/gtest.h>
#include <random>

namespace cooper::sourcepolicy {
namespace {

const std::string kDigest = "sha256:" + std::string(64, 'a');
const std::string kCommit(40, 'b');

Lock example() {
    return {{{"docker-image://docker.io/library/debian:12", kDigest},
             {"https://example.com/*.tgz", kDigest},
             {"git://example.com/r.git#main:sub", kCommit}}};
}

TEST(Lock, IsReadAsItWasWritten) {
    const auto again = parse_lock(print_lock(example()));
    ASSERT_TRUE(again) << again.error().to_string();
    EXPECT_EQ(*again, example());
    EXPECT_EQ(print_lock({}), "{\n  \"version\": 1,\n  \"sources\": {}\n}\n");
    EXPECT_EQ(*parse_lock(print_lock({})), Lock{});
}

TEST(Lock, BrokenOnesAreRefused) {
    for (const std::string& text :
         {std::string(), std::string("[]"), std::string("{\"version\":1}"),
          std::string("{\"version\":2,\"sources\":{}}"),
          "{\"version\":1,\"sources\":{\"docker-image://a:1\":\"" + kCommit + "\"}}",
          "{\"version\":1,\"sources\":{\"git://a#main\":\"" + kDigest + "\"}}",
          "{\"version\":1,\"sources\":{\"docker-image://a:1@" + kDigest + "\":\"" + kDigest + "\"}}",
          "{\"version\":1,\"sources\":{\"local://context\":\"" + kDigest + "\"}}",
          std::string("{\"version\":1,\"sources\":{\"docker-image://a:1\":7}}")}) {
        EXPECT_FALSE(parse_lock(text)) << text;
    }
}

TEST(Lock, WhatFloats) {
    EXPECT_TRUE(is_floating({"docker-image://docker.io/library/a:1", {}}));
    EXPECT_FALSE(is_floating({"docker-image://docker.io/library/a:1@" + kDigest, {}}));
    EXPECT_TRUE(is_floating({"http://x/y", {}}));
    EXPECT_FALSE(is_floating({"http://x/y", {{"http.checksum", kDigest}}}));
    EXPECT_TRUE(is_floating({"git://x/y", {}}));
    EXPECT_TRUE(is_floating({"git://x/y#main", {}}));
    EXPECT_FALSE(is_floating({"git://x/y#main", {{"git.checksum", kCommit}}}));
    EXPECT_FALSE(is_floating({"git://x/y#" + kCommit + ":sub", {}}));
    EXPECT_FALSE(is_floating({"local://context", {}}));
    EXPECT_FALSE(is_floating({"oci-layout://x", {}}));
}

// What becomes of a source; "denied".
llb::SourceOp after(const Lock& lock, Frozen frozen, llb::SourceOp source) {
    const auto policies = Policies::create({policy_of(lock, frozen)});
    EXPECT_TRUE(policies);
    const auto done = policies->apply(source);
    if (!done) return {"denied", {}};
    return source;
}

TEST(Lock, AsAPolicyItPins) {
    for (const Frozen frozen : {Frozen::no, Frozen::yes}) {
        EXPECT_EQ(after(example(), frozen, {"docker-image://docker.io/library/debian:12", {}}).identifier,
                  "docker-image://docker.io/library/debian:12@" + kDigest);
        EXPECT_EQ(after(example(), frozen, {"https://example.com/*.tgz", {}}).attrs.at("http.checksum"), kDigest);
        const auto git = after(example(), frozen, {"git://example.com/r.git#main:sub", {}});
        EXPECT_EQ(git.identifier, "git://example.com/r.git#main:sub");
        EXPECT_EQ(git.attrs.at("git.checksum"), kCommit);
        EXPECT_EQ(git.attrs.at("git.fetchbycommit"), "true");
    }
}

TEST(Lock, FrozenDeniesWhatFloats) {
    for (const char* identifier : {"docker-image://docker.io/library/debian:11", "https://example.com/a.tgz",
                                   "http://example.com/", "git://example.com/r.git#other"}) {
        EXPECT_EQ(after(example(), Frozen::no, {identifier, {}}).identifier, identifier);
        EXPECT_EQ(after(example(), Frozen::yes, {identifier, {}}).identifier, "denied");
    }
    for (const llb::SourceOp& source :
         {llb::SourceOp{"git://x#" + std::string(41, 'a'), {}}, llb::SourceOp{"git://x#" + kCommit + "g:sub", {}},
          llb::SourceOp{"git://x#a#" + kCommit, {}}, llb::SourceOp{"git://x", {{"git.checksum", "b"}}}}) {
        EXPECT_EQ(after({}, Frozen::yes, source).identifier, "denied") << source.identifier;
    }
    for (const llb::SourceOp& source :
         {llb::SourceOp{"docker-image://a:1@" + kDigest, {}}, llb::SourceOp{"http://x", {{"http.checksum", kDigest}}},
          llb::SourceOp{"git://x#" + kCommit, {}}, llb::SourceOp{"git://x#main", {{"git.checksum", kCommit}}},
          llb::SourceOp{"local://context", {}}}) {
        EXPECT_EQ(after({}, Frozen::yes, source), source);
    }
}

// "denied", "broken", or what it becomes.
std::string outcome(const Policies& policies, llb::SourceOp source) {
    const auto done = policies.apply(source);
    if (!done) return done.error().code() == Code::permission_denied ? "denied" : "broken";
    std::string text = source.identifier;
    for (const auto& [key, value] : source.attrs) text += " " + key + "=" + value;
    return text;
}

TEST(Lock, JoinedWithAPolicyDecidesAsBothInTurn) {
    const std::vector<std::string> sources = {
        "docker-image://a:1", "docker-image://a:2", "docker-image://a:1@" + kDigest,
        "https://a/1",        "git://a/1#main",     "git://a/1#" + kCommit};
    std::vector<std::string> patterns = sources;
    for (const char* one : {"*", "docker-image://*", "docker-image://a:1*", "https://*", "git://a*"})
        patterns.emplace_back(one);
    std::mt19937 random(7);  // the same policies each time
    const auto any = [&](const auto& list) { return list[random() % list.size()]; };
    std::map<std::string, int> seen;
    for (int round = 0; round < 300; ++round) {
        Lock lock;
        for (const char* one : {"docker-image://a:1", "docker-image://a:2", "https://a/1", "git://a/1#main"}) {
            if (random() % 2 == 0) lock.sources[one] = std::string(one).starts_with("git") ? kCommit : kDigest;
        }
        Policy own;
        for (std::size_t count = random() % 4; count > 0; --count) {
            Rule rule{.action = static_cast<Action>(random() % 3), .identifier = any(patterns), .attributes = {}};
            rule.match = rule.identifier.contains('*') ? Match::wildcard : Match::exact;
            if (rule.action == Action::convert) rule.update = Rule::Update{any(sources), {}};
            own.rules.push_back(std::move(rule));
        }
        const Frozen frozen = random() % 2 == 0 ? Frozen::yes : Frozen::no;
        const auto in_turn = Policies::create({own, policy_of(lock, frozen)});
        const auto one = joined(own, lock, frozen);
        ASSERT_TRUE(in_turn && one);
        const auto as_one = Policies::create({*one});
        ASSERT_TRUE(as_one);
        for (const auto& source : sources) {
            const std::string wanted = outcome(*in_turn, {source, {}});
            EXPECT_EQ(outcome(*as_one, {source, {}}), wanted) << source << " " << to_json(own) << print_lock(lock);
            ++seen[wanted == "denied" || wanted == "broken" || wanted == source ? wanted : "changed"];
        }
    }
    EXPECT_GT(seen["denied"], 50);
    EXPECT_GT(seen["changed"], 50);
}

TEST(Lock, AttributesOfWhatIsLockedCannotBeJoined) {
    Rule rule{.action = Action::deny, .identifier = "https://*", .attributes = {}};
    rule.attributes.push_back({"http.filename", "x", AttributeMatch::equal});
    EXPECT_FALSE(joined({.rules = {rule}}, example(), Frozen::no));
    rule.identifier = "git://elsewhere/*";
    EXPECT_TRUE(joined({.rules = {rule}}, example(), Frozen::no));
}

TEST(Lock, ThePolicyIsWrittenAsBuildKitReadsIt) {
    const auto again = parse_policy(to_json(policy_of(example(), Frozen::yes)));
    ASSERT_TRUE(again) << again.error().to_string();
    EXPECT_EQ(to_json(*again), to_json(policy_of(example(), Frozen::yes)));
}

}  // namespace
}  // namespace cooper::sourcepolicy
