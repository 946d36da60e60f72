// Symbolic modes as chmod(1) takes them, with umask 0.
#include "base/text.hpp"
#include "layer/copy.hpp"

namespace cooper::layer {

namespace {

constexpr std::uint32_t kUser = 04700;
constexpr std::uint32_t kGroup = 02070;
constexpr std::uint32_t kOther = 01007;

// Bits of one permission letter, before they are cut down to who; false = no such letter.
bool letter_bits(char letter, std::uint32_t mode, bool is_directory, std::uint32_t& bits) {
    switch (letter) {
        case 'r':
            bits |= 0444;
            return true;
        case 'w':
            bits |= 0222;
            return true;
        case 'x':
            bits |= 0111;
            return true;
        case 'X':
            if (is_directory || (mode & 0111U) != 0) bits |= 0111;
            return true;
        case 's':
            bits |= 06000;
            return true;
        case 't':
            bits |= 01000;
            return true;
        default:
            return false;
    }
}

// "u", "g" or "o" as the source of permissions: its three bits for everyone.
bool copied_bits(char letter, std::uint32_t mode, std::uint32_t& bits) {
    const int shift = letter == 'u' ? 6 : letter == 'g' ? 3 : letter == 'o' ? 0 : -1;
    if (shift < 0) return false;
    bits = ((mode >> static_cast<unsigned>(shift)) & 7U) * 0111U;
    return true;
}

bool apply_clause(std::string_view text, std::uint32_t original, bool is_directory, std::uint32_t& mode) {
    std::uint32_t who = 0;
    std::size_t at = 0;
    for (; at < text.size(); ++at) {
        if (text[at] == 'u') {
            who |= kUser;
        } else if (text[at] == 'g') {
            who |= kGroup;
        } else if (text[at] == 'o') {
            who |= kOther;
        } else if (text[at] == 'a') {
            who |= kUser | kGroup | kOther;
        } else {
            break;
        }
    }
    if (who == 0) who = kUser | kGroup | kOther;
    if (at == text.size()) return false;
    while (at < text.size()) {
        const char operation = text[at++];
        if (operation != '+' && operation != '-' && operation != '=') return false;
        std::uint32_t bits = 0;
        if (at < text.size() && copied_bits(text[at], mode, bits)) {
            ++at;
        } else {
            for (; at < text.size() && letter_bits(text[at], original, is_directory, bits); ++at) {
            }
        }
        bits &= who;
        if (operation == '+') mode |= bits;
        if (operation == '-') mode &= ~bits;
        if (operation == '=') mode = (mode & ~who) | bits;
    }
    return true;
}

}  // namespace

Result<std::uint32_t> apply_mode_text(std::string_view text, std::uint32_t mode, bool is_directory) {
    if (const auto octal = parse_octal(text)) {
        if (*octal > 07777) return bad_input("mode out of range: {}", quoted(text));
        return static_cast<std::uint32_t>(*octal);
    }
    const std::uint32_t original = mode;
    for (const auto& clause : split(text, ',')) {
        if (!apply_clause(clause, original, is_directory, mode)) return bad_input("invalid mode: {}", quoted(text));
    }
    return mode & 07777U;
}

}  // namespace cooper::layer
