// How the rest of an instruction's line is taken apart, by kind of instruction (dockerfile.md §3, §4).
#pragma once

#include "dockerfile/parse.hpp"

namespace cooper::dockerfile {

// Fills keyword, command, flags, rest, json, words, pairs and trigger from `original`.
[[nodiscard]] Result<> split_instruction(Node& node, char escape);
// Words separated by blanks, where quotes and escapes keep a word together; quotes stay.
[[nodiscard]] std::vector<std::string> quoted_words(std::string_view text, char escape);
// A JSON array of strings: nullopt when the text is none (then it is shell form); an array that holds
// something else is an error. What is no UTF-8 reads as U+FFFD, as in Go.
[[nodiscard]] Result<std::optional<std::vector<std::string>>> json_words(std::string_view text);

}  // namespace cooper::dockerfile
