#include "engine/config.hpp"

#include <cstdlib>
#include <gtest/gtest.h>

namespace cooper::engine {
namespace {

TEST(Config, ReadsEveryKey) {
    const auto config = parse_config(R"(
root = "/srv/cooper"
oci-runtime = "runc"
max-disk = "15%"
jobs = 4
docker-config = "/srv/docker"
dns = ["10.0.0.1"]
provenance-env-dir = "/etc/provenance.d"
[limits]
max-layer-size = "20GB"
max-layer-files = 1000
[gc]
enabled = false
keep-storage = "5GB"
keep-duration = "48h"
reserved = "1GB"
min-free = 1000
[registry."docker.io"]
mirrors = ["mirror.example.com"]
[registry."localhost:5000"]
http = true
insecure = true
ca = "/etc/ca.pem"
)",
                                     "cooper.toml");
    ASSERT_TRUE(config) << config.error().to_string();
    EXPECT_EQ(config->root, "/srv/cooper");
    EXPECT_EQ(config->jobs, 4U);
    EXPECT_EQ(config->provenance_env_dir, "/etc/provenance.d");
    EXPECT_EQ(config->max_layer_bytes, 20'000'000'000U);
    EXPECT_EQ(config->registries.at("docker.io").mirrors.front(), "mirror.example.com");
    EXPECT_TRUE(*config->registries.at("localhost:5000").plain_http);
    EXPECT_FALSE(config->gc.enabled);
    EXPECT_EQ(config->max_disk.percent, 15);
    EXPECT_EQ(config->gc.keep_duration_s, 48 * 3600);
    EXPECT_EQ(config->gc.reserved.bytes, 1'000'000'000U);
    EXPECT_EQ(config->gc.min_free.bytes, 1000U);
}

TEST(Config, MistakesNameTheLineAndTheKey) {
    EXPECT_EQ(parse_config("\nrot = \"/x\"\n", "c.toml").error().to_string(),
              "c.toml:2: unknown key \"rot\", did you mean root?");
    EXPECT_EQ(parse_config("jobs = \"many\"", "c.toml").error().to_string(),
              "c.toml:1: jobs must be a number, 0 or more");
    EXPECT_NE(parse_config("jobs = [", "c.toml").error().to_string().find("c.toml:1"), std::string::npos);
    EXPECT_FALSE(parse_config("[registry]\nx = 1", "c.toml"));
    EXPECT_FALSE(parse_config("max-disk = \"101%\"", "c.toml"));
    EXPECT_FALSE(parse_config("[gc]\nkeep-duration = \"2 days\"", "c.toml"));
    EXPECT_FALSE(parse_config("[limits]\nmax-layer-size = \"many\"", "c.toml"));
}

TEST(Config, RootComesFromFlagThenEnvironmentThenFile) {
    Config config;
    config.root = "/from/file";
    ::unsetenv("COOPER_ROOT");
    EXPECT_EQ(*choose_root("", config), "/from/file");
    ::setenv("COOPER_ROOT", "/from/env", 1);
    EXPECT_EQ(*choose_root("", config), "/from/env");
    EXPECT_EQ(*choose_root("/from/flag", config), "/from/flag");
    EXPECT_TRUE(choose_root("relative", config)->starts_with("/"));
    ::unsetenv("COOPER_ROOT");
}

}  // namespace
}  // namespace cooper::engine
