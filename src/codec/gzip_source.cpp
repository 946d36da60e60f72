// gzip through ISA-L. Members follow one another as one stream; anything else behind a member is an error, as in Go.
#include "codec/detail/streams.hpp"

#include <cstring>
#include <isa-l/crc.h>
#include <isa-l/igzip_lib.h>

namespace cooper::codec::detail {

namespace {

class GzipSource final : public ByteSource {
public:
    explicit GzipSource(std::unique_ptr<ByteSource> source) : source_(std::move(source)), input_(kInputBuffer) {
        state_ = std::make_unique<inflate_state>();
        state_->next_in = input();
        state_->avail_in = 0;
        state_->block_state = ISAL_BLOCK_FINISH;  // of the member before the first
    }

    Result<std::size_t> read(std::span<std::byte> buffer) override {
        if (done_ || buffer.empty()) return 0;
        const std::size_t wanted = std::min<std::size_t>(buffer.size(), 1U << 30);
        for (;;) {
            if (state_->block_state == ISAL_BLOCK_FINISH) {
                const bool more = TRY(next_member());
                if (!more) return done_ = true, 0;
            }
            if (state_->avail_in == 0 && !input_ended_) TRY(refill());
            state_->next_out = reinterpret_cast<std::uint8_t*>(buffer.data());
            state_->avail_out = static_cast<std::uint32_t>(wanted);
            const std::uint32_t before = state_->avail_in;
            TRY(check(isal_inflate(state_.get())));
            const std::size_t got = wanted - state_->avail_out;
            if (got > 0) return got;
            const bool progress = state_->avail_in != before || state_->block_state == ISAL_BLOCK_FINISH;
            if (!progress && state_->avail_in == 0 && input_ended_) return broken_stream("gzip", "it is truncated");
        }
    }

private:
    std::uint8_t* input() { return reinterpret_cast<std::uint8_t*>(input_.data()); }

    // The next byte of a header.
    Result<std::uint8_t> header_byte() {
        if (state_->avail_in == 0) TRY(refill());
        if (state_->avail_in == 0) return broken_stream("gzip", "it is truncated");
        --state_->avail_in;
        const std::uint8_t byte = *state_->next_in++;
        header_crc_ = crc32_gzip_refl(header_crc_, &byte, 1);
        return byte;
    }

    // RFC 1952, section 2.3. ISA-L reads headers, too, but forgets what it knew of one whose bytes come in pieces.
    Result<> read_header() {
        enum : std::uint8_t { kHeaderCrc = 2, kExtra = 4, kName = 8, kComment = 16, kReserved = 0xe0 };
        header_crc_ = 0;
        const std::uint8_t first = TRY(header_byte());
        if (first != 0x1f || TRY(header_byte()) != 0x8b) return broken_stream("gzip", "invalid header");
        if (TRY(header_byte()) != 8) return broken_stream("gzip", "unknown method");
        const std::uint8_t flags = TRY(header_byte());
        if ((flags & kReserved) != 0) return broken_stream("gzip", "invalid header");
        for (int skipped = 0; skipped < 6; ++skipped) TRY(header_byte());  // time, kind of compression, system
        if ((flags & kExtra) != 0) {
            const std::uint8_t low = TRY(header_byte());
            const auto size = static_cast<std::uint32_t>(low | TRY(header_byte()) << 8U);
            for (std::uint32_t i = 0; i < size; ++i) TRY(header_byte());
        }
        for (const std::uint8_t text : {kName, kComment}) {
            if ((flags & text) == 0) continue;
            while (TRY(header_byte()) != 0) {
            }
        }
        if ((flags & kHeaderCrc) != 0) {
            const std::uint32_t expected = header_crc_ & 0xffffU;
            const std::uint8_t low = TRY(header_byte());
            if (static_cast<std::uint32_t>(low | TRY(header_byte()) << 8U) != expected)
                return broken_stream("gzip", "wrong checksum");
        }
        return {};
    }

    Result<> refill() {
        const std::size_t got = TRY(source_->read(input_));
        input_ended_ = got == 0;
        state_->next_in = input();
        state_->avail_in = static_cast<std::uint32_t>(got);
        return {};
    }

    // False when the stream has ended.
    Result<bool> next_member() {
        if (state_->avail_in == 0) TRY(refill());
        if (state_->avail_in == 0) {
            if (first_) return broken_stream("gzip", "it is truncated");
            return false;
        }
        if (!first_ && *state_->next_in != 0x1f) return broken_stream("gzip", "garbage behind its end");
        TRY(read_header());
        first_ = false;
        std::uint8_t* const next_in = state_->next_in;
        const std::uint32_t avail_in = state_->avail_in;
        isal_inflate_init(state_.get());
        state_->crc_flag = ISAL_GZIP_NO_HDR_VER;
        state_->next_in = next_in;
        state_->avail_in = avail_in;
        return true;
    }

    static Result<> check(int status) {
        switch (status) {
            case ISAL_DECOMP_OK:
            case ISAL_END_INPUT:
            case ISAL_OUT_OVERFLOW:
                return {};
            case ISAL_INCORRECT_CHECKSUM:
                return broken_stream("gzip", "wrong checksum");
            case ISAL_INVALID_WRAPPER:
                return broken_stream("gzip", "invalid header");
            case ISAL_UNSUPPORTED_METHOD:
                return broken_stream("gzip", "unknown method");
            default:
                return broken_stream("gzip", "invalid data");
        }
    }

    std::unique_ptr<ByteSource> source_;
    Bytes input_;
    std::unique_ptr<inflate_state> state_;
    bool first_ = true;  // no member has been read yet
    std::uint32_t header_crc_ = 0;
    bool input_ended_ = false;
    bool done_ = false;
};

}  // namespace

std::unique_ptr<ByteSource> make_gzip_source(std::unique_ptr<ByteSource> source) {
    return std::make_unique<GzipSource>(std::move(source));
}

}  // namespace cooper::codec::detail
