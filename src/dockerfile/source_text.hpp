// Where things stand in a Dockerfile, and how a mistake is shown: the lines around it, the lines in
// question marked, as BuildKit prints them. Pure, any thread.
#pragma once

#include "base/result.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::dockerfile {

// Lines of the file, 1-based, inclusive.
struct Lines {
    int first = 0;
    int last = 0;
    friend bool operator==(const Lines&, const Lines&) = default;
};

// A piece of an instruction's joined text: where it begins there, and where it stands in the file.
struct Piece {
    std::uint32_t offset = 0;
    int line = 0;
};

// Adds "where" to an error that does not know yet: a SourceRange, and when text is given the excerpt
// with the range marked. What it knows already stays.
[[nodiscard]] Error located(Error error, std::string_view file_name, const Lines& lines);
[[nodiscard]] Error with_excerpt(Error error, std::string_view file_name, std::string_view text, const Lines& lines);

// The block BuildKit prints: "Dockerfile:12", a rule, some lines around, those in question marked with
// ">>>", a rule; and when columns are known, "Dockerfile:12:5" and "^^^" below the word. Long lines are
// cut, control bytes blanked. With several ranges, "..." stands for the lines left out between them; the
// title names the first.
[[nodiscard]] std::string excerpt(std::string_view file_name, std::string_view text,
                                  const std::vector<SourceRange>& ranges);
[[nodiscard]] std::string excerpt(std::string_view file_name, std::string_view text, const Lines& lines);

// A word of the file for messages: cut when it is long, control bytes blanked.
[[nodiscard]] std::string shown(std::string_view word);
// The same for a whole message that may quote the file.
[[nodiscard]] Error fit_to_show(Error error);

}  // namespace cooper::dockerfile
