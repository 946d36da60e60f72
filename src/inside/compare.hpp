// What differs between two images: files, and the configuration.
#pragma once

#include "inside/file_state.hpp"

#include <optional>
#include <string>
#include <vector>

namespace cooper::inside {

struct FileChange {
    std::string path;
    std::optional<FileState> before, after;  // one is missing when it was added or removed
    Delta delta;                             // when both are there
};

struct ConfigChange {
    std::string field;                         // "config.Env.PATH", "config.Labels.version", "architecture"
    std::optional<std::string> before, after;  // JSON values, texts without quotes
};

struct Differences {
    std::vector<FileChange> files;  // in the order of a walk
    std::uint64_t only_times = 0;   // of the files, how many differ in nothing but their times
    std::vector<ConfigChange> config;
    std::uint64_t size_before = 0, size_after = 0;  // of all files that are seen
    std::size_t layers_before = 0, layers_after = 0, shared_layers = 0;
    [[nodiscard]] bool any() const { return !files.empty() || !config.empty(); }
};

[[nodiscard]] std::vector<ConfigChange> config_changes(const oci::ImageConfig& before, const oci::ImageConfig& after);
[[nodiscard]] Result<Differences> compare(const Image& before, const Image& after, std::size_t threads,
                                          const Stop& stop);

// Times alone are left out of the text unless asked for; the JSON has all.
enum class Times : std::uint8_t { ignore, show };
[[nodiscard]] std::string to_text(const Differences& differences, Times times);
[[nodiscard]] std::string to_json(const Differences& differences);

}  // namespace cooper::inside
