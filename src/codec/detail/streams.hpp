// The streaming codecs behind compression.hpp, one per file.
#pragma once

#include "codec/compression.hpp"

#include <memory>

namespace cooper::codec::detail {

inline constexpr std::size_t kInputBuffer = 128 << 10;

[[nodiscard]] inline Error broken_stream(std::string_view format, std::string_view what) {
    return fail(Code::data_loss, Blame::user, "{} stream is damaged: {}", format, what);
}

[[nodiscard]] std::unique_ptr<ByteSource> make_gzip_source(std::unique_ptr<ByteSource> source);
[[nodiscard]] Result<std::unique_ptr<ByteSource>> make_zstd_source(std::unique_ptr<ByteSource> source);
[[nodiscard]] Result<std::unique_ptr<ByteSource>> make_bzip2_source(std::unique_ptr<ByteSource> source);
[[nodiscard]] Result<std::unique_ptr<ByteSource>> make_xz_source(std::unique_ptr<ByteSource> source);
[[nodiscard]] Result<std::unique_ptr<Compressor>> make_gzip_compressor(ByteSink& out, int level, std::size_t threads);
[[nodiscard]] Result<std::unique_ptr<Compressor>> make_zstd_compressor(ByteSink& out, int level, std::size_t threads);

}  // namespace cooper::codec::detail
