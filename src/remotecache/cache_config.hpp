// CacheGraph: cache records as they travel between builders, and the two texts that BuildKit has for them: the cache
// configuration (application/vnd.buildkit.cacheconfig.v0) and the list of records inside an image configuration
// (moby.buildkit.cache.v0).
//
// A record says: this operation, on inputs that are themselves records, gives this chain of layers. Layers are named by
// their place in a list; what blobs they are the manifest beside the configuration says.
//
// Plain data; any thread. Parsing is bounded and refuses indices out of range and cycles.
#pragma once

#include "base/clock.hpp"
#include "base/digest.hpp"
#include "base/result.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::remotecache {

inline constexpr std::size_t kMaxConfigBytes = 64u << 20;

struct CacheNode {
    struct Input {
        Digest selector;  // may be empty
        std::size_t node = 0;
    };
    struct Result {
        std::vector<std::size_t> layers;  // bottom first; never empty
        Timestamp created{};
    };
    // Of the operation and its output: sha256 of "<digest>@<output>"; of a node without inputs the id of its key.
    Digest op;
    std::vector<std::vector<Input>> inputs;  // per input all nodes that it is known as
    std::vector<Result> results;
};

// What the text itself says of a blob, where no manifest beside it does.
struct LayerFacts {
    std::string media_type;
    Digest diff_id;
    std::uint64_t size = 0;
    Timestamp created{};
};

struct CacheGraph {
    std::vector<Digest> layers;          // blobs
    std::vector<CacheNode> nodes;        // inputs before dependents
    std::map<Digest, LayerFacts> facts;  // by blob
};

[[nodiscard]] Result<CacheGraph> parse_cache_config(std::string_view json);
// The same bytes for the same records, whatever their order was.
[[nodiscard]] std::string marshal_cache_config(const CacheGraph& graph);

// Adds what another graph knows. Records that say the same of the same inputs become one.
void merge_into(CacheGraph& graph, const CacheGraph& other);

// Of an image with these layers, bottom first.
[[nodiscard]] Result<CacheGraph> parse_inline_records(std::string_view json, std::vector<Digest> image_layers);
// Layers of the graph are those of the image, in order.
[[nodiscard]] std::string marshal_inline_records(const CacheGraph& graph);

}  // namespace cooper::remotecache
