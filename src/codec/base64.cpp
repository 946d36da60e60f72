#include "codec/base64.hpp"

#include <array>
#include <cstdint>

namespace cooper::codec {

namespace {

constexpr std::string_view kStandard = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::string_view kUrl = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

enum class Padding : std::uint8_t { required, absent, optional };

std::string encode(std::string_view data, std::string_view alphabet, Padding padding) {
    std::string out;
    out.reserve((data.size() + 2) / 3 * 4);
    for (std::size_t i = 0; i < data.size(); i += 3) {
        const std::size_t have = std::min<std::size_t>(3, data.size() - i);
        std::uint32_t bits = 0;
        for (std::size_t k = 0; k < 3; ++k) {
            bits = bits << 8 | (k < have ? static_cast<std::uint8_t>(data[i + k]) : 0U);
        }
        for (std::size_t k = 0; k < 4; ++k) {
            if (k <= have) {
                out += alphabet[bits >> (18 - 6 * k) & 63];
            } else if (padding == Padding::required) {
                out += '=';
            }
        }
    }
    return out;
}

std::array<std::int8_t, 256> reverse(std::string_view alphabet) {
    std::array<std::int8_t, 256> table{};
    table.fill(-1);
    for (std::size_t i = 0; i < alphabet.size(); ++i) {
        table[static_cast<std::uint8_t>(alphabet[i])] = static_cast<std::int8_t>(i);
    }
    return table;
}

Result<std::string> decode(std::string_view text, const std::array<std::int8_t, 256>& table, Padding padding) {
    std::string out;
    out.reserve(text.size() / 4 * 3 + 3);
    std::uint32_t bits = 0;
    int digits = 0;
    int pads = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (c == '\n' || c == '\r') continue;
        if (c == '=' && padding != Padding::absent) {
            ++pads;
            continue;
        }
        const int value = table[static_cast<std::uint8_t>(c)];
        if (value < 0 || pads > 0) return bad_input("illegal base64 data at byte {}", i);
        bits = bits << 6 | static_cast<std::uint32_t>(value);
        if (++digits == 4) {
            for (int shift = 16; shift >= 0; shift -= 8) out += static_cast<char>(bits >> shift & 255);
            bits = 0;
            digits = 0;
        }
    }
    const int missing = digits == 0 ? 0 : 4 - digits;
    const bool padded = pads == missing || (padding == Padding::optional && pads == 0);
    if (digits == 1 || !padded) return bad_input("illegal base64 data at byte {}", text.size());
    if (digits == 2) out += static_cast<char>(bits >> 4 & 255);
    if (digits == 3) {
        out += static_cast<char>(bits >> 10 & 255);
        out += static_cast<char>(bits >> 2 & 255);
    }
    return out;
}

}  // namespace

std::string base64_encode(std::string_view text) { return encode(text, kStandard, Padding::required); }
std::string base64_encode(std::span<const std::byte> data) { return base64_encode(as_text(data)); }
std::string base64url_encode(std::string_view text) { return encode(text, kUrl, Padding::absent); }

Result<std::string> base64_decode(std::string_view text) {
    static const auto table = reverse(kStandard);
    return decode(text, table, Padding::required);
}
Result<std::string> base64url_decode(std::string_view text) {
    static const auto table = reverse(kUrl);
    return decode(text, table, Padding::optional);
}

}  // namespace cooper::codec
