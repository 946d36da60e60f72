// Compression of byte streams: detection, streaming decompressors with bounded memory, and compressors whose output
// depends on the bytes and the level only, never on the number of threads or on how writes were cut.
//
// gzip is read by ISA-L (RFC 1952, several members as one stream; what follows the last member must be a member, as in
// Go) and written by libdeflate as one member per 1 MiB. zstd is RFC 8878, written as one frame per 2 MiB. bzip2 and xz
// are for reading (ADD).
#pragma once

#include "base/bytes.hpp"
#include "base/result.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

namespace cooper::codec {

enum class Compression : std::uint8_t { none, gzip, zstd, bzip2, xz };
[[nodiscard]] std::string_view compression_name(Compression compression);  // "uncompressed", "gzip", …

// By magic number; ten bytes suffice. Anything unknown is none.
inline constexpr std::size_t kDetectBytes = 10;
[[nodiscard]] Compression detect_compression(std::span<const std::byte> head);

// Broken or truncated data: data_loss, blame on the user. The source is read by whoever reads the result.
[[nodiscard]] Result<std::unique_ptr<ByteSource>> make_decompressor(std::unique_ptr<ByteSource> source,
                                                                    Compression compression);
// Detects first.
struct Decompressed {
    std::unique_ptr<ByteSource> source;
    Compression compression = Compression::none;
};
[[nodiscard]] Result<Decompressed> decompress_any(std::unique_ptr<ByteSource> source);

class Compressor : public ByteSink {
public:
    // Writes what is left and the trailer. Once; nothing may be written after it.
    virtual Result<> finish() = 0;
};

// The default of a format. gzip: 1 (fast) … 12; zstd: 1 … 22.
inline constexpr int kDefaultLevel = -1;

// threads counts the working threads (0 = one per core). Calls to out come from one thread at a time, not necessarily
// the caller's, in order. bzip2, xz: invalid_argument.
[[nodiscard]] Result<std::unique_ptr<Compressor>> make_compressor(ByteSink& out, Compression compression, int level,
                                                                  std::size_t threads);

}  // namespace cooper::codec
