#include "codec/sha256.hpp"

#include <cstring>
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

namespace cooper::codec {

static_assert(sizeof(SHA256_CTX) == 112 && alignof(SHA256_CTX) <= 8);

namespace {
SHA256_CTX* context(std::array<std::byte, 112>& state) { return reinterpret_cast<SHA256_CTX*>(state.data()); }
}  // namespace

Sha256::Sha256() { SHA256_Init(context(state_)); }

void Sha256::update(std::span<const std::byte> data) { SHA256_Update(context(state_), data.data(), data.size()); }

std::array<std::uint8_t, 32> Sha256::finish_raw() const {
    std::array<std::byte, 112> copy = state_;
    std::array<std::uint8_t, 32> raw{};
    SHA256_Final(raw.data(), context(copy));
    return raw;
}

Digest Sha256::finish() const { return Digest::sha256_from_raw(finish_raw()); }

Digest sha256_of(std::string_view text) {
    Sha256 hash;
    hash.update(text);
    return hash.finish();
}

Result<> DigestingSink::write(std::span<const std::byte> data) {
    hash_.update(data);
    size_ += data.size();
    return next_.write(data);
}

VerifyingSource::VerifyingSource(std::unique_ptr<ByteSource> source, Digest expected, std::uint64_t size_bytes)
    : source_(std::move(source)), expected_(expected), expected_size_(size_bytes) {}

Result<std::size_t> VerifyingSource::read(std::span<std::byte> buffer) {
    const std::size_t n = TRY(source_->read(buffer));
    if (n > 0) {
        hash_.update(std::span<const std::byte>(buffer).first(n));
        size_ += n;
        if (size_ > expected_size_) {
            return fail(Code::data_loss, Blame::world, "{}: more bytes than the {} announced", expected_.to_string(),
                        expected_size_);
        }
        return n;
    }
    if (!verified_) {
        if (size_ != expected_size_) {
            return fail(Code::data_loss, Blame::world, "{}: {} bytes instead of {}", expected_.to_string(), size_,
                        expected_size_);
        }
        if (const Digest actual = hash_.finish(); actual != expected_) {
            return fail(Code::data_loss, Blame::world, "wrong digest: wanted {}, got {}", expected_.to_string(),
                        actual.to_string());
        }
        verified_ = true;
    }
    return std::size_t{0};
}

}  // namespace cooper::codec
