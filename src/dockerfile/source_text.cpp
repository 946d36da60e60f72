#include "dockerfile/source_text.hpp"

#include "dockerfile/runes.hpp"

#include <algorithm>

namespace cooper::dockerfile {

namespace {

constexpr int kAround = 2;
constexpr int kMostMarked = 24;  // lines of one range
constexpr std::size_t kWidth = 200;
constexpr std::size_t kWordWidth = 60;
constexpr std::size_t kMessageWidth = 400;

// Fit for a terminal.
std::u32string shown_runes(std::string_view line, std::size_t width) {
    while (line.ends_with('\r')) line.remove_suffix(1);
    std::u32string runes = to_runes(line.substr(0, width * 4));
    if (runes.size() > width) runes.resize(width);
    for (char32_t& rune : runes) {
        if ((rune < 0x20 && rune != '\t') || (rune >= 0x7F && rune < 0xA0)) rune = ' ';
        if (rune >= 0xDC00 && rune <= 0xDFFF) rune = 0xFFFD;
    }
    return runes;
}

std::string cut_to(std::string_view text, std::size_t width) {
    std::u32string runes = shown_runes(text, width + 1);
    if (runes.size() <= width) return from_runes(runes);
    runes.resize(width);
    return from_runes(runes) + "…";
}

enum class Place : std::uint8_t { away, near, marked };

Place place_of(int number, const std::vector<SourceRange>& ranges) {
    Place place = Place::away;
    for (const SourceRange& range : ranges) {
        const int last = std::min(std::max(range.last_line, range.first_line), range.first_line + kMostMarked);
        if (number >= range.first_line && number <= last) return Place::marked;
        if (number >= range.first_line - kAround && number <= last + kAround) place = Place::near;
    }
    return place;
}

// "^^^" below the columns of the ranges that stand on this line; empty when there are none.
std::string carets(int number, std::string_view line, const std::vector<SourceRange>& ranges) {
    std::string out;
    std::size_t at = 0;  // runes of `out`
    for (const SourceRange& range : ranges) {
        if (range.first_line != number || range.last_line != number || range.first_column < 1) continue;
        const auto column = [&](int bytes) {
            return to_runes(line.substr(0, static_cast<std::size_t>(std::max(bytes, 0)))).size();
        };
        const std::size_t first = column(range.first_column - 1);
        const std::size_t end = std::min(std::max(column(range.last_column), first + 1), kWidth);
        if (first < at) continue;
        const std::u32string before = shown_runes(line, kWidth);
        for (; at < first && at < before.size(); ++at) out += before[at] == '\t' ? '\t' : ' ';
        for (; at < end; ++at) out += '^';
    }
    return out.find('^') == std::string::npos ? std::string() : out;
}

}  // namespace

std::string excerpt(std::string_view file_name, std::string_view text, const std::vector<SourceRange>& ranges) {
    static constexpr std::string_view kRule = "--------------------\n";
    if (ranges.empty()) return {};
    const SourceRange& first = ranges.front();
    std::string out = fmt::format("{}:{}", file_name, first.first_line);
    if (first.first_column > 0) out += fmt::format(":{}", first.first_column);
    out.append("\n").append(kRule);
    const int end = std::ranges::max(ranges, {}, &SourceRange::last_line).last_line + kAround;
    int shown_before = 0;
    for (int number = 1; !text.empty() && number <= end; ++number) {
        const std::size_t size = std::min(text.find('\n'), text.size());
        const std::string_view line = text.substr(0, size);
        text.remove_prefix(std::min(size + 1, text.size()));
        const Place place = place_of(number, ranges);
        if (place == Place::away) continue;
        if (shown_before != 0 && number != shown_before + 1) out += " ...\n";
        out += fmt::format("{:4} | {} {}\n", number, place == Place::marked ? ">>>" : "   ",
                           from_runes(shown_runes(line, kWidth)));
        if (place == Place::marked) {
            if (const std::string marks = carets(number, line, ranges); !marks.empty()) {
                out += fmt::format("     |     {}\n", marks);
            }
        }
        shown_before = number;
    }
    return out.append(kRule);
}

std::string excerpt(std::string_view file_name, std::string_view text, const Lines& lines) {
    return excerpt(file_name, text, std::vector<SourceRange>{{"", lines.first, lines.last, 0, 0}});
}

std::string shown(std::string_view word) { return cut_to(word, kWordWidth); }

Error fit_to_show(Error error) {
    const std::string fit = cut_to(error.message(), kMessageWidth);
    if (fit == error.message()) return error;
    Error again(error.code(), error.blame(), cut_to(error.to_string(), kMessageWidth));
    for (const ErrorDetail& detail : error.details()) again = again.with_detail(detail);
    return error.hint().empty() ? again : again.with_hint(cut_to(error.hint(), kMessageWidth));
}

Error located(Error error, std::string_view file_name, const Lines& lines) {
    if (error.find_detail<SourceRange>() != nullptr) return error;
    return error.with_detail(SourceRange{std::string(file_name), lines.first, lines.last, 0, 0});
}

Error with_excerpt(Error error, std::string_view file_name, std::string_view text, const Lines& lines) {
    Error placed = located(std::move(error), file_name, lines);
    if (placed.find_detail<Excerpt>() != nullptr) return placed;
    return placed.with_detail(Excerpt{excerpt(file_name, text, {*placed.find_detail<SourceRange>()})});
}

}  // namespace cooper::dockerfile
