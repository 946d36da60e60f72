// Configuration of one cooper state: a TOML file (/etc/cooper/cooper.toml or --config). Every key is
// known or refused by name with its line; nothing is silently ignored. See docs/configuration.md.
#pragma once

#include "base/result.hpp"
#include "ops/secret_guard.hpp"

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace cooper::engine {

// [registry."docker.io"]
struct RegistryHost {
    std::vector<std::string> mirrors;
    std::optional<bool> plain_http;
    bool insecure = false;  // TLS certificates are not verified
    std::string ca_file;
};

// Bytes, or so much of the file system's size. Neither: nothing was said.
struct DiskSize {
    std::uint64_t bytes = 0;
    int percent = 0;
};

struct GcConfig {
    bool enabled = true;
    std::uint64_t keep_storage_bytes = 0;  // 0 = a tenth of the disk, at least 2 GB
    std::int64_t keep_duration_s = 0;      // 0 = no age limit
    DiskSize reserved;                     // never less is kept
    DiskSize min_free;                     // of the file system
};

struct Config {
    std::string root;           // state directory; empty = the default
    std::string oci_runtime;    // empty = crun found on PATH
    std::string emulators;      // directory with qemu's static ones; empty = PATH, "none" = not to be used
    std::size_t jobs = 0;       // 0 = cores
    std::string docker_config;  // credentials file's directory; empty = $DOCKER_CONFIG or ~/.docker
    std::map<std::string, RegistryHost> registries;
    GcConfig gc;
    DiskSize max_disk;                            // what the state directory may take; see store/space.hpp
    std::uint64_t max_layer_bytes = 64ULL << 30;  // limit of one unpacked layer
    std::uint64_t max_layer_files = 10'000'000;
    // Remote sources are refused and steps have no network. Of `cooper build --offline`; no key of the file.
    bool offline = false;
    ops::OnLeak secret_leaks = ops::OnLeak::fail;  // a step leaves the value of a secret behind
    std::int64_t tag_max_age_s = -1;               // what tags mean is asked again after so long; -1 = with --pull only
    std::vector<std::string> dns;
    std::string network;             // provider of networks for steps, see run::OciExecutorOptions; empty = automatic
    bool shares_processes = false;   // of steps, see run::OciExecutorOptions
    std::string provenance_env_dir;  // of files whose keys stand in every provenance; empty or "none" = none
    std::vector<std::string> cdi_spec_dirs = {"/etc/cdi", "/var/run/cdi"};  // later ones win
};

// "fail", "warn" or "allow".
[[nodiscard]] Result<ops::OnLeak> parse_on_leak(std::string_view text);
// A Go duration of whole units ("24h", "1h30m"), or seconds.
[[nodiscard]] Result<std::chrono::seconds> parse_age(std::string_view text);
// A missing file is not_found.
[[nodiscard]] Result<Config> load_config(const std::string& host_path);
[[nodiscard]] Result<Config> parse_config(std::string_view toml, std::string_view file_name);
// `--root`, $COOPER_ROOT, the configuration, then /var/lib/cooper (root) or $XDG_DATA_HOME/cooper.
[[nodiscard]] Result<std::string> choose_root(const std::string& flag, const Config& config);
// Where that directory is when nobody says so: /etc/cooper/provenance.d (root) or $XDG_CONFIG_HOME/cooper/provenance.d.
[[nodiscard]] std::string default_provenance_env_dir();

}  // namespace cooper::engine
