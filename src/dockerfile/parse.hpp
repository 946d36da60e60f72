// The first door: Dockerfile text to nodes, one per instruction, with continuation lines joined, comments
// set aside and here-documents collected (dockerfile.md §1, §2, §7). Pure, any thread. Bounded: a line
// has at most 65535 bytes, a file at most kMaxFile.
// Errors: bad_input with the line, a SourceRange and an Excerpt.
#pragma once

#include "base/result.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::dockerfile {

inline constexpr std::size_t kMaxFile = 16U << 20U;
inline constexpr std::size_t kMaxLine = 65535;

// Lines of the file, 1-based, inclusive.
struct Lines {
    int first = 0;
    int last = 0;
    friend bool operator==(const Lines&, const Lines&) = default;
};

struct Heredoc {
    std::string name;  // the terminator, without quotes
    std::string data;
    bool expand = true;  // the name was not quoted
    bool chomp = false;  // <<-
    std::uint32_t fd = 0;
};

struct KeyValue {
    std::string key;
    std::string value;
    bool has_separator = true;  // false: "ENV key value"
};

// One instruction as written.
struct Node {
    std::string keyword;             // as written
    std::string command;             // lower case
    std::string original;            // the joined line
    std::string rest;                // what follows the flags, trimmed
    std::vector<std::string> flags;  // "--from=x"
    bool json = false;               // rest is a JSON array of strings, in words
    std::vector<std::string> words;  // split as this kind of instruction is split
    std::vector<KeyValue> pairs;     // ENV, LABEL
    std::vector<Heredoc> heredocs;
    std::vector<std::string> comments;  // directly above
    Lines lines;
};

struct ParseWarning {
    std::string rule;
    std::string text;
    std::string url;
    Lines lines;
};

struct ParsedFile {
    char escape = '\\';
    std::string syntax;  // value of "# syntax=", empty when there is none
    std::string check;   // value of "# check="
    std::vector<Node> nodes;
    std::vector<ParseWarning> warnings;
    std::string file_name;
};

[[nodiscard]] Result<ParsedFile> parse(std::string_view text, std::string_view file_name);

// Adds "where" to an error: a SourceRange, and when text is given the excerpt with the lines marked.
[[nodiscard]] Error located(Error error, std::string_view file_name, const Lines& lines);
[[nodiscard]] Error with_excerpt(Error error, std::string_view file_name, std::string_view text, const Lines& lines);
// The block BuildKit prints: some lines around, the ones in question marked with ">>>".
[[nodiscard]] std::string excerpt(std::string_view file_name, std::string_view text, const Lines& lines);

// "<<EOF", "3<<-'EOF'": the word of a here-document; nullopt when it is none.
[[nodiscard]] std::optional<Heredoc> parse_heredoc_word(std::string_view word, char escape);
// Whether a RUN's whole text is one here-document.
[[nodiscard]] bool is_whole_heredoc(std::string_view text);
// Leading tabs of each line removed.
[[nodiscard]] std::string chomp_heredoc(std::string_view data);

}  // namespace cooper::dockerfile
