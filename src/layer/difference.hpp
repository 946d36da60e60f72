// The layer that makes one tree of another: what is gone is removed, what is new or other is put. Two files are the
// same when kind, mode, owner, time, attributes and content are.
#pragma once

#include "base/stop.hpp"
#include "snapshot/layer_builder.hpp"

namespace cooper::layer {

// target is a new layer on `lower`; upper may be any tree. Files are linked from upper where they can be.
[[nodiscard]] Result<> put_difference(const snapshot::TreeRef& lower, const snapshot::TreeRef& upper,
                                      snapshot::LayerBuilder& target, const Stop& stop);

}  // namespace cooper::layer
