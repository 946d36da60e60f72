// Alike: files that a copy cannot tell apart, because it gives them another mode or owner anyway.
// Pure, any thread.
#pragma once

#include "snapshot/tree.hpp"

#include <string>

namespace cooper::layer {

// What a copy does to the metadata of all that it reads.
struct Replacement {
    std::string mode;    // as apply_mode_text() takes it; empty: modes stay
    bool owner = false;  // user and group of the source do not count
    [[nodiscard]] bool replaces_nothing() const { return mode.empty() && !owner; }
    friend bool operator==(const Replacement&, const Replacement&) = default;
};

// The node with the most usual mode and owner of all with which the copy would be the same: 0644 (of directories 0755,
// of programs 0755 where that counts) and root. A node is its own where none of these would do.
[[nodiscard]] snapshot::Node usual_node(const Replacement& replacement, snapshot::Node node);

}  // namespace cooper::layer
