// Layers planned anew so that nothing above the base image is stored in vain: a file that a later layer removes,
// replaces or stores again with another mode or owner is stored once, in the first layer that has its bytes. The tree
// is the same to the last attribute, which is proven by hashing both.
#pragma once

#include "base/progress.hpp"
#include "base/stop.hpp"
#include "oci/image_config.hpp"
#include "snapshot/tree.hpp"
#include "store/store.hpp"

#include <cstdint>
#include <vector>

namespace cooper::exporter {

struct Squashed {
    store::Chain chain;                // the layers of the base and all others without waste are those that went in
    std::vector<std::size_t> emptied;  // layers of what went in, by number, that nothing is left of
    std::uint64_t saved_bytes = 0;
    std::size_t rewritten = 0;  // layers that are new
    bool gave_up = false;       // another tree came out: the layers are those that went in
    Digest tree;                // empty when nothing was to be done
};

// All layers must be on disk and held. What was planned once is remembered in the store, so that the same layers give
// the same image.
[[nodiscard]] Result<Squashed> squash_waste(store::Store& store, const store::Chain& chain, std::size_t base_layers,
                                            std::size_t threads, const Stop& stop);

// History and times of the configuration of the unsquashed chain for the squashed one: what is empty now is called so,
// and the times stay.
[[nodiscard]] Result<> squash_history(store::Store& store, const store::Chain& before, const Squashed& squashed,
                                      oci::ImageConfig& config);

// Names, kinds, modes, owners, times, attributes, hard links and contents of all files.
[[nodiscard]] Result<Digest> hash_tree(const snapshot::Tree& tree, const Stop& stop);

}  // namespace cooper::exporter
