// Digest: the identity of bytes, as OCI writes it ("sha256:<hex>"), held as raw bytes.
// A value: copyable, ordered, hashable, no allocation.
#pragma once

#include "base/result.hpp"

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace cooper {

class Digest {
public:
    enum class Algorithm : std::uint8_t { none, sha256, sha384, sha512 };

    // The empty digest: algorithm none, prints as "".
    Digest() = default;
    // Precondition: raw.size() fits the algorithm (CHECKed).
    static Digest from_raw(Algorithm algorithm, std::span<const std::byte> raw);
    static Digest sha256_from_raw(std::span<const std::uint8_t, 32> raw);
    // "sha256:" plus 64 lower-case hex digits (sha384, sha512 alike). Anything else is bad input.
    static Result<Digest> parse(std::string_view text);

    [[nodiscard]] Algorithm algorithm() const { return algorithm_; }
    [[nodiscard]] bool empty() const { return algorithm_ == Algorithm::none; }
    [[nodiscard]] std::span<const std::uint8_t> raw() const;
    [[nodiscard]] std::string hex() const;
    [[nodiscard]] std::string to_string() const;
    // First twelve hex digits, for people.
    [[nodiscard]] std::string short_hex() const { return hex().substr(0, 12); }

    friend auto operator<=>(const Digest&, const Digest&) = default;
    friend bool operator==(const Digest&, const Digest&) = default;

private:
    Algorithm algorithm_ = Algorithm::none;
    std::array<std::uint8_t, 64> bytes_{};
};

}  // namespace cooper

template <>
struct std::hash<cooper::Digest> {
    std::size_t operator()(const cooper::Digest& digest) const noexcept;
};
