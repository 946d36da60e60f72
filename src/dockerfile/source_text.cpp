#include "dockerfile/source_text.hpp"

#include "dockerfile/runes.hpp"

#include <algorithm>

namespace cooper::dockerfile {

namespace {

constexpr int kAround = 2;
constexpr int kMostMarked = 24;  // lines of one range
constexpr std::size_t kWidth = 200;

// Fit for a terminal.
std::string shown_line(std::string_view line) {
    while (line.ends_with('\r')) line.remove_suffix(1);
    std::u32string runes = to_runes(line.substr(0, kWidth * 4));
    if (runes.size() > kWidth) runes.resize(kWidth);
    for (char32_t& rune : runes) {
        if ((rune < 0x20 && rune != '\t') || (rune >= 0x7F && rune < 0xA0)) rune = ' ';
        if (rune >= 0xDC00 && rune <= 0xDFFF) rune = 0xFFFD;
    }
    return from_runes(runes);
}

enum class Place : std::uint8_t { away, near, marked };

Place place_of(int number, const std::vector<Lines>& ranges) {
    Place place = Place::away;
    for (const Lines& range : ranges) {
        const int last = std::min(std::max(range.last, range.first), range.first + kMostMarked);
        if (number >= range.first && number <= last) return Place::marked;
        if (number >= range.first - kAround && number <= last + kAround) place = Place::near;
    }
    return place;
}

}  // namespace

std::string excerpt(std::string_view file_name, std::string_view text, const Lines& lines) {
    return excerpt(file_name, text, std::vector<Lines>{lines});
}

std::string excerpt(std::string_view file_name, std::string_view text, const std::vector<Lines>& ranges) {
    static constexpr std::string_view kRule = "--------------------\n";
    if (ranges.empty()) return {};
    std::string out = fmt::format("{}:{}\n{}", file_name, ranges.front().first, kRule);
    const int end = std::ranges::max(ranges, {}, &Lines::last).last + kAround;
    int shown_before = 0;
    for (int number = 1; !text.empty() && number <= end; ++number) {
        const std::size_t size = std::min(text.find('\n'), text.size());
        const std::string_view line = text.substr(0, size);
        text.remove_prefix(std::min(size + 1, text.size()));
        const Place place = place_of(number, ranges);
        if (place == Place::away) continue;
        if (shown_before != 0 && number != shown_before + 1) out += " ...\n";
        out += fmt::format("{:4} | {} {}\n", number, place == Place::marked ? ">>>" : "   ", shown_line(line));
        shown_before = number;
    }
    return out.append(kRule);
}

Error located(Error error, std::string_view file_name, const Lines& lines) {
    if (error.find_detail<SourceRange>() != nullptr) return error;
    return error.with_detail(SourceRange{std::string(file_name), lines.first, lines.last, 0, 0});
}

Error with_excerpt(Error error, std::string_view file_name, std::string_view text, const Lines& lines) {
    Error placed = located(std::move(error), file_name, lines);
    if (placed.find_detail<Excerpt>() != nullptr) return placed;
    return placed.with_detail(Excerpt{excerpt(file_name, text, lines)});
}

}  // namespace cooper::dockerfile
