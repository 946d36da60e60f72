#include "registry/blob_stream.hpp"

#include "base/text.hpp"

#include <algorithm>
#include <array>

namespace cooper::registry {

Result<std::unique_ptr<ByteSource>> BlobStream::open(OpenAt open_at, std::uint64_t offset, std::uint64_t size_bytes,
                                                     http::RetryPolicy retry, const Stop& stop) {
    std::unique_ptr<BlobStream> stream(new BlobStream(std::move(open_at), offset, size_bytes, retry, stop));
    if (offset < size_bytes) TRY(stream->connect());
    return std::unique_ptr<ByteSource>(std::move(stream));
}

Result<> BlobStream::skip(std::uint64_t n) {
    std::array<std::byte, 64 * 1024> scratch;
    while (n > 0) {
        const std::size_t want = static_cast<std::size_t>(std::min<std::uint64_t>(n, scratch.size()));
        const std::size_t got = TRY(body_->read(std::span(scratch.data(), want)));
        if (got == 0) return fail(Code::unavailable, Blame::world, "the blob is shorter than announced");
        n -= got;
    }
    return {};
}

Result<> BlobStream::connect() {
    http::Response response = TRY(open_at_(at_));
    body_ = std::move(response.body);
    if (at_ == 0) return {};
    // A server without ranges starts at the beginning.
    if (response.status == 200) return skip(at_);
    const std::string range = response.headers.find("Content-Range").value_or("");
    if (!range.starts_with(fmt::format("bytes {}-", at_))) {
        return fail(Code::data_loss, Blame::world, "asked for bytes from {} on, the server answered {}", at_,
                    quoted(range));
    }
    return {};
}

Result<std::size_t> BlobStream::read(std::span<std::byte> buffer) {
    for (;;) {
        Result<std::size_t> n = std::size_t{0};
        if (!body_ && at_ < size_bytes_) {
            if (const Result<> connected = connect(); !connected) n = connected.error();
        }
        if (n && body_) n = body_->read(buffer);
        if (n && *n > 0) {
            at_ += *n;
            failures_ = 0;
            return n;
        }
        if (n && at_ >= size_bytes_) return 0;
        if (n) n = fail(Code::unavailable, Blame::world, "the transfer ended after {} of {} bytes", at_, size_bytes_);
        if (!http::is_retryable(n.error()) || ++failures_ >= retry_.attempts) return n;
        body_.reset();
        TRY(http::wait_for(http::retry_delay(retry_, failures_, nullptr), stop_));
    }
}

}  // namespace cooper::registry
