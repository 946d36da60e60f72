// BlobStream: the bytes of a blob as one stream, whatever happens to connections: what breaks is
// opened again where it stopped (Range), with backoff, as long as there is progress.
#pragma once

#include "base/bytes.hpp"
#include "base/stop.hpp"
#include "http/client.hpp"

#include <cstdint>
#include <functional>
#include <memory>

namespace cooper::registry {

class BlobStream final : public ByteSource {
public:
    // Answers 200 with everything or 206 from the offset asked for.
    using OpenAt = std::function<Result<http::Response>(std::uint64_t offset)>;

    // Opens at once. size_bytes is the whole blob's; a stream that ends before it is a broken one.
    static Result<std::unique_ptr<ByteSource>> open(OpenAt open_at, std::uint64_t offset, std::uint64_t size_bytes,
                                                    http::RetryPolicy retry, const Stop& stop);
    Result<std::size_t> read(std::span<std::byte> buffer) override;

private:
    BlobStream(OpenAt open_at, std::uint64_t offset, std::uint64_t size_bytes, http::RetryPolicy retry, Stop stop)
        : open_at_(std::move(open_at)), at_(offset), size_bytes_(size_bytes), retry_(retry), stop_(std::move(stop)) {}
    Result<> connect();
    Result<> skip(std::uint64_t n);

    OpenAt open_at_;
    std::uint64_t at_;
    std::uint64_t size_bytes_;
    http::RetryPolicy retry_;
    Stop stop_;
    int failures_ = 0;  // since the last byte
    std::unique_ptr<ByteSource> body_;
};

}  // namespace cooper::registry
