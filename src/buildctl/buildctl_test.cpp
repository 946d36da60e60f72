#include "buildctl/job.hpp"
#include "buildctl/op_text.hpp"
#include "buildctl/output.hpp"
#include "buildctl/remote_build.hpp"
#include "buildctl/tab_writer.hpp"
#include "codec/base64.hpp"
#include "llb/marshal.hpp"
#include "llb/state.hpp"

#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>

namespace cooper::buildctl {
namespace {

// As Go's tabwriter prints the same lines.
TEST(TabWriter, PadsColumnsWithTabs) {
    EXPECT_EQ(align_tabs("ID\tPLATFORMS\nabcdefghij\tlinux/amd64\n"), "ID\t\tPLATFORMS\nabcdefghij\tlinux/amd64\n");
    EXPECT_EQ(align_tabs("Reclaimable:\t0B\nTotal:\t10B\n"), "Reclaimable:\t0B\nTotal:\t\t10B\n");
    EXPECT_EQ(align_tabs("1234567\tx\n"), "1234567\tx\n");
    EXPECT_EQ(align_tabs("12345678\tx\n1\ty\n"), "12345678\tx\n1\t\ty\n");
}

TEST(TabWriter, ALineWithoutTheColumnEndsIt) {
    EXPECT_EQ(align_tabs("ID:\tx\nLabels:\n\tlong label name:\tv\n\ta:\tw\n"),
              "ID:\tx\nLabels:\n\tlong label name:\tv\n\ta:\t\t\tw\n");
}

TEST(Output, SizesAndTimes) {
    EXPECT_EQ(bytes_text(0), "0B");
    EXPECT_EQ(bytes_text(999), "999B");
    EXPECT_EQ(bytes_text(4096), "4.10kB");
    EXPECT_EQ(bytes_text(1'530'000'000), "1.53GB");
    EXPECT_EQ(short_bytes_text(2'000'000'000), "2GB");
    EXPECT_EQ(time_text(Timestamp(std::chrono::milliseconds(1'500))), "1970-01-01 00:00:01.5 +0000 UTC");
    EXPECT_EQ(parse_size("10GB").value(), 10'000'000'000);
    EXPECT_EQ(parse_size("1.5MiB").value(), 1'572'864);
    EXPECT_EQ(parse_size("12").value(), 12);
    for (const char* bad : {"", "x", "-1", "5XB", "nan", "1e300"}) EXPECT_FALSE(parse_size(bad)) << bad;
}

TEST(Metadata, DocumentsAreUnpacked) {
    const client::Attributes answer = {{"containerimage.digest", "sha256:ab"},
                                       {"containerimage.descriptor", codec::base64_encode(R"({"size":1})")},
                                       {"word", "abcd"}};
    EXPECT_EQ(metadata_text(answer),
              "{\n  \"containerimage.descriptor\": {\n    \"size\": 1\n  },\n"
              "  \"containerimage.digest\": \"sha256:ab\",\n  \"word\": \"abcd\"\n}");
}

TEST(RemoteBuild, FlagsBecomeAttributes) {
    engine::BuildRequest request;
    request.context = {engine::ContextSpec::Kind::directory, "/ctx", -1};
    request.dockerfile = "/else/where/My.Dockerfile";
    request.target = "t";
    request.build_args = {{"A", "1"}};
    request.labels = {{"l", "2"}};
    request.no_cache_filter = {"s1", "s2"};
    request.pull = true;
    request.add_hosts = {{"h", "1.2.3.4"}, {"g", "host-gateway"}};
    request.network = engine::NetworkMode::none;
    request.named_contexts = {{"base", "docker-image://busybox"}, {"src", "/tmp"}};
    request.tags = {"a:1", "b:2"};
    request.allow = {"network.host"};
    const Job job = to_job(request).value();
    EXPECT_EQ(job.spec.frontend, "dockerfile.v0");
    EXPECT_EQ(job.spec.frontend_attrs, (client::Attributes{{"filename", "My.Dockerfile"},
                                                           {"target", "t"},
                                                           {"build-arg:A", "1"},
                                                           {"label:l", "2"},
                                                           {"no-cache", "s1,s2"},
                                                           {"image-resolve-mode", "pull"},
                                                           {"add-hosts", "h=1.2.3.4,g=host-gateway"},
                                                           {"force-network-mode", "none"},
                                                           {"context:base", "docker-image://busybox"},
                                                           {"context:src", "local:src"}}));
    EXPECT_EQ(job.offer.directories, (std::map<std::string, std::string>{
                                         {"context", "/ctx"}, {"dockerfile", "/else/where"}, {"src", "/tmp"}}));
    ASSERT_EQ(job.spec.exporters.size(), 1U);
    EXPECT_EQ(job.spec.exporters[0].type, "image");
    EXPECT_EQ(job.spec.exporters[0].attrs.at("name"), "a:1,b:2");
    EXPECT_EQ(job.spec.entitlements, std::vector<std::string>{"network.host"});
}

TEST(RemoteBuild, DockerfileOfStandardInputIsOfferedAsAFile) {
    engine::BuildRequest request;
    request.context = {engine::ContextSpec::Kind::git, "https://example.com/x.git", -1};
    request.dockerfile_text = "FROM scratch\n";
    const Job job = to_job(request).value();
    EXPECT_EQ(job.spec.frontend_attrs.at("context"), "https://example.com/x.git");
    EXPECT_EQ(job.spec.frontend_attrs.at("dockerfilekey"), "dockerfile");
    std::ifstream in(job.offer.directories.at("dockerfile") + "/Dockerfile");
    EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), "FROM scratch\n");
}

TEST(RemoteBuild, QuestionsHaveNoExporters) {
    engine::BuildRequest request;
    request.context = {engine::ContextSpec::Kind::directory, "/ctx", -1};
    request.call = "frontend.lint";
    request.tags = {"a"};
    const Job job = to_job(request).value();
    EXPECT_TRUE(job.ask);
    EXPECT_TRUE(job.spec.exporters.empty());
    EXPECT_EQ(job.spec.frontend_attrs.at("requestid"), "frontend.lint");
}

TEST(Exporters, NeedAPlaceOfTheirKind) {
    Job job;
    EXPECT_FALSE(add_exporter(job, {"local", {}}, ""));
    EXPECT_FALSE(add_exporter(job, {"docker", {}}, ""));
    EXPECT_FALSE(add_exporter(job, {"image", {}}, "x"));
    EXPECT_TRUE(add_exporter(job, {"oci", {}}, "x.tar"));
    EXPECT_TRUE(add_exporter(job, {"local", {{"mode", "delete"}}}, "dir"));
    EXPECT_EQ(job.offer.exports.at(0).path, "x.tar");
    EXPECT_TRUE(job.offer.exports.at(1).remove_others);
}

TEST(OpText, PrintsOperations) {
    const auto state = llb::local("context", {});
    const auto definition = llb::marshal_definition(state, {.architecture = "amd64", .os = "linux"}).value();
    const std::string bytes = llb::marshal(definition);
    const std::string json = definition_json(bytes).value();
    EXPECT_TRUE(json.contains(R"({"Op":{"Op":{"source":{"identifier":"local://context"}})")) << json;
    EXPECT_TRUE(definition_dot(bytes).value().contains("[label=\"local://context\" shape=\"ellipse\"];"));
    EXPECT_FALSE(definition_json("\xff\xff"));
}

}  // namespace
}  // namespace cooper::buildctl
