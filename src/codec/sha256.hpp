// SHA-256 of streams and texts. Uses OpenSSL's low-level functions, which choose SHA-NI at run time and cost nothing at
// program start (EVP would). One thread at a time per object.
#pragma once

#include "base/bytes.hpp"
#include "base/digest.hpp"
#include "base/result.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace cooper::codec {

class Sha256 {
public:
    Sha256();
    void update(std::span<const std::byte> data);
    void update(std::string_view text) { update(as_bytes(text)); }
    // The digest of all updates; afterwards the object is as new.
    [[nodiscard]] Digest finish();

private:
    alignas(8) unsigned char state_[128];  // SHA256_CTX, checked in the .cpp
};

[[nodiscard]] Digest sha256_of(std::span<const std::byte> data);
[[nodiscard]] Digest sha256_of(std::string_view text);
// RFC 2104.
[[nodiscard]] Digest hmac_sha256(std::string_view key, std::string_view text);

// Hashes and counts what it hands on to next.
class DigestingSink final : public ByteSink {
public:
    explicit DigestingSink(ByteSink& next) : next_(next) {}
    Result<> write(std::span<const std::byte> data) override;
    // Of all bytes so far; call once, at the end.
    [[nodiscard]] Digest digest() { return hash_.finish(); }
    [[nodiscard]] std::uint64_t size() const { return size_; }

private:
    ByteSink& next_;
    Sha256 hash_;
    std::uint64_t size_ = 0;
};

// Hashes and counts what is read through it.
class DigestingSource final : public ByteSource {
public:
    explicit DigestingSource(ByteSource& inner) : inner_(inner) {}
    Result<std::size_t> read(std::span<std::byte> buffer) override;
    [[nodiscard]] Digest digest() { return hash_.finish(); }
    [[nodiscard]] std::uint64_t size() const { return size_; }

private:
    ByteSource& inner_;
    Sha256 hash_;
    std::uint64_t size_ = 0;
};

// Passes bytes through and fails instead of ending when they are not the expected ones: data_loss, blame on the world.
// More bytes than expected fail at once.
class VerifyingSource final : public ByteSource {
public:
    static constexpr std::uint64_t kAnySize = UINT64_MAX;
    VerifyingSource(ByteSource& inner, Digest expected, std::uint64_t expected_size)
        : inner_(inner), expected_(expected), expected_size_(expected_size) {}
    Result<std::size_t> read(std::span<std::byte> buffer) override;

private:
    ByteSource& inner_;
    Digest expected_;
    std::uint64_t expected_size_;
    Sha256 hash_;
    std::uint64_t size_ = 0;
    bool ended_ = false;
};

}  // namespace cooper::codec
