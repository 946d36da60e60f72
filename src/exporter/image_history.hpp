// History and times of an image configuration, filled as BuildKit's image exporter does: one history entry that is no
// empty_layer for each layer, all with a time. Pure.
#pragma once

#include "base/clock.hpp"
#include "oci/image_config.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::exporter {

// What is known of a layer besides its content.
struct LayerFacts {
    std::string description;
    Timestamp created{};
};

// base: the configuration of the base image; its entries are never clamped to the epoch.
void fill_history(oci::ImageConfig& config, const std::vector<LayerFacts>& layers,
                  const std::optional<oci::ImageConfig>& base, std::optional<std::int64_t> epoch_seconds);

}  // namespace cooper::exporter
