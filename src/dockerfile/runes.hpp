// Characters as Go's unicode package sorts them, for the places where BuildKit's parser asks it: white
// space between words, letters in names of variables. Bytes that are no UTF-8 are characters of their
// own and come out again as they went in. Pure, any thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace cooper::dockerfile {

struct Rune {
    char32_t value = 0;
    std::size_t size_bytes = 0;
};
// The first character of text, which must not be empty. A byte that is no UTF-8 is 0xDC00 + byte.
[[nodiscard]] Rune decode_rune(std::string_view text);
[[nodiscard]] bool is_space_rune(char32_t rune);
// Exact for ASCII and Latin-1; beyond, all but punctuation, symbols, emoji and marks count as letters.
[[nodiscard]] bool is_letter_rune(char32_t rune);

// Bytes of the white space character that text begins with; 0 when it begins with none.
[[nodiscard]] std::size_t leading_space(std::string_view text);
[[nodiscard]] std::string_view trim_space_left(std::string_view text);
[[nodiscard]] std::string_view trim_space(std::string_view text);

[[nodiscard]] std::u32string to_runes(std::string_view text);
[[nodiscard]] std::string from_runes(std::u32string_view runes);
[[nodiscard]] bool is_valid_utf8(std::string_view text);
// Every byte that is no UTF-8 replaced by U+FFFD, as Go's JSON decoder does.
[[nodiscard]] std::string replace_invalid_utf8(std::string_view text);

}  // namespace cooper::dockerfile
