// Which records of a cache are worth their bytes, when not all may travel.
//
// A result saves the time that its layers took to make and costs the bytes of those that are not chosen yet. The best
// in seconds per byte goes first, until none fits any more; so a result is chosen with all its layers, or not at all.
//
// Pure; any thread.
#pragma once

#include "remotecache/cache_config.hpp"

#include <cstdint>
#include <vector>

namespace cooper::remotecache {

struct LayerWorth {
    std::uint64_t bytes = 0;
    double seconds = 0;  // that it took to make
};

// Places of layers (worth[i] is of graph.layers[i]), the most valuable first; what a result needs stands together.
// Their bytes are max_bytes at most. Layers that are the same blob count once.
[[nodiscard]] std::vector<std::size_t> most_valuable(const CacheGraph& graph, const std::vector<LayerWorth>& worth,
                                                     std::uint64_t max_bytes);

// Takes out the results that need a layer which is not kept. Links stay, so that what is kept is found.
void keep_layers(CacheGraph& graph, const std::vector<bool>& kept);

}  // namespace cooper::remotecache
