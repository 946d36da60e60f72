#include "dockerfile/wildcard.hpp"

#include "dockerfile/runes.hpp"

#include <algorithm>

namespace cooper::dockerfile {

WildcardText::WildcardText(std::u32string runes) : runes_(std::move(runes)), ends_(runes_.size() + 1) {
    std::size_t end = runes_.size();
    for (std::size_t at = runes_.size() + 1; at-- > 0;) {
        if (at < runes_.size() && runes_[at] == U'\n') end = at;
        ends_[at] = static_cast<std::uint32_t>(end);
    }
}

Result<Wildcard> Wildcard::parse(std::string_view pattern) {
    Wildcard wildcard;
    wildcard.parts_.emplace_back();
    const std::u32string runes = to_runes(pattern);
    for (std::size_t i = 0; i < runes.size(); ++i) {
        const char32_t rune = runes[i];
        if (rune == U'*') {
            wildcard.parts_.emplace_back();
        } else if (rune == U'?') {
            wildcard.parts_.back() += kAny;
        } else if (rune != U'\\') {
            wildcard.parts_.back() += rune;
        } else if (i + 1 < runes.size() && std::u32string_view(U"*?\\}/").find(runes[i + 1]) != std::u32string::npos) {
            wildcard.parts_.back() += runes[++i];
        } else {
            return bad_input("invalid pattern ({}) in substitution: invalid escape '\\{}'", pattern,
                             from_runes(std::u32string_view(runes).substr(i + 1, 1)));
        }
    }
    return wildcard;
}

bool Wildcard::part_at(const Part& part, const WildcardText& text, std::size_t at, std::int64_t& steps) {
    const std::u32string& runes = text.runes();
    if (part.size() > runes.size() - at) return false;
    for (std::size_t i = 0; i < part.size(); ++i) {
        --steps;
        if (part[i] == kAny ? runes[at + i] == U'\n' : part[i] != runes[at + i]) return false;
    }
    return true;
}

// Stars do not cross lines, so each part lies in one window; taking the earliest place for all parts but
// the last leaves the most room, and the last decides between shortest and longest.
Result<std::optional<std::size_t>> Wildcard::match_at(const WildcardText& text, std::size_t from, Reach reach,
                                                      std::int64_t& steps) const {
    std::optional<std::size_t> none;
    if (!part_at(parts_[0], text, from, steps)) return none;
    std::size_t end = from + parts_[0].size();
    for (std::size_t i = 1; i < parts_.size(); ++i) {
        const Part& part = parts_[i];
        const bool backwards = reach == Reach::longest && i + 1 == parts_.size();
        const std::size_t last = text.end_of_line(end);
        std::optional<std::size_t> found;
        for (std::size_t n = 0; n <= last - end && !found; ++n) {
            const std::size_t at = backwards ? last - n : end + n;
            if (--steps < 0) {
                return fail(Code::resource_exhausted, Blame::user,
                            "the substitution of a pattern takes too many steps");
            }
            if (part_at(part, text, at, steps)) found = at;
        }
        if (!found) return none;
        end = *found + part.size();
    }
    return std::optional(end);
}

Wildcard Wildcard::reversed() const {
    Wildcard turned;
    turned.parts_.assign(parts_.rbegin(), parts_.rend());
    for (Part& part : turned.parts_) std::ranges::reverse(part);
    return turned;
}

}  // namespace cooper::dockerfile
