#include "exporter/detail/layer_stream.hpp"

#include "base/guarded.hpp"
#include "codec/sha256.hpp"
#include "codec/tar.hpp"
#include "sys/rooted_dir.hpp"

#include <algorithm>
#include <cstring>
#include <deque>
#include <optional>
#include <thread>
#include <utility>

namespace cooper::exporter::detail {

namespace {

constexpr std::size_t kCopyBytes = 1 << 20;
constexpr std::size_t kQueuedPieces = 4;

// Turns the writer of a tar into something that can be read: a bounded queue between two threads.
class LayerSource final : public ByteSource {
public:
    LayerSource(std::string layer_path, const layer::DiffOptions& options, const Stop& stop)
        : queue_(state_), outer_stop_(stop), layer_path_(std::move(layer_path)), options_(options), thread_([this] {
              run();
          }) {}
    LayerSource(const LayerSource&) = delete;
    LayerSource& operator=(const LayerSource&) = delete;
    ~LayerSource() override {
        state_.lock()->reader_gone = true;
        state_.notify_all();
    }

    Result<std::size_t> read(std::span<std::byte> buffer) override {
        if (buffer.empty()) return 0;
        if (at_ == current_.size()) {
            auto state = state_.lock();
            if (!state.wait(outer_stop_, [&] { return !state->pieces.empty() || state->ended; })) return cancelled();
            if (state->pieces.empty()) {
                if (state->error) return *state->error;
                return 0;
            }
            current_ = std::move(state->pieces.front());
            state->pieces.pop_front();
            at_ = 0;
            state_.notify_all();
        }
        const std::size_t n = std::min(buffer.size(), current_.size() - at_);
        std::memcpy(buffer.data(), current_.data() + at_, n);
        at_ += n;
        return n;
    }

private:
    struct State {
        std::deque<Bytes> pieces;
        bool ended = false;
        bool reader_gone = false;
        std::optional<Error> error;
    };
    class Queue final : public ByteSink {
    public:
        explicit Queue(Guarded<State>& state) : state_(state) {}
        Result<> write(std::span<const std::byte> data) override {
            if (data.empty()) return {};
            Bytes piece(data.begin(), data.end());
            auto state = state_.lock();
            state.wait([&] { return state->reader_gone || state->pieces.size() < kQueuedPieces; });
            if (state->reader_gone) return cancelled();
            state->pieces.push_back(std::move(piece));
            state_.notify_all();
            return {};
        }

    private:
        Guarded<State>& state_;
    };

    void run() noexcept {
        Result<> done = write_layer_stream(layer_path_, queue_, options_, outer_stop_);
        auto state = state_.lock();
        state->ended = true;
        if (!done) state->error = done.error();
        state_.notify_all();
    }

    Guarded<State> state_;
    Queue queue_;
    Stop outer_stop_;
    std::string layer_path_;
    const layer::DiffOptions options_;
    Bytes current_;
    std::size_t at_ = 0;
    std::jthread thread_;  // last: starts when all else is there, joined first
};

class OwningVerifier final : public ByteSource {
public:
    OwningVerifier(std::unique_ptr<ByteSource> source, const oci::Descriptor& blob)
        : source_(std::move(source)), verifier_(*source_, blob.digest, blob.size) {}
    Result<std::size_t> read(std::span<std::byte> buffer) override { return verifier_.read(buffer); }

private:
    std::unique_ptr<ByteSource> source_;
    codec::VerifyingSource verifier_;
};

}  // namespace

Result<> write_layer_stream(const std::string& layer_path, ByteSink& out, const layer::DiffOptions& options,
                            const Stop& stop) {
    const sys::RootedDir dir = TRY(sys::RootedDir::open_host(layer_path));
    codec::TarWriter tar(out);
    TRY(layer::write_layer_tar(dir, tar, options, stop));
    return tar.finish();
}

std::unique_ptr<ByteSource> read_layer_stream(std::string layer_path, const layer::DiffOptions& options,
                                              const Stop& stop) {
    return std::make_unique<LayerSource>(std::move(layer_path), options, stop);
}

std::unique_ptr<ByteSource> verified(std::unique_ptr<ByteSource> source, const oci::Descriptor& blob) {
    return std::make_unique<OwningVerifier>(std::move(source), blob);
}

Result<std::uint64_t> copy_stream(ByteSource& source, ByteSink& out, const Stop& stop) {
    Bytes buffer(kCopyBytes);
    std::uint64_t total = 0;
    while (true) {
        TRY(check_stop(stop));
        const std::size_t n = TRY(source.read(buffer));
        if (n == 0) return total;
        TRY(out.write(std::span<const std::byte>(buffer).first(n)));
        total += n;
    }
}

}  // namespace cooper::exporter::detail
