// What buildkitd.toml says, before flags. Every key is known, or refused with its line.
#pragma once

#include "base/result.hpp"
#include "daemon/server.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::cooperd {

// Bytes, or a part of the disk that the state directory is on.
struct DiskSpace {
    std::uint64_t bytes = 0;
    int percent = 0;
};
// "20GB" (1024 to the step, as BuildKit reads it), "512", "10%".
[[nodiscard]] Result<DiskSpace> parse_disk_space(std::string_view text);
// 0 stays 0, which means no bound.
[[nodiscard]] std::uint64_t bytes_of(const DiskSpace& space, const std::string& root);

struct FilePolicy {
    daemon::GcPolicy policy;
    DiskSpace reserved, max_used, min_free;
};

struct FileOptions {
    std::string root;
    std::optional<bool> debug;
    std::vector<std::string> addresses;
    std::string debug_address;
    std::optional<std::uint32_t> uid, gid;
    daemon::TlsFiles tls;
    std::vector<std::string> entitlements;
    daemon::HistoryLimits history;
    std::map<std::string, std::string> labels;
    std::vector<std::string> platforms;
    std::string network;
    bool no_process_sandbox = false;
    std::optional<bool> gc;
    DiskSpace reserved, max_used, min_free;
    DiskSpace max_disk;  // a cap, whatever is collected
    std::vector<FilePolicy> policies;
    engine::Config engine;  // runtime, jobs, dns, registries
};

[[nodiscard]] Result<FileOptions> parse_file_options(std::string_view toml, std::string_view file_name);

}  // namespace cooper::cooperd
