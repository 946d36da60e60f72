// How the rest of an instruction's line is taken apart, by kind of instruction.
#pragma once

#include "dockerfile/parse.hpp"

namespace cooper::dockerfile {

// Fills keyword, command, flags, json, words, pairs and trigger from `original`. Of more than `max` words
// one too many is given, here and below.
[[nodiscard]] Result<> split_instruction(Node& node, char escape, std::size_t max);
// Whether there is an instruction of that name, in lower case.
[[nodiscard]] bool is_instruction(std::string_view command);
// Words separated by blanks, where quotes and escapes keep a word together; quotes stay.
[[nodiscard]] std::vector<std::string> quoted_words(std::string_view text, char escape, std::size_t max);
// A JSON array of strings: nullopt when the text is none (then it is shell form); an array that holds
// something else is an error. What is no UTF-8 reads as U+FFFD, as in Go.
[[nodiscard]] Result<std::optional<std::vector<std::string>>> json_words(std::string_view text, std::size_t max);

}  // namespace cooper::dockerfile
