#include "store/chain.hpp"

#include "base/text.hpp"

namespace cooper::store {

std::string Chain::to_string() const {
    std::string text;
    for (const LayerId id : layers) {
        if (!text.empty()) text += ",";
        text += std::to_string(id);
    }
    return text;
}

Result<Chain> Chain::parse(std::string_view text) {
    Chain chain;
    if (text.empty()) return chain;
    for (const auto& part : split(text, ',')) {
        const auto id = parse_int(part);
        if (!id || *id <= 0) return bad_input("invalid chain of layers: {}", quoted(text));
        chain.layers.push_back(*id);
    }
    return chain;
}

Chain Chain::with(LayerId top) const {
    Chain chain = *this;
    chain.layers.push_back(top);
    return chain;
}

}  // namespace cooper::store
