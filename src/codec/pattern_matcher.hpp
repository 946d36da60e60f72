// PatternMatcher: the semantics of github.com/moby/patternmatcher, which .dockerignore, COPY --exclude and
// include patterns share: Go match syntax per component, "**" for any number of components, "!" exceptions, the last
// match wins, and a match on a parent directory covers its children. Immutable after create; any thread.
#pragma once

#include "base/result.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::codec {

class PatternMatcher {
public:
    PatternMatcher();
    PatternMatcher(PatternMatcher&&) noexcept;
    PatternMatcher& operator=(PatternMatcher&&) noexcept;
    ~PatternMatcher();
    // Blank patterns are skipped. Bad syntax or a lone "!" is bad input. At most 10,000 patterns of 4 KiB.
    static Result<PatternMatcher> create(const std::vector<std::string>& patterns);

    // What is known of a directory, for its children: one flag per pattern. Empty = nothing known.
    struct ParentResults {
        std::vector<bool> matched;
    };

    // path is relative and slash-separated.
    [[nodiscard]] bool matches_or_parent_matches(std::string_view path) const;
    [[nodiscard]] bool matches_exact(std::string_view path) const;
    // The incremental form: parent as it came out for the parent directory (empty at the top); fills mine.
    [[nodiscard]] bool matches(std::string_view path, const ParentResults& parent, ParentResults& mine) const;

    // What a walk from the top finds out about path, with the reason: the last pattern that holds for it, and the
    // path's own beginning (or all of it) that this pattern matched first. No pattern: nothing holds.
    struct Reason {
        bool matched = false;
        std::optional<std::size_t> pattern;  // index in what create was given
        std::string at;
    };
    [[nodiscard]] Reason explain(std::string_view path) const;

    [[nodiscard]] bool empty() const;
    [[nodiscard]] bool has_exceptions() const;
    // Whether something below dir could match a non-"!" pattern / a "!" exception although dir itself did not.
    // False is certain; true may be a false alarm. These let a walk skip whole directories.
    [[nodiscard]] bool may_match_below(std::string_view dir) const;
    [[nodiscard]] bool may_except_below(std::string_view dir) const;

private:
    struct Pattern;
    std::vector<Pattern> patterns_;
    bool has_exceptions_ = false;
};

// The patterns of a .dockerignore file: UTF-8 byte order mark dropped, lines that begin with '#' and blank lines
// skipped, trimmed, cleaned, one leading '/' removed (after '!', too).
struct IgnoreLine {
    std::string pattern;
    std::size_t line = 0;  // from 1
    std::string text;      // as written, trimmed
};
[[nodiscard]] std::vector<IgnoreLine> read_ignore_lines(std::string_view text);
// The patterns alone. One that is malformed, or one too many, is bad input that names file and line. So is a text of
// more than kMaxIgnoreFileBytes: who reads the file reads one byte more.
inline constexpr std::size_t kMaxIgnoreFileBytes = 16U << 20U;
[[nodiscard]] Result<std::vector<std::string>> read_ignore_file(std::string_view text, std::string_view file);

}  // namespace cooper::codec
