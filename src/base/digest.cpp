#include "base/digest.hpp"

#include "base/text.hpp"

#include <cstring>

namespace cooper {

namespace {
std::size_t size_of(Digest::Algorithm algorithm) {
    switch (algorithm) {
        case Digest::Algorithm::none:
            return 0;
        case Digest::Algorithm::sha256:
            return 32;
        case Digest::Algorithm::sha384:
            return 48;
        case Digest::Algorithm::sha512:
            return 64;
    }
    return 0;
}
std::string_view name_of(Digest::Algorithm algorithm) {
    switch (algorithm) {
        case Digest::Algorithm::none:
            return "";
        case Digest::Algorithm::sha256:
            return "sha256";
        case Digest::Algorithm::sha384:
            return "sha384";
        case Digest::Algorithm::sha512:
            return "sha512";
    }
    return "";
}
}  // namespace

Digest Digest::from_raw(Algorithm algorithm, std::span<const std::byte> raw) {
    CHECK(raw.size() == size_of(algorithm));
    Digest digest;
    digest.algorithm_ = algorithm;
    std::memcpy(digest.bytes_.data(), raw.data(), raw.size());
    return digest;
}

Digest Digest::sha256_from_raw(std::span<const std::uint8_t, 32> raw) {
    return from_raw(Algorithm::sha256, std::as_bytes(raw));
}

Result<Digest> Digest::parse(std::string_view text) {
    for (const auto algorithm : {Algorithm::sha256, Algorithm::sha384, Algorithm::sha512}) {
        const std::string_view name = name_of(algorithm);
        if (!text.starts_with(name) || text.size() <= name.size() || text[name.size()] != ':') continue;
        const std::string_view hex_digits = text.substr(name.size() + 1);
        if (hex_digits.size() != 2 * size_of(algorithm)) break;
        Digest digest;
        digest.algorithm_ = algorithm;
        if (!from_hex(hex_digits, std::span(digest.bytes_).first(size_of(algorithm)))) break;
        return digest;
    }
    return bad_input("invalid digest: {}", quoted(text));
}

std::span<const std::uint8_t> Digest::raw() const { return std::span(bytes_).first(size_of(algorithm_)); }
std::string Digest::hex() const { return to_hex(raw()); }
std::string Digest::to_string() const {
    if (empty()) return {};
    return std::string(name_of(algorithm_)) + ":" + hex();
}

}  // namespace cooper

std::size_t std::hash<cooper::Digest>::operator()(const cooper::Digest& digest) const noexcept {
    std::size_t value = 0;
    const auto raw = digest.raw();
    if (raw.size() >= sizeof value) std::memcpy(&value, raw.data(), sizeof value);
    return value;
}
