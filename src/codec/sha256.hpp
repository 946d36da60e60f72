// SHA-256, incremental. OpenSSL's low-level functions are used on purpose: they choose the processor's
// SHA instructions and need none of EVP's start-up. One thread at a time per object.
#pragma once

#include "base/bytes.hpp"
#include "base/digest.hpp"

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

namespace cooper::codec {

class Sha256 {
public:
    Sha256();
    Sha256(const Sha256& other) = default;
    Sha256& operator=(const Sha256& other) = default;
    void update(std::span<const std::byte> data);
    void update(std::string_view text) { update(as_bytes(text)); }
    // The digest of all that was given; the object can go on being updated.
    [[nodiscard]] Digest finish() const;
    [[nodiscard]] std::array<std::uint8_t, 32> finish_raw() const;

private:
    alignas(8) std::array<std::byte, 112> state_{};  // a SHA256_CTX
};

[[nodiscard]] Digest sha256_of(std::string_view text);

// Passes everything on and knows its digest and size.
class DigestingSink final : public ByteSink {
public:
    explicit DigestingSink(ByteSink& next) : next_(next) {}
    Result<> write(std::span<const std::byte> data) override;
    [[nodiscard]] Digest digest() const { return hash_.finish(); }
    [[nodiscard]] std::uint64_t size_bytes() const { return size_; }

private:
    ByteSink& next_;
    Sha256 hash_;
    std::uint64_t size_ = 0;
};

// Passes everything on; at the end of the stream a digest or size other than expected is data_loss. A
// stream that goes on beyond the expected size fails at once.
class VerifyingSource final : public ByteSource {
public:
    VerifyingSource(std::unique_ptr<ByteSource> source, Digest expected, std::uint64_t size_bytes);
    Result<std::size_t> read(std::span<std::byte> buffer) override;

private:
    std::unique_ptr<ByteSource> source_;
    Digest expected_;
    std::uint64_t expected_size_;
    Sha256 hash_;
    std::uint64_t size_ = 0;
    bool verified_ = false;
};

}  // namespace cooper::codec
