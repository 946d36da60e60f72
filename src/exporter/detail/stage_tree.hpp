// The tree that a result had after its first layers, if these had known the later ones: what the result has, as far as
// its bytes were there, and what the base image has where they were not.
#pragma once

#include "inside/stack.hpp"
#include "snapshot/tree.hpp"

#include <memory>
#include <optional>
#include <vector>

namespace cooper::exporter::detail {

struct StagePlan {
    static constexpr std::uint32_t kNowhere = UINT32_MAX;
    snapshot::TreeRef result;   // all layers
    snapshot::TreeRef base;     // those of the base image
    inside::Listings listings;  // of the layers above the base
    std::optional<inside::Stack> stack;
    // By path: the first layer above the base that removes what the base has there, and what it has below.
    std::vector<std::uint32_t> gone, gone_below;
    std::vector<std::uint32_t> put;    // the first layer above the base that has an entry there
    std::vector<std::uint32_t> homes;  // by path: the layer above the base from which on it is there as in the result
};

// After layer `number` above the base.
[[nodiscard]] snapshot::TreeRef stage_tree(std::shared_ptr<const StagePlan> plan, std::uint32_t number);

}  // namespace cooper::exporter::detail
