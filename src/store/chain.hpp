// Chain: an ordered list of layers, bottom first; the empty chain is scratch. Every file-system result
// of cooper is a chain.
#pragma once

#include "base/result.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::store {

using LayerId = std::int64_t;

struct Chain {
    std::vector<LayerId> layers;

    // "1,2,3"; scratch is "".
    [[nodiscard]] std::string to_string() const;
    [[nodiscard]] static Result<Chain> parse(std::string_view text);
    [[nodiscard]] bool empty() const { return layers.empty(); }
    // This chain with one more layer on top.
    [[nodiscard]] Chain with(LayerId top) const;
    friend bool operator==(const Chain&, const Chain&) = default;
};

}  // namespace cooper::store
