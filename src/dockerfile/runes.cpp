#include "dockerfile/runes.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace cooper::dockerfile {

namespace {

constexpr char32_t kInvalid = 0xDC00;

bool is_invalid(char32_t rune) { return rune >= kInvalid && rune <= kInvalid + 0xFF; }
bool is_continuation(char c) { return (static_cast<unsigned char>(c) & 0xC0U) == 0x80U; }

// Blocks without letters, or with so few that nobody names a variable with them.
constexpr std::array<std::pair<char32_t, char32_t>, 9> kNoLetters = {{{0x0300, 0x036F},      // combining marks
                                                                      {0x2000, 0x206F},      // punctuation
                                                                      {0x20A0, 0x20FF},      // currency
                                                                      {0x2190, 0x2BFF},      // arrows … symbols
                                                                      {0x3000, 0x3004},      // CJK punctuation
                                                                      {0x3008, 0x3020},      // CJK brackets
                                                                      {0xD800, 0xF8FF},      // not text, private use
                                                                      {0xFE00, 0xFE6F},      // selectors, forms
                                                                      {0x1F000, 0x1FAFF}}};  // emoji

void append_rune(std::string& out, char32_t rune) {
    if (is_invalid(rune)) {
        out += static_cast<char>(rune - kInvalid);
    } else if (rune < 0x80) {
        out += static_cast<char>(rune);
    } else if (rune < 0x800) {
        out += static_cast<char>(0xC0U | (rune >> 6U));
        out += static_cast<char>(0x80U | (rune & 0x3FU));
    } else if (rune < 0x10000) {
        out += static_cast<char>(0xE0U | (rune >> 12U));
        out += static_cast<char>(0x80U | ((rune >> 6U) & 0x3FU));
        out += static_cast<char>(0x80U | (rune & 0x3FU));
    } else {
        out += static_cast<char>(0xF0U | (rune >> 18U));
        out += static_cast<char>(0x80U | ((rune >> 12U) & 0x3FU));
        out += static_cast<char>(0x80U | ((rune >> 6U) & 0x3FU));
        out += static_cast<char>(0x80U | (rune & 0x3FU));
    }
}

}  // namespace

Rune decode_rune(std::string_view text) {
    const auto first = static_cast<unsigned char>(text[0]);
    if (first < 0x80) return {first, 1};
    const std::size_t size = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    const Rune invalid{kInvalid + first, 1};
    if (first < 0xC2 || first > 0xF4 || text.size() < size) return invalid;
    char32_t value = first & (0xFFU >> (size + 1));
    for (std::size_t i = 1; i < size; ++i) {
        if (!is_continuation(text[i])) return invalid;
        value = (value << 6U) | (static_cast<unsigned char>(text[i]) & 0x3FU);
    }
    const bool too_long = (size == 3 && value < 0x800) || (size == 4 && value < 0x10000);
    if (too_long || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) return invalid;
    return {value, size};
}

bool is_space_rune(char32_t rune) {
    if (rune < 0x80) return rune == ' ' || (rune >= '\t' && rune <= '\r');
    return rune == 0x85 || rune == 0xA0 || rune == 0x1680 || (rune >= 0x2000 && rune <= 0x200A) || rune == 0x2028 ||
           rune == 0x2029 || rune == 0x202F || rune == 0x205F || rune == 0x3000;
}

bool is_letter_rune(char32_t rune) {
    if (rune < 0x80) return (rune >= 'a' && rune <= 'z') || (rune >= 'A' && rune <= 'Z');
    if (rune < 0x100)
        return rune == 0xAA || rune == 0xB5 || rune == 0xBA || (rune >= 0xC0 && rune != 0xD7 && rune != 0xF7);
    return std::ranges::none_of(kNoLetters,
                                [&](const auto& block) { return rune >= block.first && rune <= block.second; });
}

std::size_t leading_space(std::string_view text) {
    if (text.empty()) return 0;
    const Rune rune = decode_rune(text);
    return is_space_rune(rune.value) ? rune.size_bytes : 0;
}

std::string_view trim_space_left(std::string_view text) {
    while (const std::size_t size = leading_space(text)) text.remove_prefix(size);
    return text;
}

std::string_view trim_space(std::string_view text) {
    text = trim_space_left(text);
    while (!text.empty()) {
        std::size_t size = 1;
        while (size < std::min<std::size_t>(3, text.size()) && is_continuation(text[text.size() - size])) ++size;
        const std::string_view last = text.substr(text.size() - size);
        if (leading_space(last) != size) break;
        text.remove_suffix(size);
    }
    return text;
}

std::u32string to_runes(std::string_view text) {
    std::u32string runes;
    runes.reserve(text.size());
    while (!text.empty()) {
        const Rune rune = decode_rune(text);
        runes += rune.value;
        text.remove_prefix(rune.size_bytes);
    }
    return runes;
}

std::string from_runes(std::u32string_view runes) {
    std::string text;
    text.reserve(runes.size());
    for (const char32_t rune : runes) append_rune(text, rune);
    return text;
}

bool is_valid_utf8(std::string_view text) {
    while (!text.empty()) {
        const Rune rune = decode_rune(text);
        if (is_invalid(rune.value)) return false;
        text.remove_prefix(rune.size_bytes);
    }
    return true;
}

std::string replace_invalid_utf8(std::string_view text) {
    std::u32string runes = to_runes(text);
    for (char32_t& rune : runes) {
        if (is_invalid(rune)) rune = 0xFFFD;
    }
    return from_runes(runes);
}

}  // namespace cooper::dockerfile
