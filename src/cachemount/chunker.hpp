// Content-defined chunks: where a stream is cut is decided by the bytes just before the cut, so that a change of a file
// leaves the chunks before and behind it as they were. A gear hash with two masks, as in FastCDC (Xia et al., 2016).
//
// The table and the sizes are part of the format: others cut elsewhere, which costs sharing and nothing else.
// Pure; any thread.
#pragma once

#include "base/bytes.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

namespace cooper::cachemount {

struct ChunkSizes {
    std::size_t least = 0;
    std::size_t usual = 0;  // a power of two
    std::size_t most = 0;
};

// Files that hold a mount's bytes in many places are cut fine; of large ones the list of chunks must stay small.
[[nodiscard]] ChunkSizes chunk_sizes_for(std::uint64_t file_bytes);

inline constexpr std::size_t kMaxChunkBytes = std::size_t{64} << 10U;

// The length of the first chunk of data; 0 for no data. data is all that is left of the stream, or at least sizes.most.
[[nodiscard]] std::size_t first_chunk(std::span<const std::byte> data, const ChunkSizes& sizes);

}  // namespace cooper::cachemount
