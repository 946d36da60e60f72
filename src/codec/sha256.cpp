#define OPENSSL_SUPPRESS_DEPRECATED
#include "codec/sha256.hpp"

#include <new>
#include <openssl/sha.h>

namespace cooper::codec {

namespace {
SHA256_CTX* context(unsigned char* state) { return std::launder(reinterpret_cast<SHA256_CTX*>(state)); }
}  // namespace

Sha256::Sha256() {
    static_assert(sizeof(SHA256_CTX) <= sizeof(state_) && alignof(SHA256_CTX) <= 8);
    SHA256_Init(new (state_) SHA256_CTX);
}

void Sha256::update(std::span<const std::byte> data) {
    if (!data.empty()) SHA256_Update(context(state_), data.data(), data.size());
}

Digest Sha256::finish() {
    std::array<std::uint8_t, 32> raw{};
    SHA256_Final(raw.data(), context(state_));
    SHA256_Init(context(state_));
    return Digest::sha256_from_raw(raw);
}

Digest sha256_of(std::span<const std::byte> data) {
    Sha256 hash;
    hash.update(data);
    return hash.finish();
}
Digest sha256_of(std::string_view text) { return sha256_of(as_bytes(text)); }

Digest hmac_sha256(std::string_view key, std::string_view text) {
    static constexpr std::size_t kBlock = 64;
    const auto raw_of = [](const Digest& digest) { return std::string(digest.raw().begin(), digest.raw().end()); };
    std::string block = key.size() > kBlock ? raw_of(sha256_of(key)) : std::string(key);
    block.resize(kBlock, '\0');
    const auto mixed = [&block](char with) {
        std::string out = block;
        for (char& c : out) c = static_cast<char>(c ^ with);
        return out;
    };
    Sha256 inner;
    inner.update(mixed(0x36));
    inner.update(text);
    Sha256 outer;
    outer.update(mixed(0x5c));
    outer.update(raw_of(inner.finish()));
    return outer.finish();
}

Result<> DigestingSink::write(std::span<const std::byte> data) {
    hash_.update(data);
    size_ += data.size();
    return next_.write(data);
}

Result<std::size_t> DigestingSource::read(std::span<std::byte> buffer) {
    const std::size_t got = TRY(inner_.read(buffer));
    hash_.update(buffer.first(got));
    size_ += got;
    return got;
}

Result<std::size_t> VerifyingSource::read(std::span<std::byte> buffer) {
    if (ended_ || buffer.empty()) return 0;
    const std::size_t got = TRY(inner_.read(buffer));
    if (got > 0) {
        hash_.update(buffer.first(got));
        size_ += got;
        if (size_ > expected_size_) {
            return fail(Code::data_loss, Blame::world, "content is longer than the expected {} bytes", expected_size_);
        }
        return got;
    }
    ended_ = true;
    if (expected_size_ != kAnySize && size_ != expected_size_) {
        return fail(Code::data_loss, Blame::world, "content has {} bytes, expected {}", size_, expected_size_);
    }
    if (expected_.empty()) return 0;
    if (expected_.algorithm() != Digest::Algorithm::sha256) {
        return fail(Code::unimplemented, Blame::user, "cannot verify {}: only sha256 is supported",
                    expected_.to_string());
    }
    const Digest digest = hash_.finish();
    if (digest != expected_) {
        return fail(Code::data_loss, Blame::world, "content has digest {}, expected {}", digest.to_string(),
                    expected_.to_string());
    }
    return 0;
}

}  // namespace cooper::codec
