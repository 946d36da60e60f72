// Key records: the way between a CacheGraph and the rows of the state directory.
//
// collect() takes what a finished build is known by; import_graph() adds rows so that the next build finds it. Rows
// that are imported are like those of a build of one's own: their layers are lazy, and are fetched by whoever reads
// them.
//
// Any thread.
#pragma once

#include "oci/descriptor.hpp"
#include "remotecache/cache_config.hpp"
#include "solver/cache.hpp"
#include "store/store.hpp"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace cooper::remotecache {

// How the store names a link: input, op (solver::root_key_id), selector.
[[nodiscard]] std::string link_text(std::uint32_t input, const solver::KeyId& op, const Digest& selector);

enum class CacheMode : std::uint8_t {
    min,  // only results whose layers are those of the final ones
    max,  // the results of all steps
};

struct Collected {
    CacheGraph graph;                    // its blobs are empty: they are the caller's to fill in
    std::vector<store::LayerId> layers;  // what each of graph.layers is
};

// final_keys: what the build's results are known by; final_chains: their layers.
[[nodiscard]] Result<Collected> collect(store::Store& store, const std::vector<solver::SharedKey>& final_keys,
                                        const std::vector<store::Chain>& final_chains, CacheMode mode);

// A layer of a graph: where it is, and what it unpacks to.
struct LayerPlace {
    oci::Descriptor blob;
    Digest diff_id;
    std::string reference;  // store::LazyLayer::reference
    std::optional<Timestamp> created{};
};

struct Imported {
    std::size_t records = 0;
    std::size_t results = 0;
};

// Results with a layer that has no place are left out. Idempotent.
[[nodiscard]] Result<Imported> import_graph(store::Store& store, const CacheGraph& graph,
                                            const std::map<Digest, LayerPlace>& places);

}  // namespace cooper::remotecache
