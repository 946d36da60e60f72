// How the rest of an instruction's line is taken apart, by kind of instruction (dockerfile.md §3, §4).
#pragma once

#include "dockerfile/parse.hpp"

namespace cooper::dockerfile {

// Fills keyword, command, flags, rest, json, words and pairs.
[[nodiscard]] Result<> split_instruction(Node& node, std::string_view line, char escape);
// The here-documents a line announces, in order, without their text.
[[nodiscard]] std::vector<Heredoc> heredocs_of_line(std::string_view line, char escape);
// Words separated by blanks, where quotes and escapes keep a word together; quotes stay.
[[nodiscard]] std::vector<std::string> quoted_words(std::string_view text, char escape);
// A JSON array of strings: nullopt when the text is none (then it is shell form); an array that holds
// something else is an error.
[[nodiscard]] Result<std::optional<std::vector<std::string>>> json_words(std::string_view text);

}  // namespace cooper::dockerfile
