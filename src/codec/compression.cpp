#include "codec/compression.hpp"

#include "codec/detail/streams.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <thread>

namespace cooper::codec {

namespace {

// First the bytes that were read to detect the format, then the rest.
class PrefixedSource final : public ByteSource {
public:
    PrefixedSource(Bytes head, std::unique_ptr<ByteSource> rest) : head_(std::move(head)), rest_(std::move(rest)) {}
    Result<std::size_t> read(std::span<std::byte> buffer) override {
        if (at_ == head_.size()) return rest_->read(buffer);
        const std::size_t n = std::min(buffer.size(), head_.size() - at_);
        std::memcpy(buffer.data(), head_.data() + at_, n);
        at_ += n;
        return n;
    }

private:
    Bytes head_;
    std::size_t at_ = 0;
    std::unique_ptr<ByteSource> rest_;
};

class PlainCompressor final : public Compressor {
public:
    explicit PlainCompressor(ByteSink& out) : out_(out) {}
    Result<> write(std::span<const std::byte> data) override { return out_.write(data); }
    Result<> finish() override { return {}; }

private:
    ByteSink& out_;
};

bool starts_with(std::span<const std::byte> head, std::string_view magic) { return as_text(head).starts_with(magic); }

}  // namespace

std::string_view compression_name(Compression compression) {
    switch (compression) {
        case Compression::none:
            return "uncompressed";
        case Compression::gzip:
            return "gzip";
        case Compression::zstd:
            return "zstd";
        case Compression::bzip2:
            return "bzip2";
        case Compression::xz:
            return "xz";
    }
    UNREACHABLE();
}

Compression detect_compression(std::span<const std::byte> head) {
    if (starts_with(head, "\x1f\x8b\x08")) return Compression::gzip;
    if (starts_with(head, "\x28\xb5\x2f\xfd")) return Compression::zstd;
    // A skippable zstd frame: 0x184D2A50 … 5F, little-endian.
    if (head.size() >= 4 && (head[0] & std::byte{0xF0}) == std::byte{0x50} &&
        starts_with(head.subspan(1), "\x2a\x4d\x18")) {
        return Compression::zstd;
    }
    // "BZh", the block size, and the magic of a block or of the end.
    if (head.size() >= 10 && starts_with(head, "BZh") && head[3] >= std::byte{'1'} && head[3] <= std::byte{'9'} &&
        (starts_with(head.subspan(4), "\x31\x41\x59\x26\x53\x59") ||
         starts_with(head.subspan(4), "\x17\x72\x45\x38\x50\x90"))) {
        return Compression::bzip2;
    }
    if (starts_with(head, std::string_view("\xfd\x37\x7a\x58\x5a\x00", 6))) return Compression::xz;
    return Compression::none;
}

Result<std::unique_ptr<ByteSource>> make_decompressor(std::unique_ptr<ByteSource> source, Compression compression) {
    switch (compression) {
        case Compression::none:
            return source;
        case Compression::gzip:
            return detail::make_gzip_source(std::move(source));
        case Compression::zstd:
            return detail::make_zstd_source(std::move(source));
        case Compression::bzip2:
            return detail::make_bzip2_source(std::move(source));
        case Compression::xz:
            return detail::make_xz_source(std::move(source));
    }
    UNREACHABLE();
}

Result<Decompressed> decompress_any(std::unique_ptr<ByteSource> source) {
    Bytes head(kDetectBytes);
    std::size_t have = 0;
    while (have < head.size()) {
        const std::size_t got = TRY(source->read(std::span(head).subspan(have)));
        if (got == 0) break;
        have += got;
    }
    head.resize(have);
    const Compression compression = detect_compression(head);
    auto whole = std::make_unique<PrefixedSource>(std::move(head), std::move(source));
    auto opened = TRY(make_decompressor(std::move(whole), compression));
    return Decompressed{.source = std::move(opened), .compression = compression};
}

Result<std::unique_ptr<Compressor>> make_compressor(ByteSink& out, Compression compression, int level,
                                                    std::size_t threads) {
    if (threads == 0) threads = std::max(1U, std::thread::hardware_concurrency());
    switch (compression) {
        case Compression::none:
            return std::make_unique<PlainCompressor>(out);
        case Compression::gzip:
            return detail::make_gzip_compressor(out, level, threads);
        case Compression::zstd:
            return detail::make_zstd_compressor(out, level, threads);
        case Compression::bzip2:
        case Compression::xz:
            break;
    }
    return bad_input("layers cannot be compressed with {}", compression_name(compression))
        .with_hint("use gzip, zstd or uncompressed");
}

}  // namespace cooper::codec
