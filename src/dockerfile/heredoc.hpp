// Here-documents: the words that announce them. Their text is collected by parse().
// The escape character of these words is always the backslash, whatever the file's directive says.
// Pure, any thread.
#pragma once

#include "base/result.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::dockerfile {

struct Heredoc {
    std::string name;    // the terminator, without quotes
    std::string data;    // as written, leading tabs and line ends included
    bool expand = true;  // the name was not quoted
    bool chomp = false;  // <<-
    std::uint32_t fd = 0;
};

// "<<EOF", "3<<-'EOF'": nullopt when the word is none. An unbalanced quote in the name is bad input.
[[nodiscard]] Result<std::optional<Heredoc>> read_heredoc_word(std::string_view word);
// As above, where a broken word is simply none.
[[nodiscard]] std::optional<Heredoc> parse_heredoc_word(std::string_view word);
// The here-documents a line announces, in order, without their text.
[[nodiscard]] Result<std::vector<Heredoc>> heredocs_of_line(std::string_view line);
// Whether a RUN's whole text is one here-document.
[[nodiscard]] bool is_whole_heredoc(std::string_view text);
// Leading tabs of each line removed.
[[nodiscard]] std::string chomp_heredoc(std::string_view data);

}  // namespace cooper::dockerfile
