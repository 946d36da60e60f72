#include "inside/shown.hpp"

#include <fmt/format.h>

namespace cooper::inside {

namespace {

// Bytes of the UTF-8 sequence at the start of text; 0 when there is none that may be shown.
std::size_t sequence(std::string_view text) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned char first = byte(0);
    if (first < 0x80) return first >= 0x20 && first != 0x7F ? 1 : 0;
    const std::size_t length = first >= 0xC2 && first <= 0xDF   ? 2
                               : (first & 0xF0U) == 0xE0        ? 3
                               : first >= 0xF0 && first <= 0xF4 ? 4
                                                                : 0;
    if (length == 0 || text.size() < length) return 0;
    std::uint32_t point = first & (0xFFU >> (length + 1));
    for (std::size_t i = 1; i < length; ++i) {
        if ((byte(i) & 0xC0U) != 0x80) return 0;
        point = point << 6U | (byte(i) & 0x3FU);
    }
    // Overlong, surrogates, beyond the end; controls that move the cursor or turn the direction of text.
    if ((length == 3 && point < 0x800) || (length == 4 && point < 0x10000) || point > 0x10FFFF) return 0;
    if ((point >= 0xD800 && point <= 0xDFFF) || (point >= 0x80 && point < 0xA0)) return 0;
    if ((point >= 0x202A && point <= 0x202E) || (point >= 0x2066 && point <= 0x2069)) return 0;
    return length;
}

}  // namespace

std::string shown(std::string_view text, std::size_t limit) {
    std::string out;
    while (!text.empty()) {
        const std::size_t length = sequence(text);
        if (out.size() + std::max<std::size_t>(length, 4) > limit && text.size() > length) return out + "…";
        if (length == 0) {
            out += fmt::format("\\x{:02x}", static_cast<unsigned char>(text.front()));
            text.remove_prefix(1);
            continue;
        }
        out += text.substr(0, length);
        text.remove_prefix(length);
    }
    return out;
}

std::string mode_shown(std::uint32_t mode) { return fmt::format("{:04o}", mode); }

std::string counted(std::uint64_t count, std::string_view one, std::string_view many) {
    return fmt::format("{} {}", count, count == 1 ? one : many);
}

}  // namespace cooper::inside
