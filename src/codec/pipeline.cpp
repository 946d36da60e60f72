#include "codec/pipeline.hpp"

#include "base/guarded.hpp"
#include "codec/sha256.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace cooper::codec {

namespace {

constexpr std::size_t kChunk = 512 << 10;
constexpr std::size_t kChunks = 4;

struct Chunk {
    Bytes data;
    std::size_t used = 0;
};

// Bounded hand-over of filled chunks from one thread to another, with the empty ones going back.
class Handover {
public:
    // False when the taking side is gone.
    bool put(Chunk chunk) {
        auto state = state_.lock();
        state.wait([&] { return state->full.size() < kChunks || state->taker_gone; });
        if (state->taker_gone) return false;
        state->full.push_back(std::move(chunk));
        state_.notify_all();
        return true;
    }
    // nullopt at the end.
    std::optional<Chunk> take() {
        auto state = state_.lock();
        state.wait([&] { return !state->full.empty() || state->ended; });
        if (state->full.empty()) return std::nullopt;
        Chunk chunk = std::move(state->full.front());
        state->full.pop_front();
        state_.notify_all();
        return chunk;
    }
    void give_back(Chunk chunk) {
        auto state = state_.lock();
        if (!chunk.data.empty() && state->empty.size() < kChunks) state->empty.push_back(std::move(chunk));
    }
    Chunk empty_chunk() {
        auto state = state_.lock();
        if (state->empty.empty()) return Chunk{.data = Bytes(kChunk)};
        Chunk chunk = std::move(state->empty.back());
        state->empty.pop_back();
        chunk.used = 0;
        return chunk;
    }
    void end() {
        state_.lock()->ended = true;
        state_.notify_all();
    }
    void leave() {
        state_.lock()->taker_gone = true;
        state_.notify_all();
    }
    [[nodiscard]] bool taker_gone() { return state_.lock()->taker_gone; }

private:
    struct State {
        std::deque<Chunk> full;
        std::vector<Chunk> empty;
        bool ended = false;
        bool taker_gone = false;
    };
    Guarded<State> state_;
};

class ReadAheadSource final : public ByteSource {
public:
    ReadAheadSource(ByteSource& source, std::unique_ptr<ByteSource> owned)
        : owned_(std::move(owned)), source_(source), thread_([this] { fill(); }) {}
    ReadAheadSource(const ReadAheadSource&) = delete;
    ReadAheadSource& operator=(const ReadAheadSource&) = delete;
    ~ReadAheadSource() override { handover_.leave(); }

    Result<std::size_t> read(std::span<std::byte> buffer) override {
        if (buffer.empty()) return 0;
        if (at_ == current_.used) {
            handover_.give_back(std::exchange(current_, {}));
            at_ = 0;
            auto next = handover_.take();
            if (!next) {
                auto error = error_.lock();
                if (*error) return **error;
                return 0;
            }
            current_ = std::move(*next);
        }
        const std::size_t n = std::min(buffer.size(), current_.used - at_);
        std::memcpy(buffer.data(), current_.data.data() + at_, n);
        at_ += n;
        return n;
    }

private:
    void fill() noexcept {
        for (bool more = true; more;) {
            Chunk chunk = handover_.empty_chunk();
            while (more && chunk.used < chunk.data.size()) {
                auto got = source_.read(std::span(chunk.data).subspan(chunk.used));
                if (!got) *error_.lock() = got.error();
                more = got && *got > 0;
                if (more) chunk.used += *got;
            }
            if (chunk.used > 0 && !handover_.put(std::move(chunk))) return;
        }
        handover_.end();
    }

    std::unique_ptr<ByteSource> owned_;
    ByteSource& source_;
    Handover handover_;
    Guarded<std::optional<Error>> error_;
    Chunk current_;
    std::size_t at_ = 0;
    std::jthread thread_;  // last: starts when all else is there, joined first
};

}  // namespace

std::unique_ptr<ByteSource> read_ahead(std::unique_ptr<ByteSource> source) {
    ByteSource& inner = *source;
    return std::make_unique<ReadAheadSource>(inner, std::move(source));
}
std::unique_ptr<ByteSource> read_ahead(ByteSource& source) {
    return std::make_unique<ReadAheadSource>(source, nullptr);
}

// The caller fills chunks; thread hashes them and feeds the compressor, which writes to outer, which hashes and counts.
struct BlobPipeline::State {
    State(ByteSink& sink, Compression kind) : compression(kind), out(sink), outer(sink) {}
    State(const State&) = delete;
    State& operator=(const State&) = delete;
    ~State() { handover.end(); }

    Result<> consume() {
        while (auto chunk = handover.take()) {
            if (abandoned.load(std::memory_order_relaxed)) return {};
            const auto data = std::span<const std::byte>(chunk->data).first(chunk->used);
            inner_hash.update(data);
            inner_size += data.size();
            TRY(compression == Compression::none ? out.write(data) : compressor->write(data));
            handover.give_back(std::move(*chunk));
        }
        return {};
    }
    void run() noexcept {
        auto done = consume();
        if (done) return;
        {
            *error.lock() = done.error();
        }
        handover.leave();
    }

    const Compression compression;
    ByteSink& out;
    DigestingSink outer;
    std::unique_ptr<Compressor> compressor;
    Sha256 inner_hash;
    std::uint64_t inner_size = 0;
    Handover handover;
    Guarded<std::optional<Error>> error;
    std::atomic<bool> abandoned = false;
    Chunk current;
    std::jthread thread;  // last: joined first
};

Result<std::unique_ptr<BlobPipeline>> BlobPipeline::create(ByteSink& out, Compression compression, int level,
                                                           std::size_t threads) {
    auto state = std::make_unique<State>(out, compression);
    state->compressor = TRY(make_compressor(state->outer, compression, level, threads));
    state->current = state->handover.empty_chunk();
    state->thread = std::jthread([raw = state.get()] { raw->run(); });
    return std::unique_ptr<BlobPipeline>(new BlobPipeline(std::move(state)));
}

BlobPipeline::BlobPipeline(std::unique_ptr<State> state) : state_(std::move(state)) {}

BlobPipeline::~BlobPipeline() {
    if (state_->thread.joinable()) {
        state_->abandoned = true;
        state_->handover.end();
        state_->thread.join();
    }
}

Result<> BlobPipeline::write(std::span<const std::byte> data) {
    while (!data.empty()) {
        Chunk& current = state_->current;
        const std::size_t n = std::min(data.size(), current.data.size() - current.used);
        std::memcpy(current.data.data() + current.used, data.data(), n);
        current.used += n;
        data = data.subspan(n);
        if (current.used < current.data.size()) continue;
        if (!state_->handover.put(std::exchange(current, {}))) return state_->error.lock()->value();
        current = state_->handover.empty_chunk();
    }
    return {};
}

Result<BlobFacts> BlobPipeline::finish() {
    State& state = *state_;
    CHECK(state.thread.joinable());
    if (state.current.used > 0) static_cast<void>(state.handover.put(std::move(state.current)));
    state.handover.end();
    state.thread.join();
    if (const auto error = *state.error.lock()) return *error;
    TRY(state.compressor->finish());
    BlobFacts facts;
    facts.diff_id = state.inner_hash.finish();
    facts.uncompressed_size = state.inner_size;
    const bool plain = state.compression == Compression::none;
    facts.digest = plain ? facts.diff_id : state.outer.digest();
    facts.size = plain ? state.inner_size : state.outer.size();
    return facts;
}

}  // namespace cooper::codec
