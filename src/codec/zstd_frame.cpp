#include "codec/zstd_frame.hpp"

#include <utility>
#include <zstd.h>

namespace cooper::codec {

ZstdFrames::ZstdFrames(int level) : context_(ZSTD_createCCtx()), level_(level) {}

ZstdFrames::ZstdFrames(ZstdFrames&& other) noexcept
    : context_(std::exchange(other.context_, nullptr)), level_(other.level_) {}

ZstdFrames::~ZstdFrames() { ZSTD_freeCCtx(static_cast<ZSTD_CCtx*>(context_)); }

Result<std::string> ZstdFrames::compress(std::string_view bytes) {
    if (context_ == nullptr) return fail(Code::resource_exhausted, Blame::world, "zstd: out of memory");
    std::string out(ZSTD_compressBound(bytes.size()), '\0');
    const std::size_t size = ZSTD_compressCCtx(static_cast<ZSTD_CCtx*>(context_), out.data(), out.size(), bytes.data(),
                                               bytes.size(), level_);
    if (ZSTD_isError(size) != 0) return fail(Code::internal, Blame::cooper, "zstd: {}", ZSTD_getErrorName(size));
    out.resize(size);
    return out;
}

Result<std::string> read_zstd_frame(std::string_view frame, std::size_t size_bytes) {
    if (ZSTD_findFrameCompressedSize(frame.data(), frame.size()) != frame.size())
        return fail(Code::data_loss, Blame::world, "zstd: no frame of {} bytes", frame.size());
    std::string out(size_bytes, '\0');
    const std::size_t size = ZSTD_decompress(out.data(), out.size(), frame.data(), frame.size());
    if (ZSTD_isError(size) != 0) return fail(Code::data_loss, Blame::world, "zstd: {}", ZSTD_getErrorName(size));
    if (size != size_bytes)
        return fail(Code::data_loss, Blame::world, "zstd: a frame of {} bytes, want {}", size, size_bytes);
    return out;
}

}  // namespace cooper::codec
