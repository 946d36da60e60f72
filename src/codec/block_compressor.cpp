// gzip by libdeflate and zstd by libzstd, one member or frame per block of fixed size, blocks compressed by several
// threads and written in order. (Debian's libzstd.a has no threads of its own, and frames give them for free.)
// The caller fills a block; full ones wait for a worker; whoever finds the oldest block done writes it out.
#include "base/guarded.hpp"
#include "codec/detail/streams.hpp"

#include <algorithm>
#include <cstring>
#include <deque>
#include <libdeflate.h>
#include <optional>
#include <thread>
#include <zstd.h>

namespace cooper::codec::detail {

namespace {

constexpr std::size_t kGzipBlock = 1 << 20;
constexpr std::size_t kZstdBlock = 2 << 20;
constexpr int kGzipLevel = 5;
constexpr int kZstdLevel = 3;
constexpr std::size_t kMaxThreads = 16;

// One thread's compressor of whole blocks.
class Encoder {
public:
    virtual ~Encoder() = default;
    virtual void encode(const Bytes& input, Bytes& output) = 0;
};

class GzipEncoder final : public Encoder {
public:
    explicit GzipEncoder(libdeflate_compressor* deflater) : deflater_(deflater) {}
    void encode(const Bytes& input, Bytes& output) override {
        output.resize(libdeflate_gzip_compress_bound(deflater_.get(), input.size()));
        const std::size_t size =
            libdeflate_gzip_compress(deflater_.get(), input.data(), input.size(), output.data(), output.size());
        CHECK(size > 0);
        output.resize(size);
    }

private:
    struct Free {
        void operator()(libdeflate_compressor* compressor) const { libdeflate_free_compressor(compressor); }
    };
    std::unique_ptr<libdeflate_compressor, Free> deflater_;
};

class ZstdEncoder final : public Encoder {
public:
    explicit ZstdEncoder(ZSTD_CCtx* context) : context_(context) {}
    void encode(const Bytes& input, Bytes& output) override {
        output.resize(ZSTD_compressBound(input.size()));
        const std::size_t size =
            ZSTD_compress2(context_.get(), output.data(), output.size(), input.data(), input.size());
        CHECK(ZSTD_isError(size) == 0);  // the bound suffices
        output.resize(size);
    }

private:
    struct Free {
        void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
    };
    std::unique_ptr<ZSTD_CCtx, Free> context_;
};
using Encoders = std::vector<std::unique_ptr<Encoder>>;

struct Block {
    Bytes input;
    Bytes output;
    enum class Stage : std::uint8_t { waiting, working, done } stage = Stage::waiting;
};

class BlockCompressor final : public Compressor {
public:
    BlockCompressor(ByteSink& out, std::size_t block_bytes, Encoders encoders)
        : out_(out), block_bytes_(block_bytes), limit_(encoders.size() + 2) {
        current_.reserve(block_bytes_);
        for (auto& encoder : encoders) {
            threads_.emplace_back([this, mine = std::move(encoder)] { work(*mine); });
        }
    }
    BlockCompressor(const BlockCompressor&) = delete;
    BlockCompressor& operator=(const BlockCompressor&) = delete;
    ~BlockCompressor() override {
        state_.lock()->closing = true;
        state_.notify_all();
    }

    Result<> write(std::span<const std::byte> data) override {
        while (!data.empty()) {
            const std::size_t n = std::min(data.size(), block_bytes_ - current_.size());
            current_.insert(current_.end(), data.begin(), data.begin() + static_cast<std::ptrdiff_t>(n));
            data = data.subspan(n);
            if (current_.size() == block_bytes_) TRY(hand_over());
        }
        return {};
    }

    Result<> finish() override {
        // Nothing at all is still one (empty) member.
        if (!current_.empty() || blocks_ == 0) TRY(hand_over());
        return write_done(0);
    }

private:
    struct State {
        std::deque<std::unique_ptr<Block>> blocks;  // oldest first
        std::vector<std::unique_ptr<Block>> spare;
        bool closing = false;
    };

    Result<> hand_over() {
        ++blocks_;
        TRY(write_done(limit_ - 1));
        auto state = state_.lock();
        std::unique_ptr<Block> block;
        if (state->spare.empty()) {
            block = std::make_unique<Block>();
        } else {
            block = std::move(state->spare.back());
            state->spare.pop_back();
        }
        block->stage = Block::Stage::waiting;
        std::swap(block->input, current_);
        current_.clear();
        current_.reserve(block_bytes_);
        state->blocks.push_back(std::move(block));
        state_.notify_all();
        return {};
    }

    // Writes finished blocks in order until at most `keep` are left; waits only for those beyond.
    Result<> write_done(std::size_t keep) {
        for (;;) {
            std::unique_ptr<Block> block;
            {
                auto state = state_.lock();
                const auto ready = [&] { return state->blocks.front()->stage == Block::Stage::done; };
                if (state->blocks.empty() || (state->blocks.size() <= keep && !ready())) return {};
                state.wait(ready);
                block = std::move(state->blocks.front());
                state->blocks.pop_front();
            }
            TRY(out_.write(block->output));
            state_.lock()->spare.push_back(std::move(block));
        }
    }

    void work(Encoder& encoder) noexcept {
        for (;;) {
            Block* block = nullptr;
            {
                auto state = state_.lock();
                const auto find = [&] {
                    const auto found = std::ranges::find_if(
                        state->blocks, [](const auto& each) { return each->stage == Block::Stage::waiting; });
                    block = found == state->blocks.end() ? nullptr : found->get();
                    return block != nullptr || state->closing;
                };
                state.wait(find);
                if (state->closing) return;
                block->stage = Block::Stage::working;
            }
            // The block stays in the queue, and so alive, until it is done.
            encoder.encode(block->input, block->output);
            block->input.clear();
            {
                auto state = state_.lock();
                block->stage = Block::Stage::done;
            }
            state_.notify_all();
        }
    }

    ByteSink& out_;
    const std::size_t block_bytes_;
    const std::size_t limit_;  // blocks in flight
    Bytes current_;
    std::uint64_t blocks_ = 0;
    Guarded<State> state_;
    std::vector<std::jthread> threads_;  // last: joined first
};

}  // namespace

Result<std::unique_ptr<Compressor>> make_gzip_compressor(ByteSink& out, int level, std::size_t threads) {
    if (level == kDefaultLevel) level = kGzipLevel;
    if (level < 0 || level > 12) return bad_input("gzip has no compression level {}: use 0 to 9", level);
    Encoders encoders;
    for (std::size_t i = 0; i < std::min(threads, kMaxThreads); ++i) {
        auto* const deflater = libdeflate_alloc_compressor(level);
        if (deflater == nullptr) return fail(Code::resource_exhausted, Blame::world, "gzip: out of memory");
        encoders.push_back(std::make_unique<GzipEncoder>(deflater));
    }
    return std::make_unique<BlockCompressor>(out, kGzipBlock, std::move(encoders));
}

Result<std::unique_ptr<Compressor>> make_zstd_compressor(ByteSink& out, int level, std::size_t threads) {
    if (level == kDefaultLevel) level = kZstdLevel;
    if (level < 0 || level > ZSTD_maxCLevel()) {
        return bad_input("zstd has no compression level {}: use 1 to {}", level, ZSTD_maxCLevel());
    }
    Encoders encoders;
    for (std::size_t i = 0; i < std::min(threads, kMaxThreads); ++i) {
        ZSTD_CCtx* const context = ZSTD_createCCtx();
        if (context == nullptr) return fail(Code::resource_exhausted, Blame::world, "zstd: out of memory");
        encoders.push_back(std::make_unique<ZstdEncoder>(context));
        ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, std::max(level, 1));
        ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
    }
    return std::make_unique<BlockCompressor>(out, kZstdBlock, std::move(encoders));
}

}  // namespace cooper::codec::detail
