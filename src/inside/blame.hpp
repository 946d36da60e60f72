// What happened to one path, layer by layer.
#pragma once

#include "inside/compare.hpp"

#include <string>
#include <vector>

namespace cooper::inside {

struct BlameEvent {
    std::uint32_t layer = 0;
    std::string what;                // "added", "changed: mode 0644 → 0755", "removed", …
    std::optional<FileState> state;  // after it; nullopt: the path is gone
};

struct PathHistory {
    std::string asked;  // as typed
    std::string path;   // the same through the links on the way
    std::vector<BlameEvent> events;
    bool exists = false;
    // Of a directory: what each layer did below it.
    struct Below {
        std::uint32_t layer = 0;
        std::uint64_t files = 0;  // entries that are no directories
        std::uint64_t whiteouts = 0;
        std::uint64_t bytes = 0;
        std::uint64_t seen_bytes = 0;  // of those, what is seen in the image
    };
    std::vector<Below> below;
    std::vector<Instruction> instructions;
};

// not_found when no layer has the path; near names are suggested.
[[nodiscard]] Result<PathHistory> blame(const Image& image, const std::string& path, std::size_t threads,
                                        const Stop& stop);
[[nodiscard]] std::string to_text(const PathHistory& blame);
[[nodiscard]] std::string to_json(const PathHistory& blame);

}  // namespace cooper::inside
