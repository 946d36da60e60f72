// The canonical form of a Dockerfile, and its tree as JSON. The form builds the same image: instructions,
// flags, words, comments and here-documents stay, only how they are written changes: instruction words in
// upper case, one blank between words, continued lists indented by four, JSON with blanks after commas, no
// blanks at line ends, no double blank lines. Commands keep their lines as they are: their blanks count.
// An instruction whose canonical form would read differently stays as it was written.
//
// Pure, any thread. Errors: those of parse and parse_stages; a file with mistakes has no form.
#pragma once

#include "base/result.hpp"
#include "dockerfile/instructions.hpp"

#include <string>
#include <string_view>

namespace cooper::dockerfile {

// format(format(x)) is format(x).
[[nodiscard]] Result<std::string> format(std::string_view text, std::string_view file_name);

// Whether two instructions say the same, wherever they stand.
[[nodiscard]] bool same_meaning(const Node& a, const Node& b);

// See docs/commands.md for the members.
[[nodiscard]] Result<std::string> syntax_tree_json(std::string_view text, std::string_view file_name);

}  // namespace cooper::dockerfile
