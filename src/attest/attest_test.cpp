#include "attest/provenance.hpp"
#include "attest/purl.hpp"
#include "attest/redact.hpp"
#include "attest/request.hpp"
#include "attest/statement.hpp"
#include "codec/sha256.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace cooper::attest {
namespace {

using nlohmann::json;

TEST(Purl, Images) {
    const oci::Platform arm{.os = "linux", .architecture = "arm64", .variant = {}, .os_version = {}, .os_features = {}};
    const auto purl = [&](const char* name) { return image_purl(*oci::Reference::parse_untagged(name), arm); };
    EXPECT_EQ(purl("busybox"), "pkg:docker/busybox@latest?platform=linux%2Farm64");
    EXPECT_EQ(purl("localhost:5000/a/b:1.0"), "pkg:docker/localhost:5000/a/b@1.0?platform=linux%2Farm64");
    const std::string hex(64, 'a');
    EXPECT_EQ(purl(("busybox@sha256:" + hex).c_str()),
              "pkg:docker/busybox?digest=sha256:" + hex + "&platform=linux%2Farm64");
}

TEST(Purl, EscapesWhatMeansSomethingThere) {
    EXPECT_EQ(to_string({.type = "npm", .space = "@a", .name = "b c", .version = "1+2", .qualifiers = {{"k", ""}}}),
              "pkg:npm/%40a/b%20c@1%2B2");
}

TEST(Redact, PasswordsAndTokensOfUrls) {
    EXPECT_EQ(without_credentials("https://me:pw@host/x"), "https://xxxxx:xxxxx@host/x");
    EXPECT_EQ(without_credentials("see https://token@host"), "see https://xxxxx@host");
    EXPECT_EQ(without_credentials("ssh://git@host/x git@host:x"), "ssh://git@host/x git@host:x");
    EXPECT_EQ(without_credentials("ssh://git:pw@host/x"), "ssh://xxxxx:xxxxx@host/x");
    EXPECT_EQ(without_credentials("https://host/@scope"), "https://host/@scope");
    EXPECT_EQ(without_credentials("A=http://a:b@c B=http://d:e@f"), "A=http://xxxxx:xxxxx@c B=http://xxxxx:xxxxx@f");
    EXPECT_EQ(without_credentials("://"), "://");
}

TEST(Requests, DefaultsAndNothing) {
    EXPECT_TRUE(parse_requests({})->empty());
    const auto all = parse_requests({{"provenance", {{"type", "provenance"}}}, {"sbom", {}}});
    ASSERT_TRUE(all);
    EXPECT_EQ(all->provenance->detail, Detail::max);
    EXPECT_EQ(all->provenance->version, Slsa::v1);
    EXPECT_TRUE(all->sbom->generator.empty());
    EXPECT_FALSE(parse_requests({{"provenance", {{"disabled", "true"}}}})->provenance);
}

TEST(Requests, Refused) {
    for (const auto& [key, value] : std::map<std::string, std::string>{
             {"mode", "x"}, {"version", "v2"}, {"inline-only", "maybe"}, {"filename", "a/b"}, {"capture-usage", "1"}})
        EXPECT_FALSE(parse_requests({{"provenance", {{key, value}}}})) << key;
    EXPECT_FALSE(parse_requests({{"sbom", {{"x", "1"}}}}));
    EXPECT_TRUE(parse_requests({{"sbom", {{"generator", "scan"}, {"x", "1"}}}}));
    EXPECT_FALSE(parse_requests({{"poem", {}}}));
}

TEST(Statement, SubjectsAndPredicate) {
    const Digest digest = codec::sha256_of("x");
    const auto statement = json::parse(make_statement(
        {.predicate_type = std::string(kSlsa1), .predicate = R"({"a":1})", .filename = {}}, {{"name", digest}}));
    EXPECT_EQ(statement["_type"], kStatementType);
    EXPECT_EQ(statement["subject"][0]["digest"]["sha256"], digest.hex());
    EXPECT_EQ(statement["predicate"]["a"], 1);
}

Facts facts_of_git_build() {
    Facts facts;
    facts.frontend = "dockerfile.v0";
    facts.args = {{"context", "https://u:p@host/a.git#main"},
                  {"filename", "x.Dockerfile"},
                  {"platform", "linux/arm64"},
                  {"vcs:revision", "abc"},
                  {"build-arg:A", "1"},
                  {"target", "t"}};
    llb::LoadedVertex git;
    git.digest = codec::sha256_of("git");
    git.op.body = llb::SourceOp{"git://host/a.git#main", {}};
    llb::LoadedVertex run;
    run.digest = codec::sha256_of("run");
    llb::ExecOp exec;
    exec.network = llb::NetMode::none;
    exec.meta.args = {"true"};
    run.op.body = exec;
    run.inputs = {{0, 0}};
    facts.graph.vertices = {git, run};
    facts.graph.target = llb::Edge{1, 0};
    facts.materials[git.digest] = {"https://u:p@host/a.git#main", "sha1", std::string(40, 'c')};
    facts.builder_platform = "linux/amd64";
    return facts;
}

TEST(Provenance, OfAGitContextIsCompleteAndHermetic) {
    const auto predicate = json::parse(*make_provenance(facts_of_git_build(), {}));
    const auto& definition = predicate["buildDefinition"];
    const auto& source = definition["externalParameters"]["configSource"];
    EXPECT_EQ(source["uri"], "https://xxxxx:xxxxx@host/a.git#main");
    EXPECT_EQ(source["digest"]["sha1"], std::string(40, 'c'));
    EXPECT_EQ(source["path"], "x.Dockerfile");
    const auto& args = definition["externalParameters"]["request"]["args"];
    EXPECT_EQ(args, json({{"build-arg:A", "1"}, {"target", "t"}}));
    EXPECT_EQ(definition["resolvedDependencies"].size(), 1U);
    const auto& metadata = predicate["runDetails"]["metadata"];
    EXPECT_EQ(metadata["buildkit_hermetic"], true);
    EXPECT_EQ(metadata["buildkit_completeness"], json({{"request", true}, {"resolvedDependencies", true}}));
    EXPECT_EQ(metadata["buildkit_metadata"]["vcs"]["revision"], "abc");
    EXPECT_FALSE(metadata.contains("startedOn"));
}

TEST(Provenance, WhatHasNoNameIsSaid) {
    Facts facts = facts_of_git_build();
    facts.materials.clear();
    const auto predicate = json::parse(*make_provenance(facts, {}));
    EXPECT_EQ(predicate["runDetails"]["metadata"]["buildkit_hermetic"], false);
    EXPECT_EQ(predicate["runDetails"]["metadata"]["buildkit_completeness"]["resolvedDependencies"], false);
    EXPECT_FALSE(make_provenance(facts, {.complete_materials = true}));
}

TEST(Provenance, MinSaysThatArgumentsAreMissing) {
    const auto predicate = json::parse(*make_provenance(facts_of_git_build(), {.detail = Detail::min}));
    EXPECT_EQ(predicate["buildDefinition"]["externalParameters"]["request"]["args"], json({{"target", "t"}}));
    EXPECT_EQ(predicate["runDetails"]["metadata"]["buildkit_completeness"]["request"], false);
    EXPECT_FALSE(predicate["buildDefinition"]["internalParameters"].contains("buildConfig"));
}

TEST(Provenance, Version02) {
    const auto predicate = json::parse(*make_provenance(facts_of_git_build(), {.version = Slsa::v02}));
    EXPECT_EQ(predicate["buildType"], "https://mobyproject.org/buildkit@v1");
    EXPECT_EQ(predicate["invocation"]["configSource"]["entryPoint"], "x.Dockerfile");
    EXPECT_EQ(predicate["buildConfig"]["llbDefinition"][1]["inputs"], json({"step0:0"}));
    EXPECT_EQ(predicate["metadata"]["completeness"]["materials"], true);
    EXPECT_EQ(predicate["metadata"]["https://mobyproject.org/buildkit@v1#hermetic"], true);
}

}  // namespace
}  // namespace cooper::attest
