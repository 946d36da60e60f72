#include "cli/line_diff.hpp"

#include <algorithm>
#include <cstddef>
#include <fmt/format.h>
#include <vector>

namespace cooper::cli {

namespace {

constexpr std::size_t kAround = 3;
// Lines that were changed, together; finding more of them takes their square.
constexpr std::ptrdiff_t kMostChanges = 2000;

using Lines = std::vector<std::string_view>;

// With their ends.
Lines lines_of(std::string_view text) {
    Lines lines;
    while (!text.empty()) {
        const std::size_t end = text.find('\n');
        const std::size_t size = end == std::string_view::npos ? text.size() : end + 1;
        lines.push_back(text.substr(0, size));
        text.remove_prefix(size);
    }
    return lines;
}

struct Edit {
    char kind = ' ';  // ' ', '-' or '+'
    std::string_view line;
};

std::vector<Edit> replaced(const Lines& before, const Lines& after) {
    std::vector<Edit> edits;
    for (const auto line : before) edits.push_back({'-', line});
    for (const auto line : after) edits.push_back({'+', line});
    return edits;
}

// Myers: the shortest way from one to the other, furthest points first.
std::vector<Edit> edits_of(const Lines& before, const Lines& after) {
    const auto n = static_cast<std::ptrdiff_t>(before.size());
    const auto m = static_cast<std::ptrdiff_t>(after.size());
    const std::ptrdiff_t most = std::min(n + m, kMostChanges);
    std::vector<std::ptrdiff_t> reach(static_cast<std::size_t>(2 * most + 3), 0);
    const auto at = [&](std::vector<std::ptrdiff_t>& v, std::ptrdiff_t k) -> std::ptrdiff_t& {
        return v[static_cast<std::size_t>(k + most + 1)];
    };
    std::vector<std::vector<std::ptrdiff_t>> trace;
    bool found = false;
    for (std::ptrdiff_t d = 0; d <= most && !found; ++d) {
        trace.emplace_back(reach.begin() + (most + 1 - d - 1), reach.begin() + (most + 1 + d + 2));
        for (std::ptrdiff_t k = -d; k <= d; k += 2) {
            const bool down = k == -d || (k != d && at(reach, k - 1) < at(reach, k + 1));
            std::ptrdiff_t x = down ? at(reach, k + 1) : at(reach, k - 1) + 1;
            while (x < n && x - k < m &&
                   before[static_cast<std::size_t>(x)] == after[static_cast<std::size_t>(x - k)]) {
                ++x;
            }
            at(reach, k) = x;
            if (x >= n && x - k >= m) found = true;
            if (found) break;
        }
    }
    if (!found) return replaced(before, after);
    std::vector<Edit> edits;
    std::ptrdiff_t x = n;
    std::ptrdiff_t y = m;
    for (std::ptrdiff_t d = static_cast<std::ptrdiff_t>(trace.size()) - 1; d >= 0; --d) {
        // What was reached with d - 1 changes; its middle is diagonal 0.
        const std::vector<std::ptrdiff_t>& v = trace[static_cast<std::size_t>(d)];
        const auto seen = [&](std::ptrdiff_t k) { return v[static_cast<std::size_t>(k + d + 1)]; };
        const std::ptrdiff_t k = x - y;
        const bool down = k == -d || (k != d && seen(k - 1) < seen(k + 1));
        const std::ptrdiff_t from_k = down ? k + 1 : k - 1;
        const std::ptrdiff_t from_x = d == 0 ? 0 : seen(from_k);
        const std::ptrdiff_t from_y = d == 0 ? 0 : from_x - from_k;
        const std::ptrdiff_t start_x = d == 0 ? 0 : down ? from_x : from_x + 1;
        while (x > start_x) edits.push_back({' ', before[static_cast<std::size_t>(--x)]}), --y;
        if (d == 0) break;
        if (down) {
            edits.push_back({'+', after[static_cast<std::size_t>(from_y)]});
        } else {
            edits.push_back({'-', before[static_cast<std::size_t>(from_x)]});
        }
        x = from_x;
        y = from_y;
    }
    std::ranges::reverse(edits);
    return edits;
}

void append_line(std::string& out, const Edit& edit) {
    out += edit.kind;
    out += edit.line;
    if (!edit.line.ends_with('\n')) out += "\n\\ No newline at end of file\n";
}

}  // namespace

std::string unified_diff(std::string_view before, std::string_view after, std::string_view name_before,
                         std::string_view name_after) {
    if (before == after) return {};
    const std::vector<Edit> edits = edits_of(lines_of(before), lines_of(after));
    std::string out = fmt::format("--- {}\n+++ {}\n", name_before, name_after);
    std::size_t old_line = 1;
    std::size_t new_line = 1;
    for (std::size_t i = 0; i < edits.size();) {
        // A hunk: changes with less than twice the lines around between them.
        std::size_t first = i;
        while (first < edits.size() && edits[first].kind == ' ') ++first;
        if (first == edits.size()) break;
        const std::size_t begin = std::max(i, first - std::min(first, kAround));
        std::size_t last = first;  // behind the last change
        for (std::size_t at = first; at < edits.size() && at <= last + 2 * kAround; ++at) {
            if (edits[at].kind != ' ') last = at + 1;
        }
        const std::size_t end = std::min(last + kAround, edits.size());
        old_line += begin - i;
        new_line += begin - i;
        std::string body;
        std::size_t old_count = 0;
        std::size_t new_count = 0;
        for (std::size_t at = begin; at < end; ++at) {
            append_line(body, edits[at]);
            if (edits[at].kind != '+') ++old_count;
            if (edits[at].kind != '-') ++new_count;
        }
        out += fmt::format("@@ -{},{} +{},{} @@\n", old_line - (old_count == 0 ? 1 : 0), old_count,
                           new_line - (new_count == 0 ? 1 : 0), new_count);
        out += body;
        old_line += old_count;
        new_line += new_count;
        i = end;
    }
    return out;
}

}  // namespace cooper::cli
