// A head with all that it names but the packs' content. Checked: every chunk of every file is in a pack of the head.
#pragma once

#include "cachemount/place.hpp"
#include "cachemount/tree.hpp"

#include <optional>

namespace cooper::cachemount {

struct Loaded {
    Head head;
    std::vector<Part> parts;
    Entries entries;
    Packs told;   // packs that parts tell of, also those that are gone
    Packs there;  // packs of the head
};

[[nodiscard]] Result<Loaded> load_head(Place& place, std::string_view manifest, const Stop& stop);
// What counts of what they had in common: nothing when that was before the head was begun anew.
[[nodiscard]] const Synced* common(const std::optional<Synced>& synced, const Loaded& loaded);
// The name under which a mount remembers what it and this head had in common.
[[nodiscard]] std::string synced_name(const Place& place, const std::string& head);

}  // namespace cooper::cachemount
