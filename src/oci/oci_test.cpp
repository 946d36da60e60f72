#include "oci/image_config.hpp"
#include "oci/manifest.hpp"
#include "oci/media_type.hpp"
#include "oci/platform.hpp"
#include "oci/reference.hpp"

#include <array>
#include <gtest/gtest.h>

namespace cooper::oci {
namespace {

const std::string kA = "sha256:" + std::string(64, 'a');
const std::string kB = "sha256:" + std::string(64, 'b');

std::string canonical(std::string_view text) {
    auto reference = Reference::parse_normalized(text);
    return reference ? reference->canonical() : "error: " + reference.error().to_string();
}

TEST(Reference, NormalisesAsDockerDoes) {
    EXPECT_EQ(canonical("alpine"), "docker.io/library/alpine:latest");
    EXPECT_EQ(canonical("alpine:3.20"), "docker.io/library/alpine:3.20");
    EXPECT_EQ(canonical("moby/buildkit"), "docker.io/moby/buildkit:latest");
    EXPECT_EQ(canonical("index.docker.io/library/x"), "docker.io/library/x:latest");
    EXPECT_EQ(canonical("docker.io/x"), "docker.io/library/x:latest");
    EXPECT_EQ(canonical("localhost/x"), "localhost/x:latest");
    EXPECT_EQ(canonical("localhost:5000/x:1"), "localhost:5000/x:1");
    EXPECT_EQ(canonical("ghcr.io/a/b"), "ghcr.io/a/b:latest");
    EXPECT_EQ(canonical("[::1]:5000/a"), "[::1]:5000/a:latest");
    EXPECT_EQ(canonical("Host/a"), "Host/a:latest");
    EXPECT_EQ(canonical("x@" + kA), "docker.io/library/x@" + kA);
    EXPECT_EQ(canonical("x:t@" + kA), "docker.io/library/x:t@" + kA);
    EXPECT_EQ(canonical("localhost:5000"), "docker.io/library/localhost:5000");
    EXPECT_EQ(canonical("a__b/c--d.e_f"), "docker.io/a__b/c--d.e_f:latest");
}

TEST(Reference, PrintsFamiliarNames) {
    for (const std::string text : {"alpine:latest", "moby/buildkit:v1", "localhost:5000/x:1", "ghcr.io/a/b:c"}) {
        EXPECT_EQ(Reference::parse_normalized(text)->familiar(), text);
    }
    EXPECT_EQ(Reference::parse_normalized("docker.io/a.b/c:1")->familiar(), "docker.io/a.b/c:1");
}

TEST(Reference, RefusesWhatIsNoName) {
    const std::string too_like_a_digest(64, 'a');
    for (const std::string text :
         {"", "Alpine", "a//b", "/a", "a/", "a:", "a:-x", "a@sha256:12", "a@", "-a", "a-", "a___b", "a..b",
          "https://x/y", "a b", "exa_mple.com/x", "x:y:z", too_like_a_digest.c_str(), "host:port/x"}) {
        EXPECT_FALSE(Reference::parse_normalized(text)) << text;
    }
    EXPECT_FALSE(Reference::parse_normalized("a/" + std::string(256, 'b')));
    EXPECT_FALSE(Reference::parse_normalized("a:" + std::string(129, 'b')));
    const auto upper = Reference::parse_normalized("Alpine:3");
    EXPECT_NE(upper.error().to_string().find("lower case"), std::string::npos);
    EXPECT_NE(upper.error().hint().find("alpine:3"), std::string::npos);
}

TEST(Reference, CanonicalWantsAFullName) {
    EXPECT_TRUE(Reference::parse_canonical("docker.io/library/alpine:latest"));
    EXPECT_TRUE(Reference::parse_canonical("docker.io/library/alpine@" + kA));
    EXPECT_FALSE(Reference::parse_canonical("alpine:latest"));
    EXPECT_FALSE(Reference::parse_canonical("docker.io/library/alpine"));
}

TEST(Platform, ParsesAndNormalises) {
    const auto text = [](std::string_view in) { return format_platform(*parse_platform(in)); };
    EXPECT_EQ(text("linux/amd64"), "linux/amd64");
    EXPECT_EQ(text("Linux/x86_64"), "linux/amd64");
    EXPECT_EQ(text("linux/aarch64"), "linux/arm64");
    EXPECT_EQ(text("linux/arm64/v8"), "linux/arm64");
    EXPECT_EQ(text("linux/arm"), "linux/arm/v7");
    EXPECT_EQ(text("linux/arm/6"), "linux/arm/v6");
    EXPECT_EQ(text("armel"), "linux/arm/v6");
    EXPECT_EQ(text("arm64"), "linux/arm64");
    EXPECT_EQ(text("linux/amd64/v1"), "linux/amd64");
    EXPECT_EQ(text("linux"), "linux/" + host_platform().architecture);
    EXPECT_EQ(format_platform_all(*parse_platform("windows(10.0.17763)/amd64")), "windows(10.0.17763)/amd64");
    EXPECT_FALSE(parse_platform("nonsense"));
    EXPECT_FALSE(parse_platform("a/b/c/d"));
    EXPECT_FALSE(parse_platform("linux//v7"));
    EXPECT_FALSE(parse_platform(""));
}

// As containerd's platforms package has it.
TEST(Platform, TableOfNames) {
    struct Row {
        std::string_view written;
        std::string_view meant;
    };
    constexpr std::array kRows{
        Row{"linux/i386", "linux/386"},
        Row{"linux/x86-64", "linux/amd64"},
        Row{"LINUX/AMD64", "linux/amd64"},
        Row{"linux/amd64/v2", "linux/amd64/v2"},
        Row{"linux/amd64/v3", "linux/amd64/v3"},
        Row{"linux/arm64/8", "linux/arm64"},
        Row{"linux/arm64/v9", "linux/arm64/v9"},
        Row{"linux/armhf", "linux/arm/v7"},
        Row{"linux/armel", "linux/arm/v6"},
        Row{"linux/arm/5", "linux/arm/v5"},
        Row{"linux/arm/7", "linux/arm/v7"},
        Row{"linux/arm/v8", "linux/arm/v8"},
        Row{"armhf", "linux/arm/v7"},
        Row{"aarch64", "linux/arm64"},
        Row{"x86_64", "linux/amd64"},
        Row{"riscv64", "linux/riscv64"},
        Row{"s390x", "linux/s390x"},
        Row{"ppc64le", "linux/ppc64le"},
        Row{"mips64le", "linux/mips64le"},
        Row{"macOS/arm64", "darwin/arm64"},
        Row{"freebsd/amd64", "freebsd/amd64"},
        Row{"wasip1/wasm", "wasip1/wasm"},
    };
    for (const auto& [written, meant] : kRows) {
        const auto platform = parse_platform(written);
        ASSERT_TRUE(platform) << written;
        EXPECT_EQ(format_platform(*platform), meant) << written;
        EXPECT_EQ(normalize(*platform), *platform) << written;
    }
}

// The best of what an index offers, for who wants something.
TEST(Platform, TableOfFallbacks) {
    struct Row {
        std::string_view wanted;
        std::vector<std::string_view> best_first;
        std::vector<std::string_view> never;
    };
    const std::vector<Row> rows{
        {"linux/arm/v7", {"linux/arm/v7", "linux/arm/v6", "linux/arm/v5"}, {"linux/arm64", "linux/arm/v8"}},
        {"linux/arm/v6", {"linux/arm/v6", "linux/arm/v5"}, {"linux/arm/v7", "linux/arm64"}},
        {"linux/arm/v5", {"linux/arm/v5"}, {"linux/arm/v6", "linux/arm/v7"}},
        {"linux/arm64", {"linux/arm64", "linux/arm/v8", "linux/arm/v7", "linux/arm/v6"}, {"linux/amd64"}},
        {"linux/amd64/v3", {"linux/amd64/v3", "linux/amd64/v2", "linux/amd64", "linux/386"}, {"linux/amd64/v4"}},
        {"linux/amd64", {"linux/amd64", "linux/386"}, {"linux/amd64/v2", "windows/amd64", "linux/arm64"}},
        {"linux/386", {"linux/386"}, {"linux/amd64"}},
        {"linux/riscv64", {"linux/riscv64"}, {"linux/riscv"}},
    };
    for (const auto& row : rows) {
        int last = -1;
        for (const auto offered : row.best_first) {
            const auto rank = match_rank(*parse_platform(row.wanted), *parse_platform(offered));
            ASSERT_TRUE(rank) << row.wanted << " runs " << offered;
            EXPECT_GT(*rank, last) << row.wanted << ", " << offered;
            last = *rank;
        }
        for (const auto offered : row.never) {
            EXPECT_FALSE(match_rank(*parse_platform(row.wanted), *parse_platform(offered)))
                << row.wanted << ", " << offered;
        }
    }
}

TEST(Platform, FallsBackToWhatAlsoRuns) {
    const auto rank = [](std::string_view want, std::string_view have) {
        return match_rank(*parse_platform(want), *parse_platform(have)).value_or(-1);
    };
    EXPECT_EQ(rank("linux/amd64", "linux/amd64"), 0);
    EXPECT_EQ(rank("linux/amd64", "linux/arm64"), -1);
    EXPECT_EQ(rank("linux/amd64", "windows/amd64"), -1);
    EXPECT_EQ(rank("linux/amd64", "linux/amd64/v2"), -1);
    EXPECT_LT(rank("linux/amd64/v3", "linux/amd64/v2"), rank("linux/amd64/v3", "linux/amd64"));
    EXPECT_GT(rank("linux/arm/v7", "linux/arm/v6"), 0);
    EXPECT_EQ(rank("linux/arm/v6", "linux/arm/v7"), -1);
    EXPECT_GT(rank("linux/arm64", "linux/arm/v7"), 0);
    EXPECT_GT(rank("linux/amd64", "linux/386"), 0);
}

TEST(MediaType, Tells) {
    EXPECT_TRUE(is_layer(kDockerForeignLayerGzip));
    EXPECT_TRUE(is_foreign_layer(kOciForeignLayerZstd));
    EXPECT_FALSE(is_foreign_layer(kOciLayerZstd));
    EXPECT_EQ(packing_of(kDockerLayerGzip), Packing::gzip);
    EXPECT_EQ(packing_of(kOciLayerZstd), Packing::zstd);
    EXPECT_EQ(packing_of(kOciLayer), Packing::none);
    EXPECT_EQ(to_family(kOciManifest, Family::docker), kDockerManifest);
    EXPECT_EQ(to_family("x/y", Family::docker), "x/y");
}

TEST(Manifest, MarshalsAsBuildKitDoes) {
    Manifest manifest;
    manifest.media_type = kOciManifest;
    manifest.config = Descriptor{.media_type = std::string(kOciConfig), .digest = *Digest::parse(kA), .size = 3};
    manifest.layers.push_back(
        Descriptor{.media_type = std::string(kOciLayerGzip), .digest = *Digest::parse(kB), .size = 4});
    manifest.annotations["a"] = "<&>";
    const std::string text = marshal_manifest(manifest);
    EXPECT_EQ(
        text,
        "{\n  \"schemaVersion\": 2,\n  \"mediaType\": \"application/vnd.oci.image.manifest.v1+json\",\n"
        "  \"config\": {\n    \"mediaType\": \"application/vnd.oci.image.config.v1+json\",\n    \"digest\": \"" +
            kA +
            "\",\n    \"size\": 3\n  },\n  \"layers\": [\n    {\n"
            "      \"mediaType\": \"application/vnd.oci.image.layer.v1.tar+gzip\",\n      \"digest\": \"" +
            kB +
            "\",\n      \"size\": 4\n    }\n  ],\n  \"annotations\": {\n    \"a\": \"\\u003c\\u0026\\u003e\"\n  }\n}");
    const auto again = parse_manifest(text, kOciManifest);
    ASSERT_TRUE(again);
    EXPECT_EQ(again->layers, manifest.layers);
    EXPECT_EQ(again->annotations, manifest.annotations);
    EXPECT_EQ(again->raw, text);
}

TEST(Manifest, RefusesConfusionAndSchema1) {
    const auto schema1 = parse_manifest(R"({"schemaVersion":1,"name":"x","fsLayers":[]})", "");
    ASSERT_FALSE(schema1);
    EXPECT_EQ(schema1.error().code(), Code::failed_precondition);
    EXPECT_FALSE(parse_manifest("{}", ""));
    EXPECT_FALSE(parse_manifest("[]", ""));
    EXPECT_FALSE(parse_manifest("{", ""));
    const std::string both = R"({"schemaVersion":2,"config":{"digest":")" + kA + R"("},"layers":[],"manifests":[]})";
    EXPECT_FALSE(parse_manifest(both, ""));
    EXPECT_FALSE(parse_index(both, ""));
    EXPECT_FALSE(parse_index(R"({"schemaVersion":2,"manifests":[]})", kOciManifest));
    EXPECT_FALSE(parse_index(R"({"manifests":[{"digest":"sha256:1"}]})", ""));
    EXPECT_FALSE(parse_index(R"({"manifests":[{"digest":")" + kA + R"(","size":-1}]})", ""));
    EXPECT_TRUE(parse_index(R"({"schemaVersion":2,"manifests":[]})", kDockerIndex));
    EXPECT_FALSE(parse_manifest(std::string(100, '[') + std::string(100, ']'), ""));
}

TEST(Manifest, ChoosesThePlatform) {
    Index index;
    const auto add = [&](std::string_view platform, char digit) {
        index.manifests.push_back(Descriptor{.media_type = std::string(kOciManifest),
                                             .digest = *Digest::parse("sha256:" + std::string(64, digit)),
                                             .platform = *parse_platform(platform)});
    };
    add("linux/arm64", '1');
    add("linux/arm/v6", '2');
    add("linux/arm/v7", '3');
    index.manifests.push_back(index.manifests.front());
    index.manifests.back().platform = Platform{.os = "unknown", .architecture = "unknown"};
    const auto chosen = select_platform(index, *parse_platform("linux/arm/v7"));
    ASSERT_EQ(chosen.size(), 2u);
    EXPECT_EQ(chosen[0].digest.hex()[0], '3');
    EXPECT_EQ(chosen[1].digest.hex()[0], '2');
    EXPECT_TRUE(select_platform(index, *parse_platform("linux/amd64")).empty());
}

TEST(ImageConfig, RoundTripsAllFields) {
    const std::string text =
        R"({"architecture":"arm64","author":"me","config":{"User":"1:2","ExposedPorts":{"80/tcp":{}},"Env":["B=1","A=2"],)"
        R"("Entrypoint":["/e"],"Cmd":["c","d"],"Volumes":{"/v":{}},"WorkingDir":"/w","Labels":{"k":"v"},)"
        R"("StopSignal":"SIGINT","ArgsEscaped":true,"Healthcheck":{"Test":["CMD","x"],"Interval":5,"Timeout":6,)"
        R"("StartPeriod":7,"StartInterval":8,"Retries":9},"OnBuild":["RUN x"],"StopTimeout":0,"Shell":["/bin/sh"]},)"
        R"("created":"2024-01-02T03:04:05.1Z","docker_version":"1.0","history":[{"created":"2024-01-01T00:00:00Z",)"
        R"("created_by":"a \u0026\u0026 b","author":"x","comment":"y","empty_layer":true}],"moby.x":{"z":[1,2]},"os":"linux",)"
        R"("os.features":["f"],"os.version":"1","rootfs":{"type":"layers","diff_ids":[")" +
        kA + R"("]},"variant":"v8"})";
    const auto config = parse_image_config(text);
    ASSERT_TRUE(config) << config.error().to_string();
    EXPECT_EQ(marshal_image_config(*config), text);
    EXPECT_EQ(config->config.env, (std::vector<std::string>{"B=1", "A=2"}));
    EXPECT_EQ(config->other.at("docker_version"), "\"1.0\"");
}

TEST(ImageConfig, AcceptsNullsAndRefusesWrongTypes) {
    const auto config = parse_image_config(
        R"({"config":{"Env":null,"Cmd":null,"Volumes":null,"Healthcheck":null,"OnBuild":null},"rootfs":{"diff_ids":null}})");
    ASSERT_TRUE(config);
    EXPECT_TRUE(config->config.on_build.empty());
    EXPECT_FALSE(config->config.stop_timeout);
    const auto wrong = parse_image_config(R"({"config":{"Env":[1]}})");
    ASSERT_FALSE(wrong);
    EXPECT_NE(wrong.error().to_string().find("Env"), std::string::npos);
    EXPECT_FALSE(parse_image_config(R"({"rootfs":{"diff_ids":["nope"]}})"));
    EXPECT_FALSE(parse_image_config(R"({"history":{}})"));
}

TEST(ImageConfig, ChainIds) {
    const std::vector<Digest> diffs{*Digest::parse(kA), *Digest::parse(kB)};
    EXPECT_EQ(chain_id({}).to_string(), "");
    EXPECT_EQ(chain_id({diffs[0]}).to_string(), kA);
    // printf 'sha256:aa…a sha256:bb…b' | sha256sum
    EXPECT_EQ(chain_id(diffs).to_string(), "sha256:ccd722928bd92476ba1745586fed6e45a102504185ad88cd89e01ff116fd146c");
}

}  // namespace
}  // namespace cooper::oci
