// zstd through libzstd: frames follow one another as one stream.
#include "codec/detail/streams.hpp"

#include <algorithm>
#include <zstd.h>

namespace cooper::codec::detail {

namespace {

constexpr int kMaxWindowLog = 27;  // 128 MiB: what the zstd program reads by default

struct FreeDecoder {
    void operator()(ZSTD_DStream* stream) const { ZSTD_freeDStream(stream); }
};

class ZstdSource final : public ByteSource {
public:
    ZstdSource(std::unique_ptr<ByteSource> source, std::unique_ptr<ZSTD_DStream, FreeDecoder> stream)
        : source_(std::move(source)), stream_(std::move(stream)), input_(kInputBuffer) {}

    Result<std::size_t> read(std::span<std::byte> buffer) override {
        if (buffer.empty()) return 0;
        ZSTD_outBuffer out{.dst = buffer.data(), .size = buffer.size(), .pos = 0};
        while (out.pos == 0) {
            if (in_.pos == in_.size && !flushing_) {
                const std::size_t got = TRY(source_->read(input_));
                if (got == 0) return end();
                in_ = {.src = input_.data(), .size = got, .pos = 0};
            }
            const std::size_t status = ZSTD_decompressStream(stream_.get(), &out, &in_);
            if (ZSTD_isError(status) != 0) return broken_stream("zstd", ZSTD_getErrorName(status));
            in_frame_ = status != 0;
            // A full output buffer means that more may be waiting inside.
            flushing_ = out.pos == out.size;
        }
        return out.pos;
    }

private:
    Result<std::size_t> end() const {
        if (in_frame_) return broken_stream("zstd", "it is truncated");
        return 0;
    }

    std::unique_ptr<ByteSource> source_;
    std::unique_ptr<ZSTD_DStream, FreeDecoder> stream_;
    Bytes input_;
    ZSTD_inBuffer in_{};
    bool in_frame_ = true;  // an empty stream is a truncated one
    bool flushing_ = false;
};

}  // namespace

Result<std::unique_ptr<ByteSource>> make_zstd_source(std::unique_ptr<ByteSource> source) {
    std::unique_ptr<ZSTD_DStream, FreeDecoder> stream(ZSTD_createDStream());
    if (!stream) return fail(Code::resource_exhausted, Blame::world, "zstd: out of memory");
    ZSTD_DCtx_setParameter(stream.get(), ZSTD_d_windowLogMax, kMaxWindowLog);
    return std::make_unique<ZstdSource>(std::move(source), std::move(stream));
}

}  // namespace cooper::codec::detail
