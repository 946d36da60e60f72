#include "cachestore/detail/limited.hpp"

#include <algorithm>

namespace cooper::cachestore::detail {

Result<std::size_t> Limited::read(std::span<std::byte> buffer) {
    const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), left_));
    if (wanted == 0) return std::size_t{0};
    const std::size_t got = TRY(inner_->read(buffer.first(wanted)));
    left_ -= got;
    return got;
}

}  // namespace cooper::cachestore::detail
