#include "codec/base64.hpp"

#include <cstdint>

namespace cooper::codec {

namespace {
constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
}

std::string base64_encode(std::string_view bytes) {
    std::string text;
    text.reserve((bytes.size() + 2) / 3 * 4);
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
        std::uint32_t group = 0;
        const std::size_t n = std::min<std::size_t>(3, bytes.size() - i);
        for (std::size_t k = 0; k < 3; ++k) {
            group = group << 8U | (k < n ? static_cast<unsigned char>(bytes[i + k]) : 0U);
        }
        for (std::size_t k = 0; k < 4; ++k) text += k <= n ? kAlphabet[(group >> (18 - 6 * k)) & 63U] : '=';
    }
    return text;
}

Result<std::string> base64_decode(std::string_view text) {
    std::string bytes;
    std::uint32_t group = 0;
    std::size_t digits = 0;
    std::size_t padding = 0;
    for (const char c : text) {
        if (c == '\n' || c == '\r') continue;
        const std::size_t value = kAlphabet.find(c);
        if (c == '=' && digits >= 2) {
            ++padding;
        } else if (value == std::string_view::npos || padding > 0) {
            return bad_input("invalid base64");
        }
        group = group << 6U | (c == '=' ? 0U : static_cast<std::uint32_t>(value));
        if (++digits < 4) continue;
        for (std::size_t k = 0; k < 3 - padding; ++k) bytes += static_cast<char>(group >> (16 - 8 * k) & 255U);
        if (padding > 2) return bad_input("invalid base64");
        digits = 0;
        group = 0;
        if (padding > 0) padding = 3;  // only line breaks may follow
    }
    if (digits != 0) return bad_input("invalid base64: cut off");
    return bytes;
}

}  // namespace cooper::codec
