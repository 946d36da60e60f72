// The packages of a file tree, as package managers and linkers left them there.
//
// A tree is anybody's: it is walked without following links, with bounds on entries, depth, sizes and packages; what
// cannot be read is left out. Any thread.
#pragma once

#include "attest/packages.hpp"
#include "base/digest.hpp"
#include "base/stop.hpp"
#include "snapshot/chain_view.hpp"
#include "snapshot/tree.hpp"

#include <string>
#include <vector>

namespace cooper::attest {

// A file that says something of packages, and the layer whose it is.
struct Evidence {
    std::string path;
    std::optional<std::size_t> layer;
    std::string sha1;  // in hex; SPDX wants both
    Digest sha256;
    friend auto operator<=>(const Evidence&, const Evidence&) = default;
};

struct Inventory {
    OsRelease os;
    std::vector<Package> packages;    // sorted, each once
    std::vector<Evidence> evidence;   // sorted
    std::vector<std::string> limits;  // what was cut, as lines for people
};

// layers: those of the tree, bottom first, to tell whose each package is; empty where nobody asks.
[[nodiscard]] Result<Inventory> find_packages(const snapshot::Tree& tree, const std::vector<snapshot::LayerDir>& layers,
                                              const Stop& stop);

}  // namespace cooper::attest
