// ShellLex: the word expansion of Dockerfiles: quotes, escapes, $x and ${x…} with
// the modifiers :- - :+ + :? ? # ## % %% / //, nested. Not a shell: no globbing, no commands.
// Errors: bad_input, "failed to process "…": …". Pure, any thread.
#pragma once

#include "base/result.hpp"
#include "llb/state.hpp"

#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::dockerfile {

inline constexpr std::size_t kMaxExpandedWords = 100'001;

struct LexOptions {
    bool raw_quotes = false;                // quotes stay in the result
    bool raw_escapes = false;               // escape characters stay in the result
    bool skip_quotes = false;               // quotes are ordinary characters
    bool keep_unset = false;                // what is not set stays as it is written
    std::string_view only_words_with = {};  // expand_words: no words but those that hold it
};

struct Expansion {
    std::string text;
    std::set<std::string> matched;
    std::set<std::string> unmatched;
};

class ShellLex {
public:
    explicit ShellLex(char escape) : escape_(escape) {}
    ShellLex(char escape, LexOptions options) : escape_(escape), options_(options) {}

    [[nodiscard]] Result<Expansion> expand(std::string_view word, const llb::EnvList& env) const;
    [[nodiscard]] Result<std::string> expand_word(std::string_view word, const llb::EnvList& env) const;
    // The text split at blanks that are not quoted; of more than kMaxExpandedWords the first.
    [[nodiscard]] Result<std::vector<std::string>> expand_words(std::string_view word, const llb::EnvList& env) const;
    [[nodiscard]] char escape() const { return escape_; }
    [[nodiscard]] ShellLex with(LexOptions options) const { return {escape_, options}; }

private:
    char escape_;
    LexOptions options_;
};

}  // namespace cooper::dockerfile
