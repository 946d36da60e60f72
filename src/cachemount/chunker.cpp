#include "cachemount/chunker.hpp"

#include <algorithm>
#include <array>
#include <bit>

namespace cooper::cachemount {

namespace {

constexpr std::uint64_t kLargeFile = std::uint64_t{256} << 20U;

// A random number for each byte: splitmix64 from zero.
constexpr std::array<std::uint64_t, 256> make_gears() {
    std::array<std::uint64_t, 256> gears{};
    std::uint64_t state = 0;
    for (auto& gear : gears) {
        state += 0x9e3779b97f4a7c15U;
        std::uint64_t mixed = state;
        mixed = (mixed ^ (mixed >> 30U)) * 0xbf58476d1ce4e5b9U;
        mixed = (mixed ^ (mixed >> 27U)) * 0x94d049bb133111ebU;
        gear = mixed ^ (mixed >> 31U);
    }
    return gears;
}
constexpr auto kGears = make_gears();

// The highest bits have seen the last 64 bytes; lower ones fewer.
constexpr std::uint64_t high_bits(int count) { return ~std::uint64_t{0} << static_cast<unsigned>(64 - count); }

}  // namespace

ChunkSizes chunk_sizes_for(std::uint64_t file_bytes) {
    if (file_bytes < kLargeFile) return {std::size_t{1} << 10U, std::size_t{4} << 10U, std::size_t{16} << 10U};
    return {std::size_t{4} << 10U, std::size_t{16} << 10U, kMaxChunkBytes};
}

std::size_t first_chunk(std::span<const std::byte> data, const ChunkSizes& sizes) {
    if (data.size() <= sizes.least) return data.size();
    const std::size_t end = std::min(data.size(), sizes.most);
    const std::size_t middle = std::min(end, sizes.usual);
    const int bits = std::countr_zero(sizes.usual);
    // A cut is four times as rare before the usual size, and four times as likely behind it.
    const std::uint64_t rare = high_bits(bits + 2), likely = high_bits(bits - 2);
    std::uint64_t hash = 0;
    std::size_t at = sizes.least;
    for (; at < middle; ++at) {
        hash = (hash << 1U) + kGears[std::to_integer<std::uint8_t>(data[at])];
        if ((hash & rare) == 0) return at + 1;
    }
    for (; at < end; ++at) {
        hash = (hash << 1U) + kGears[std::to_integer<std::uint8_t>(data[at])];
        if ((hash & likely) == 0) return at + 1;
    }
    return end;
}

}  // namespace cooper::cachemount
