#include "dockerfile/frontend_options.hpp"

#include <gtest/gtest.h>

namespace cooper::dockerfile {
namespace {

using Map = std::map<std::string, std::string>;

FrontendOptions read(const Map& options) {
    auto parsed = parse_frontend_options(options);
    EXPECT_TRUE(parsed) << parsed.error().to_string();
    return parsed ? std::move(*parsed) : FrontendOptions{};
}

std::string error_of(const Map& options) {
    const auto parsed = parse_frontend_options(options);
    EXPECT_FALSE(parsed);
    return parsed ? std::string() : parsed.error().to_string();
}

// "key=value" ends in an error that has the text.
void refuses(const std::string& key, const std::string& value, const std::string& text) {
    const std::string error = error_of({{key, value}});
    EXPECT_NE(error.find(text), std::string::npos) << key << "=" << value << ": " << error;
}

TEST(FrontendOptions, NothingAskedIsTheDefault) {
    const FrontendOptions options = read({});
    EXPECT_EQ(options.context.filename, "Dockerfile");
    EXPECT_EQ(options.context.local_context, "context");
    EXPECT_EQ(options.context.local_dockerfile, "dockerfile");
    EXPECT_FALSE(options.context.force_local_dockerfile);
    EXPECT_TRUE(options.platforms.empty());
    EXPECT_FALSE(options.multi_platform);
    EXPECT_FALSE(options.convert.no_cache);
    EXPECT_FALSE(options.convert.linux_resources);
    EXPECT_EQ(options.convert.build_platforms.size(), 1U);
    EXPECT_TRUE(options.attestations.empty());
}

TEST(FrontendOptions, PrefixesBecomeMaps) {
    const FrontendOptions options = read({{"build-arg:A", "1"},
                                          {"build-arg:EMPTY", ""},
                                          {"label:org.example", "x"},
                                          {"context:base", "docker-image://alpine"},
                                          {"context:base::linux/arm64", "local:base"},
                                          {"input-metadata:in", "{}"},
                                          {"sharedkey:localdir:base", "key"},
                                          {"local-sessionid:context", "session"}});
    EXPECT_EQ(options.convert.build_args, (Map{{"A", "1"}, {"EMPTY", ""}}));
    EXPECT_EQ(options.convert.labels, (Map{{"org.example", "x"}}));
    EXPECT_EQ(options.convert.named_contexts,
              (Map{{"base", "docker-image://alpine"}, {"base::linux/arm64", "local:base"}}));
    EXPECT_EQ(options.convert.input_metadata, (Map{{"in", "{}"}}));
    EXPECT_EQ(options.convert.local_shared_keys, (Map{{"base", "key"}}));
    EXPECT_EQ(options.convert.local_session_ids, (Map{{"context", "session"}}));
}

TEST(FrontendOptions, ContextAndDockerfileHaveNames) {
    const FrontendOptions options = read({{"filename", "build/app.Dockerfile"},
                                          {"contextkey", "src"},
                                          {"src", "https://example.com/x.git#main"},
                                          {"context", "not this one"},
                                          {"dockerfilekey", "files"},
                                          {"contextsubdir", "sub"},
                                          {"build-arg:BUILDKIT_CONTEXT_KEEP_GIT_DIR", "1"},
                                          {"build-arg:SOURCE_DATE_EPOCH", "0"}});
    EXPECT_EQ(options.context.filename, "build/app.Dockerfile");
    EXPECT_EQ(options.context.local_context, "src");
    EXPECT_EQ(options.convert.context.local_name, "src");
    EXPECT_EQ(options.context.context, "https://example.com/x.git#main");
    EXPECT_EQ(options.context.local_dockerfile, "files");
    EXPECT_TRUE(options.context.force_local_dockerfile);
    EXPECT_EQ(options.context.subdir, "sub");
    EXPECT_EQ(options.context.keep_git_dir, true);
    EXPECT_TRUE(options.context.commit_mtimes);
    EXPECT_EQ(read({{"build-arg:BUILDKIT_CONTEXT_KEEP_GIT_DIR", "maybe"}}).context.keep_git_dir, std::nullopt);
}

TEST(FrontendOptions, NoCacheNamesStagesOrAll) {
    EXPECT_EQ(read({{"no-cache", ""}}).convert.no_cache, std::vector<std::string>{});
    EXPECT_EQ(read({{"no-cache", "a,B"}}).convert.no_cache, (std::vector<std::string>{"a", "B"}));
}

TEST(FrontendOptions, ResolveMode) {
    EXPECT_EQ(read({{"image-resolve-mode", "pull"}}).convert.resolve_mode, frontend::ResolveMode::pull);
    EXPECT_EQ(read({{"image-resolve-mode", "local"}}).convert.resolve_mode, frontend::ResolveMode::local);
    EXPECT_EQ(read({{"image-resolve-mode", "default"}}).convert.resolve_mode, frontend::ResolveMode::standard);
    refuses("image-resolve-mode", "Pull", "invalid image-resolve-mode: Pull");
}

TEST(FrontendOptions, Platforms) {
    const FrontendOptions two = read({{"platform", "linux/arm64/v8,linux/ARM,linux/arm64"}});
    ASSERT_EQ(two.platforms.size(), 2U);
    EXPECT_EQ(oci::format_platform(two.platforms[0]), "linux/arm64");
    EXPECT_EQ(oci::format_platform(two.platforms[1]), "linux/arm/v7");
    EXPECT_TRUE(two.multi_platform);
    EXPECT_TRUE(two.convert.multi_platform);
    EXPECT_FALSE(read({{"platform", "linux/arm64"}}).multi_platform);
    EXPECT_TRUE(read({{"platform", "linux/arm64"}, {"multi-platform", "true"}}).multi_platform);
    // The build argument wins over the option.
    EXPECT_TRUE(read({{"multi-platform", "false"}, {"build-arg:BUILDKIT_MULTI_PLATFORM", "t"}}).multi_platform);
    refuses("platform", "linux/amd64,", "failed to parse target platform");
    refuses("platform", "linux/a/b/c", "failed to parse target platform linux/a/b/c");
    refuses("multi-platform", "yes", "invalid boolean value for multi-platform: yes");
    EXPECT_NE(error_of({{"platform", "linux/amd64,linux/arm64"}, {"multi-platform", "0"}})
                  .find("conflicting config: returning multiple target platforms is not allowed"),
              std::string::npos);
}

TEST(FrontendOptions, HostsAreLowerCaseAndAddresses) {
    const auto hosts = read({{"add-hosts", "One.Example=10.0.0.1,\"two=::0001\",gw=host-gateway,m=::ffff:1.2.3.4"}})
                           .convert.extra_hosts;
    ASSERT_EQ(hosts.size(), 4U);
    EXPECT_EQ(hosts[0], (llb::HostIp{"one.example", "10.0.0.1"}));
    EXPECT_EQ(hosts[1], (llb::HostIp{"two", "::1"}));
    EXPECT_EQ(hosts[2], (llb::HostIp{"gw", "host-gateway"}));
    EXPECT_EQ(hosts[3], (llb::HostIp{"m", "1.2.3.4"}));
    refuses("add-hosts", "nothing", "failed to parse additional hosts: invalid key-value pair nothing");
    refuses("add-hosts", "a=10.0.0", "failed to parse additional hosts: failed to parse IP 10.0.0");
    refuses("add-hosts", "a=\"b", "failed to parse additional hosts");
}

TEST(FrontendOptions, LimitsOfSteps) {
    const ConvertOptions convert = read({{"shm-size", "134217728"},
                                         {"ulimit", "nofile=1024:2048,core=-1,\"nproc=7:-1\""},
                                         {"cgroup-parent", "/builds"},
                                         {"hostname", "one"}})
                                       .convert;
    EXPECT_EQ(convert.shm_size_bytes, 134217728);
    ASSERT_EQ(convert.ulimits.size(), 3U);
    EXPECT_EQ(convert.ulimits[0], (llb::Ulimit{"nofile", 1024, 2048}));
    EXPECT_EQ(convert.ulimits[1], (llb::Ulimit{"core", -1, -1}));
    EXPECT_EQ(convert.ulimits[2], (llb::Ulimit{"nproc", 7, -1}));
    EXPECT_EQ(convert.cgroup_parent, "/builds");
    EXPECT_EQ(convert.hostname, "one");
    EXPECT_EQ(read({{"hostname", "one"}, {"build-arg:BUILDKIT_SANDBOX_HOSTNAME", "two"}}).convert.hostname, "two");
    EXPECT_EQ(read({{"hostname", "one"}, {"build-arg:BUILDKIT_SANDBOX_HOSTNAME", ""}}).convert.hostname, "one");
    refuses("shm-size", "12m", "failed to parse shm size");
    refuses("shm-size", "-1", "failed to parse shm size");
    refuses("ulimit", "nofile", "failed to parse ulimit: invalid ulimit argument: nofile");
    refuses("ulimit", "files=1", "failed to parse ulimit: invalid ulimit type: files");
    refuses("ulimit", "nofile=2:1", "ulimit soft limit must be less than or equal to hard limit: 2 > 1");
    refuses("ulimit", "nofile=-1:1", "soft: -1 (unlimited), hard: 1");
    refuses("ulimit", "nofile=1:2:3", "too many limit value arguments - 1:2:3");
    refuses("ulimit", "nofile=x", "failed to parse ulimit");
}

TEST(FrontendOptions, Resources) {
    const auto resources = read({{"memory", "1048576"},
                                 {"memswap", "-1"},
                                 {"cpushares", "512"},
                                 {"cpuperiod", "100000"},
                                 {"cpuquota", "50000"},
                                 {"cpusetcpus", "0-1"},
                                 {"cpusetmems", "0"}})
                               .convert.linux_resources;
    ASSERT_TRUE(resources);
    EXPECT_EQ(resources->memory_bytes, 1048576);
    EXPECT_EQ(resources->memory_swap_bytes, -1);
    EXPECT_EQ(resources->cpu_shares, 512U);
    EXPECT_EQ(resources->cpu_period_us, 100000U);
    EXPECT_EQ(resources->cpu_quota_us, 50000);
    EXPECT_EQ(resources->cpuset_cpus, "0-1");
    EXPECT_EQ(resources->cpuset_mems, "0");
    EXPECT_FALSE(read({{"memory", ""}, {"cpusetcpus", ""}}).convert.linux_resources);
    refuses("memory", "1g", "failed to parse memory");
    refuses("memswap", "-2", "failed to parse memswap");
    refuses("cpushares", "-1", "failed to parse cpushares");
    refuses("cpuperiod", "x", "failed to parse cpuperiod");
}

TEST(FrontendOptions, NetworkOfAllSteps) {
    EXPECT_EQ(read({{"force-network-mode", "host"}}).convert.network, llb::NetMode::host);
    EXPECT_EQ(read({{"force-network-mode", "none"}}).convert.network, llb::NetMode::none);
    EXPECT_EQ(read({{"force-network-mode", "sandbox"}}).convert.network, llb::NetMode::unset);
    refuses("force-network-mode", "bridge", "invalid netmode bridge");
}

TEST(FrontendOptions, CacheImports) {
    const auto imports =
        read({{"cache-imports", R"([{"Type":"local","Attrs":{"src":"/c"}},{"Type":"gha"}])"}, {"cache-from", "a,b"}})
            .cache_imports;
    ASSERT_EQ(imports.size(), 4U);
    EXPECT_EQ(imports[0], (CacheImport{"local", {{"src", "/c"}}}));
    EXPECT_EQ(imports[1], (CacheImport{"gha", {}}));
    EXPECT_EQ(imports[2], (CacheImport{"registry", {{"ref", "a"}}}));
    EXPECT_EQ(imports[3], (CacheImport{"registry", {{"ref", "b"}}}));
    EXPECT_TRUE(read({{"cache-imports", "null"}}).cache_imports.empty());
    for (const char* bad : {"{", "{}", "[1]", R"([{"Type":1}])", R"([{"Attrs":{"a":1}}])", R"([{"Attrs":[]}])"}) {
        refuses("cache-imports", bad, "failed to unmarshal cache-imports");
    }
}

TEST(FrontendOptions, Attestations) {
    const auto attestations =
        read({{"attest:sbom", ""}, {"attest:provenance", "mode=max,\"builder-id=a,b\",inline"}}).attestations;
    EXPECT_TRUE(attestations.at("sbom").empty());
    EXPECT_EQ(attestations.at("provenance"), (Map{{"mode", "max"}, {"builder-id", "a,b"}, {"inline", ""}}));
    EXPECT_EQ(read({{"build-arg:BUILDKIT_ATTEST_SBOM", "generator=scan,x=1"}}).attestations.at("sbom"),
              (Map{{"generator", "docker.io/library/scan:latest"}, {"x", "1"}}));
    refuses("attest:sbom", "generator=", "sbom scanner cannot be empty");
    refuses("attest:sbom", "generator=UPPER", "failed to parse sbom scanner UPPER");
    refuses("attest:provenance", "\"open", "failed to parse provenance");
}

TEST(FrontendOptions, Capabilities) {
    EXPECT_FALSE(
        read({{"frontend.caps", "moby.buildkit.frontend.inputs,moby.buildkit.frontend.contexts+forward"}}).missing_cap);
    EXPECT_EQ(read({{"frontend.caps", "some.thing+forward"}}).missing_cap, "some.thing");
    const auto refused = parse_frontend_options({{"frontend.caps", "moby.buildkit.frontend.inputs,some.thing"}});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Code::unimplemented);
    EXPECT_NE(refused.error().to_string().find("unsupported frontend capability some.thing"), std::string::npos);
}

TEST(FrontendOptions, WhoAsks) {
    const FrontendOptions options = read(
        {{"requestid", "frontend.lint"}, {"cmdline", "docker/dockerfile:1"}, {"build-arg:BUILDKIT_SYNTAX", "a/b x=1"}});
    EXPECT_EQ(options.request_id, "frontend.lint");
    EXPECT_TRUE(options.started_by_gateway);
    EXPECT_EQ(options.syntax, "a/b x=1");
}

TEST(FrontendOptions, WhatWasRemovedIsRefused) {
    refuses("override-copy-image", "x", "support for \"override-copy-image\" was removed");
    refuses("build-arg:BUILDKIT_DISABLE_FILEOP", "1", "support for \"BUILDKIT_DISABLE_FILEOP\" build-arg was removed");
    read({{"override-copy-image", ""}, {"build-arg:BUILDKIT_DISABLE_FILEOP", "perhaps"}});
    // What others are told is not ours to judge.
    read({{"vcs:source", "https://example.com"}, {"vcs:localdir:context", "."}, {"something", "else"}});
}

}  // namespace
}  // namespace cooper::dockerfile
