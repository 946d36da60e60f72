// ADD's unpacking of local archives into a layer.
#pragma once

#include "base/stop.hpp"
#include "layer/copy.hpp"
#include "snapshot/layer_builder.hpp"
#include "snapshot/tree.hpp"

#include <optional>
#include <string>

namespace cooper::ops {

// True: path was an archive and its content is now below destination. False: it is something else.
[[nodiscard]] Result<bool> unpack_if_archive(const snapshot::Tree& source, const std::string& path,
                                             const std::string& destination, const std::optional<layer::Owner>& owner,
                                             snapshot::LayerBuilder& target, Stop stop);

}  // namespace cooper::ops
