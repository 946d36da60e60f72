// Wildcards of ${name#pattern} and its kin: '*' and '?' match within a line, a backslash makes '*', '?',
// '\', '}' and '/' ordinary; there are no brackets. Works on characters, not
// bytes. Pure, any thread. Bounded by a Budget, because text and pattern may be hostile.
#pragma once

#include "base/result.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::dockerfile {

// Text to search in, and where each of its lines ends.
class WildcardText {
public:
    explicit WildcardText(std::u32string runes);
    [[nodiscard]] const std::u32string& runes() const { return runes_; }
    // Of the line that holds position `at`: the position of its newline, or of the end.
    [[nodiscard]] std::size_t end_of_line(std::size_t at) const { return ends_[at]; }

private:
    std::u32string runes_;
    std::vector<std::uint32_t> ends_;
};

class Wildcard {
public:
    enum class Reach : std::uint8_t { shortest, longest };
    static Result<Wildcard> parse(std::string_view pattern);

    // Where the match that begins at `from` ends; nullopt when there is none. resource_exhausted when
    // `steps` (comparisons, counted down) are used up.
    [[nodiscard]] Result<std::optional<std::size_t>> match_at(const WildcardText& text, std::size_t from, Reach reach,
                                                              std::int64_t& steps) const;
    // Matches the text read backwards.
    [[nodiscard]] Wildcard reversed() const;

private:
    // What stands between the stars; kAny is '?'.
    using Part = std::u32string;
    static constexpr char32_t kAny = 0xFFFFFFFF;
    [[nodiscard]] static bool part_at(const Part& part, const WildcardText& text, std::size_t at, std::int64_t& steps);

    std::vector<Part> parts_;
};

}  // namespace cooper::dockerfile
