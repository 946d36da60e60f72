// The first door: Dockerfile text to nodes, one per instruction, with continuation lines joined, comments
// set aside and here-documents collected. Pure, any thread. Bounded: a line
// has at most 65535 bytes, a file at most kMaxFile and kMaxInstructions.
// Errors: bad_input with the line, a SourceRange and an Excerpt. A mistake inside one instruction is kept
// in its node, so that several can be told at once (see parse_stages).
#pragma once

#include "base/result.hpp"
#include "dockerfile/heredoc.hpp"
#include "dockerfile/source_text.hpp"

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::dockerfile {

inline constexpr std::size_t kMaxFile = 16U << 20U;
inline constexpr std::size_t kMaxLine = 65535;
// Instructions take far more memory than the few bytes they can be written with.
inline constexpr std::size_t kMaxInstructions = 50'000;
// Flags, words and pairs of all instructions: each may be two bytes of the file.
inline constexpr std::size_t kMaxWords = 100'000;
// Mistakes that are told. A file is not read behind so many instructions that are none or do not hold together.
inline constexpr std::size_t kMaxErrors = 20;
// Of the comments above one instruction the last ones are kept.
inline constexpr std::size_t kMaxComments = 1000;

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
    std::vector<std::string> flags;  // "--from=x"
    bool json = false;               // what follows the flags is a JSON array of strings, in words
    std::vector<std::string> words;  // else what follows them, split as this kind of instruction is split
    std::vector<KeyValue> pairs;     // ENV, LABEL
    std::string trigger;             // ONBUILD: command of what it holds, lower case
    bool trigger_json = false;
    std::vector<Heredoc> heredocs;
    std::vector<std::string> comments;  // directly above, without "#"; directives of the file are none
    std::vector<Piece> pieces;          // where the parts of `original` stand; empty: all on the first line
    std::uint32_t indent = 0;           // bytes before the first of them; the others begin their lines
    Lines lines;
    int text_end = 0;  // the last line before its here-documents
    std::shared_ptr<const std::string> file_name;
    std::optional<Error> mistake;
};

struct ParseWarning {
    std::string rule;
    std::string text;
    std::string url;
    Lines lines;
};

struct ParsedFile {
    char escape = '\\';
    std::string syntax;      // value of "# syntax=", empty when there is none
    std::string check;       // value of "# check="
    std::deque<Node> nodes;  // may be many: they do not move while there are more and more of them
    std::vector<ParseWarning> warnings;
    std::string file_name;
    std::string text;
};

// Larger files are refused with the line that is too far.
[[nodiscard]] Result<ParsedFile> parse(std::string_view text, std::string_view file_name);

// Takes a continuation mark off the end of a line without line end; false when there was none.
[[nodiscard]] bool take_continuation(std::string_view& line, char escape);

// Where `size` bytes at `offset` of the node's original stand in the file.
[[nodiscard]] SourceRange range_in_file(const Node& node, std::size_t offset, std::size_t size);

}  // namespace cooper::dockerfile
