// What the extended headers in front of a tar entry said.
#pragma once

#include "codec/tar.hpp"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cooper::codec {

struct TarReader::Meta {
    std::vector<std::pair<std::string, std::string>> pax;  // in order; keys may repeat (sparse 0.0)
    std::string long_name;
    std::string long_link;

    // The last one wins.
    [[nodiscard]] const std::string* find(std::string_view key) const {
        const std::string* found = nullptr;
        for (const auto& [name, value] : pax) {
            if (name == key) found = &value;
        }
        return found;
    }
};

}  // namespace cooper::codec
