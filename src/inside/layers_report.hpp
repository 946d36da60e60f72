// What each layer of an image holds and what of it is seen: as text, as JSON, and as a page for a browser.
#pragma once

#include "inside/stack.hpp"

#include <memory>
#include <string>
#include <vector>

namespace cooper::inside {

struct FileShare {
    std::string path;
    std::uint64_t bytes = 0;
    std::uint32_t layer = 0;
};

// What one path costs that nobody sees.
struct PathWaste {
    std::string path;
    std::uint64_t bytes = 0;            // all of its hidden copies
    std::vector<std::uint32_t> stored;  // layers of the hidden copies
    std::uint32_t hidden_by = 0;        // the layer that hid the last
    std::string why;                    // "removed", "replaced", "mode 0644 → 0755", …
};

struct LayersReport {
    const Image* image = nullptr;
    std::vector<Instruction> instructions;
    std::vector<LayerFacts> facts;
    std::uint64_t stored_bytes = 0;  // of files, in all layers
    std::uint64_t seen_bytes = 0;    // stored_bytes = seen_bytes + wasted_bytes
    std::uint64_t wasted_bytes = 0;
    std::uint64_t seen_files = 0;
    std::vector<FileShare> largest;  // of those that are seen
    std::vector<PathWaste> waste;    // largest first
    std::size_t wasted_paths = 0;    // waste may hold only the largest
    Listings listings;
    std::unique_ptr<Stack> stack;  // of listings
};

// The image must outlive the report. Of files and of waste the `limit` largest are named.
[[nodiscard]] Result<std::unique_ptr<LayersReport>> report_layers(const Image& image, std::size_t limit,
                                                                  std::size_t threads, const Stop& stop);
[[nodiscard]] std::string to_text(const LayersReport& report);
[[nodiscard]] std::string to_json(const LayersReport& report);
// One file without references to others; names in it are text, never markup.
[[nodiscard]] std::string to_page(const LayersReport& report);

}  // namespace cooper::inside
