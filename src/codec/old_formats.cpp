// bzip2 and xz, for reading only: archives that ADD unpacks.
#include "codec/detail/streams.hpp"

#include <algorithm>
#include <bzlib.h>
#include <lzma.h>

namespace cooper::codec::detail {

namespace {

constexpr std::uint64_t kXzMemory = 256 << 20;  // xz -9 needs 65 MiB

class Bzip2Source final : public ByteSource {
public:
    explicit Bzip2Source(std::unique_ptr<ByteSource> source) : source_(std::move(source)), input_(kInputBuffer) {}
    Bzip2Source(const Bzip2Source&) = delete;
    Bzip2Source& operator=(const Bzip2Source&) = delete;
    ~Bzip2Source() override { end_stream(); }

    Result<std::size_t> read(std::span<std::byte> buffer) override {
        const auto wanted = static_cast<unsigned>(std::min<std::size_t>(buffer.size(), 1U << 30));
        for (std::size_t got = 0; got == 0 && wanted > 0;) {
            if (stream_.avail_in == 0) TRY(refill());
            if (!open_) {
                // Streams follow one another; the end of the input between them is the end.
                if (stream_.avail_in == 0 && streams_ > 0) return 0;
                if (BZ2_bzDecompressInit(&stream_, 0, 0) != BZ_OK) {
                    return fail(Code::resource_exhausted, Blame::world, "bzip2: out of memory");
                }
                open_ = true;
                ++streams_;
            }
            if (stream_.avail_in == 0) return broken_stream("bzip2", "it is truncated");
            stream_.next_out = reinterpret_cast<char*>(buffer.data());
            stream_.avail_out = wanted;
            const int status = BZ2_bzDecompress(&stream_);
            if (status == BZ_STREAM_END) {
                end_stream();
            } else if (status != BZ_OK) {
                return broken_stream("bzip2", "invalid data");
            }
            got = wanted - stream_.avail_out;
            if (got > 0) return got;
        }
        return 0;
    }

private:
    Result<> refill() {
        const std::size_t got = TRY(source_->read(input_));
        stream_.next_in = reinterpret_cast<char*>(input_.data());
        stream_.avail_in = static_cast<unsigned>(got);
        return {};
    }
    void end_stream() {
        if (std::exchange(open_, false)) BZ2_bzDecompressEnd(&stream_);
    }

    std::unique_ptr<ByteSource> source_;
    Bytes input_;
    bz_stream stream_{};
    bool open_ = false;
    int streams_ = 0;
};

class XzSource final : public ByteSource {
public:
    explicit XzSource(std::unique_ptr<ByteSource> source) : source_(std::move(source)), input_(kInputBuffer) {}
    XzSource(const XzSource&) = delete;
    XzSource& operator=(const XzSource&) = delete;
    ~XzSource() override { lzma_end(&stream_); }

    [[nodiscard]] bool open() { return lzma_stream_decoder(&stream_, kXzMemory, LZMA_CONCATENATED) == LZMA_OK; }

    Result<std::size_t> read(std::span<std::byte> buffer) override {
        while (!done_ && !buffer.empty()) {
            if (stream_.avail_in == 0 && !input_ended_) {
                const std::size_t got = TRY(source_->read(input_));
                input_ended_ = got == 0;
                stream_.next_in = reinterpret_cast<const std::uint8_t*>(input_.data());
                stream_.avail_in = got;
            }
            stream_.next_out = reinterpret_cast<std::uint8_t*>(buffer.data());
            stream_.avail_out = buffer.size();
            const lzma_ret status = lzma_code(&stream_, input_ended_ ? LZMA_FINISH : LZMA_RUN);
            if (status == LZMA_STREAM_END) {
                done_ = true;
            } else if (status == LZMA_MEMLIMIT_ERROR) {
                return fail(Code::resource_exhausted, Blame::user, "xz stream needs more than {} MiB of memory",
                            kXzMemory >> 20);
            } else if (status == LZMA_BUF_ERROR && input_ended_) {
                return broken_stream("xz", "it is truncated");
            } else if (status != LZMA_OK && status != LZMA_BUF_ERROR) {
                return broken_stream("xz", "invalid data");
            }
            if (stream_.avail_out < buffer.size()) return buffer.size() - stream_.avail_out;
        }
        return 0;
    }

private:
    std::unique_ptr<ByteSource> source_;
    Bytes input_;
    lzma_stream stream_ = LZMA_STREAM_INIT;
    bool input_ended_ = false;
    bool done_ = false;
};

}  // namespace

Result<std::unique_ptr<ByteSource>> make_bzip2_source(std::unique_ptr<ByteSource> source) {
    return std::make_unique<Bzip2Source>(std::move(source));
}

Result<std::unique_ptr<ByteSource>> make_xz_source(std::unique_ptr<ByteSource> source) {
    auto xz = std::make_unique<XzSource>(std::move(source));
    if (!xz->open()) return fail(Code::resource_exhausted, Blame::world, "xz: out of memory");
    return xz;
}

}  // namespace cooper::codec::detail
