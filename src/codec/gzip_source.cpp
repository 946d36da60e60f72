// gzip through ISA-L. Members follow one another as one stream; anything else behind a member is an error, as in Go.
#include "codec/detail/streams.hpp"

#include <cstring>
#include <isa-l/igzip_lib.h>

namespace cooper::codec::detail {

namespace {

class GzipSource final : public ByteSource {
public:
    explicit GzipSource(std::unique_ptr<ByteSource> source) : source_(std::move(source)), input_(kInputBuffer) {
        state_ = std::make_unique<inflate_state>();
        start_member();
        state_->next_in = input();
        state_->avail_in = 0;
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

    void start_member() {
        isal_inflate_init(state_.get());
        state_->crc_flag = ISAL_GZIP;
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
        if (state_->avail_in == 0) return false;
        if (*state_->next_in != 0x1f) return broken_stream("gzip", "garbage behind its end");
        std::uint8_t* const next_in = state_->next_in;
        const std::uint32_t avail_in = state_->avail_in;
        start_member();
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
    bool input_ended_ = false;
    bool done_ = false;
};

}  // namespace

std::unique_ptr<ByteSource> make_gzip_source(std::unique_ptr<ByteSource> source) {
    return std::make_unique<GzipSource>(std::move(source));
}

}  // namespace cooper::codec::detail
