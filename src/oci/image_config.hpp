// ImageConfig: what an image says of itself: environment, command, layers, history. The OCI image
// configuration with Docker's extensions (moby/docker-image-spec).
#pragma once

#include "base/digest.hpp"
#include "base/result.hpp"
#include "oci/platform.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::oci {

// Durations in nanoseconds; 0 = inherit.
struct Healthcheck {
    std::vector<std::string> test;
    std::int64_t interval_ns = 0;
    std::int64_t timeout_ns = 0;
    std::int64_t start_period_ns = 0;
    std::int64_t start_interval_ns = 0;
    std::int64_t retries = 0;

    friend bool operator==(const Healthcheck&, const Healthcheck&) = default;
};

struct ContainerConfig {
    std::string user;
    std::set<std::string> exposed_ports;  // "80/tcp"
    std::vector<std::string> env;         // "NAME=value", order kept
    std::vector<std::string> entrypoint;
    std::vector<std::string> cmd;
    std::set<std::string> volumes;
    std::string working_dir;
    std::map<std::string, std::string> labels;
    std::string stop_signal;
    bool args_escaped = false;
    std::optional<Healthcheck> healthcheck;
    std::vector<std::string> on_build;
    std::optional<std::int64_t> stop_timeout;  // seconds
    std::vector<std::string> shell;

    friend bool operator==(const ContainerConfig&, const ContainerConfig&) = default;
};

struct HistoryEntry {
    std::optional<std::string> created;  // RFC 3339 as found
    std::string created_by;
    std::string author;
    std::string comment;
    bool empty_layer = false;

    friend bool operator==(const HistoryEntry&, const HistoryEntry&) = default;
};

struct ImageConfig {
    std::optional<std::string> created;  // RFC 3339
    std::string author;
    Platform platform;  // as written, not normalised
    ContainerConfig config;
    std::string rootfs_type = "layers";
    std::vector<Digest> diff_ids;
    std::vector<HistoryEntry> history;
    // Top-level fields we have no name for, as compact JSON: docker_version, container_config,
    // moby.buildkit.cache.v0 … kept on marshalling; erase what should not be inherited.
    std::map<std::string, std::string> other;

    friend bool operator==(const ImageConfig&, const ImageConfig&) = default;
};

inline constexpr std::size_t kMaxImageConfigBytes = 8u << 20;

// Bounded: 8 MiB, 64 levels. null anywhere means absent, as in Go. Wrong types are bad input.
[[nodiscard]] Result<ImageConfig> parse_image_config(std::string_view json);
// Compact; top-level keys sorted (BuildKit's exporter goes through a Go map), inner ones in the order
// of the Go structs.
[[nodiscard]] std::string marshal_image_config(const ImageConfig& config);

// identity.ChainID of OCI: chain(1) = diff(1), chain(n) = sha256("chain(n-1) diff(n)"). Empty for none.
[[nodiscard]] Digest chain_id(const std::vector<Digest>& diff_ids);
// All of them, bottom first.
[[nodiscard]] std::vector<Digest> chain_ids(const std::vector<Digest>& diff_ids);

}  // namespace cooper::oci
