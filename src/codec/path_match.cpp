#include "codec/path_match.hpp"

#include "base/text.hpp"

#include <cstdint>

namespace cooper::codec {

namespace {

struct Rune {
    std::uint32_t value = 0;
    std::size_t width = 0;
};
constexpr std::uint32_t kBadRune = 0xFFFD;

// One code point as Go decodes it: anything malformed is one byte of U+FFFD.
Rune decode(std::string_view text) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned char first = byte(0);
    if (first < 0x80) return {first, 1};
    std::size_t width = 0;
    std::uint32_t value = 0;
    std::uint32_t least = 0;
    if (first >= 0xC2 && first <= 0xDF) {
        width = 2, value = first & 0x1FU, least = 0x80;
    } else if (first >= 0xE0 && first <= 0xEF) {
        width = 3, value = first & 0x0FU, least = 0x800;
    } else if (first >= 0xF0 && first <= 0xF4) {
        width = 4, value = first & 0x07U, least = 0x10000;
    } else {
        return {kBadRune, 1};
    }
    if (text.size() < width) return {kBadRune, 1};
    for (std::size_t i = 1; i < width; ++i) {
        if ((byte(i) & 0xC0U) != 0x80) return {kBadRune, 1};
        value = (value << 6U) | (byte(i) & 0x3FU);
    }
    if (value < least || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) return {kBadRune, 1};
    return {value, width};
}

enum class Verdict : std::uint8_t { no, yes, malformed };

// A chunk is what stands between two stars. Reading goes on after a mismatch, because a malformed pattern is an error
// whatever the name.
class ChunkMatcher {
public:
    ChunkMatcher(std::string_view chunk, std::string_view name) : chunk_(chunk), name_(name) {}

    Verdict run() {
        while (!chunk_.empty()) {
            if (name_.empty()) failed_ = true;
            switch (chunk_.front()) {
                case '[':
                    if (!match_class()) return Verdict::malformed;
                    break;
                case '?':
                    if (!failed_) {
                        if (name_.front() == '/') failed_ = true;
                        name_.remove_prefix(decode(name_).width);
                    }
                    chunk_.remove_prefix(1);
                    break;
                case '\\':
                    chunk_.remove_prefix(1);
                    if (chunk_.empty()) return Verdict::malformed;
                    match_byte();
                    break;
                default:
                    match_byte();
            }
        }
        return failed_ ? Verdict::no : Verdict::yes;
    }
    [[nodiscard]] std::string_view rest() const { return name_; }

private:
    void match_byte() {
        if (!failed_) {
            if (chunk_.front() != name_.front()) failed_ = true;
            name_.remove_prefix(1);
        }
        chunk_.remove_prefix(1);
    }

    bool match_class() {
        std::uint32_t subject = 0;
        if (!failed_) {
            const Rune rune = decode(name_);
            subject = rune.value;
            name_.remove_prefix(rune.width);
        }
        chunk_.remove_prefix(1);
        bool negated = false;
        if (!chunk_.empty() && chunk_.front() == '^') {
            negated = true;
            chunk_.remove_prefix(1);
        }
        bool inside = false;
        for (int ranges = 0;; ++ranges) {
            if (!chunk_.empty() && chunk_.front() == ']' && ranges > 0) {
                chunk_.remove_prefix(1);
                break;
            }
            std::uint32_t low = 0;
            if (!class_member(low)) return false;
            std::uint32_t high = low;
            if (chunk_.front() == '-') {
                chunk_.remove_prefix(1);
                if (!class_member(high)) return false;
            }
            if (low <= subject && subject <= high) inside = true;
        }
        if (inside == negated) failed_ = true;
        return true;
    }

    // A possibly escaped member; something must follow it.
    bool class_member(std::uint32_t& value) {
        if (chunk_.empty() || chunk_.front() == '-' || chunk_.front() == ']') return false;
        if (chunk_.front() == '\\') {
            chunk_.remove_prefix(1);
            if (chunk_.empty()) return false;
        }
        const Rune rune = decode(chunk_);
        if (rune.value == kBadRune && rune.width == 1) return false;
        value = rune.value;
        chunk_.remove_prefix(rune.width);
        return !chunk_.empty();
    }

    std::string_view chunk_;
    std::string_view name_;
    bool failed_ = false;
};

struct Chunk {
    bool star = false;
    std::string_view text;
};

// Takes leading stars and the text up to the next star outside of a class.
Chunk take_chunk(std::string_view& pattern) {
    Chunk chunk;
    while (!pattern.empty() && pattern.front() == '*') {
        pattern.remove_prefix(1);
        chunk.star = true;
    }
    bool in_class = false;
    std::size_t end = 0;
    for (; end < pattern.size(); ++end) {
        const char c = pattern[end];
        if (c == '\\') {
            if (end + 1 < pattern.size()) ++end;
        } else if (c == '[') {
            in_class = true;
        } else if (c == ']') {
            in_class = false;
        } else if (c == '*' && !in_class) {
            break;
        }
    }
    chunk.text = pattern.substr(0, end);
    pattern.remove_prefix(end);
    return chunk;
}

Error malformed(std::string_view pattern) {
    return bad_input("syntax error in pattern {}", quoted(pattern))
        .with_hint("close every [ and write \\ only before a sign");
}

// Tries the chunk at every place the star can reach.
Verdict match_after_star(std::string_view chunk, bool last, std::string_view& name) {
    for (std::size_t i = 0; i < name.size() && name[i] != '/'; ++i) {
        ChunkMatcher matcher(chunk, name.substr(i + 1));
        const Verdict verdict = matcher.run();
        if (verdict == Verdict::malformed) return verdict;
        if (verdict == Verdict::no || (last && !matcher.rest().empty())) continue;
        name = matcher.rest();
        return Verdict::yes;
    }
    return Verdict::no;
}

}  // namespace

Result<bool> path_match(std::string_view pattern, std::string_view name) {
    const std::string_view whole = pattern;
    while (!pattern.empty()) {
        const Chunk chunk = take_chunk(pattern);
        if (chunk.star && chunk.text.empty()) return name.find('/') == std::string_view::npos;
        ChunkMatcher matcher(chunk.text, name);
        Verdict verdict = matcher.run();
        if (verdict == Verdict::yes && (matcher.rest().empty() || !pattern.empty())) {
            name = matcher.rest();
            continue;
        }
        if (verdict == Verdict::malformed) return malformed(whole);
        verdict = chunk.star ? match_after_star(chunk.text, pattern.empty(), name) : Verdict::no;
        if (verdict == Verdict::malformed) return malformed(whole);
        if (verdict == Verdict::yes) continue;
        while (!pattern.empty()) {
            if (ChunkMatcher(take_chunk(pattern).text, "").run() == Verdict::malformed) return malformed(whole);
        }
        return false;
    }
    return name.empty();
}

std::string clean_path(std::string_view path) {
    if (path.empty()) return ".";
    const bool rooted = path.front() == '/';
    std::string out;
    out.reserve(path.size());
    if (rooted) out = "/";
    std::size_t floor = out.size();  // ".." cannot cut below this
    std::size_t start = 0;
    while (start <= path.size()) {
        std::size_t end = path.find('/', start);
        if (end == std::string_view::npos) end = path.size();
        const std::string_view part = path.substr(start, end - start);
        start = end + 1;
        if (part.empty() || part == ".") continue;
        if (part == "..") {
            if (out.size() > floor) {
                const std::size_t slash = out.rfind('/');
                out.resize(slash == std::string::npos || slash < floor ? floor : slash);
            } else if (!rooted) {
                if (!out.empty()) out += '/';
                out += "..";
                floor = out.size();
            }
            continue;
        }
        if (!out.empty() && out.back() != '/') out += '/';
        out += part;
    }
    if (out.empty()) return ".";
    return out;
}

std::string rooted_path(std::string_view path) { return clean_path("/" + std::string(path)); }

std::string join_path(std::string_view a, std::string_view b) {
    if (a.empty() && b.empty()) return {};
    if (a.empty()) return clean_path(b);
    std::string joined(a);
    if (!b.empty()) {
        joined += '/';
        joined += b;
    }
    return clean_path(joined);
}

std::string_view base_name(std::string_view path) {
    if (path.empty()) return ".";
    while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
    if (path == "/") return path;
    const std::size_t slash = path.rfind('/');
    return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

std::string_view dir_name(std::string_view clean) {
    const std::size_t slash = clean.rfind('/');
    if (slash == std::string_view::npos) return ".";
    return slash == 0 ? std::string_view("/") : clean.substr(0, slash);
}

bool has_wildcard(std::string_view name) {
    for (std::size_t i = 0; i < name.size(); ++i) {
        const char c = name[i];
        if (c == '\\') {
            ++i;
        } else if (c == '*' || c == '?' || c == '[') {
            return true;
        }
    }
    return false;
}

WildcardSplit split_wildcard(std::string_view path) {
    WildcardSplit split;
    const std::string clean = path.empty() ? std::string() : clean_path(path);
    std::size_t start = 0;
    while (start < clean.size()) {
        std::size_t end = clean.find('/', start);
        if (end == std::string::npos) end = clean.size();
        if (has_wildcard(std::string_view(clean).substr(start, end - start))) {
            split.pattern = clean.substr(start);
            break;
        }
        start = end + 1;
    }
    split.fixed = start >= clean.size() ? clean : clean.substr(0, start);
    while (split.fixed.size() > 1 && split.fixed.ends_with('/')) split.fixed.pop_back();
    return split;
}

}  // namespace cooper::codec
