// Threads between streams. BlobPipeline: bytes in, blob out, with both digests of a layer computed on the way in
// threads of their own. ReadAhead: a source read by another thread.
// Memory: a few MiB each. write/read/finish by one thread.
#pragma once

#include "base/bytes.hpp"
#include "base/digest.hpp"
#include "codec/compression.hpp"

#include <cstdint>
#include <memory>

namespace cooper::codec {

struct BlobFacts {
    Digest diff_id;  // of the bytes written
    std::uint64_t uncompressed_size = 0;
    Digest digest;  // of the bytes that went to out
    std::uint64_t size = 0;
};

class BlobPipeline final : public ByteSink {
public:
    // out is written from another thread until finish() has returned or the pipeline is gone.
    [[nodiscard]] static Result<std::unique_ptr<BlobPipeline>> create(ByteSink& out, Compression compression, int level,
                                                                      std::size_t threads);
    ~BlobPipeline() override;  // without finish(): stops, drops the rest
    // Returns early with the error of an earlier write once that is known.
    Result<> write(std::span<const std::byte> data) override;
    // Once.
    [[nodiscard]] Result<BlobFacts> finish();

private:
    struct State;
    explicit BlobPipeline(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

// Reads source ahead in its own thread. Destroying it waits for a read in progress.
[[nodiscard]] std::unique_ptr<ByteSource> read_ahead(std::unique_ptr<ByteSource> source);
// The same without owning the source, which must outlive the result.
[[nodiscard]] std::unique_ptr<ByteSource> read_ahead(ByteSource& source);

}  // namespace cooper::codec
