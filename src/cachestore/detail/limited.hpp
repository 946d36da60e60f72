// The first bytes of a stream.
#pragma once

#include "base/bytes.hpp"

#include <cstdint>
#include <memory>

namespace cooper::cachestore::detail {

class Limited final : public ByteSource {
public:
    Limited(std::unique_ptr<ByteSource> inner, std::uint64_t length) : inner_(std::move(inner)), left_(length) {}
    Result<std::size_t> read(std::span<std::byte> buffer) override;

private:
    std::unique_ptr<ByteSource> inner_;
    std::uint64_t left_;
};

}  // namespace cooper::cachestore::detail
