#include "buildctl/tab_writer.hpp"

#include "base/text.hpp"

#include <algorithm>
#include <cstddef>
#include <vector>

namespace cooper::buildctl {

namespace {

constexpr std::size_t kTab = 8;
constexpr std::size_t kPadding = 1;

using Line = std::vector<std::string>;

// Code points, as Go counts them.
std::size_t width(std::string_view text) {
    return static_cast<std::size_t>(std::count_if(
        text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

class Formatter {
public:
    explicit Formatter(const std::vector<Line>& lines) : lines_(lines) {}
    std::string run() {
        format(0, lines_.size());
        return std::move(out_);
    }

private:
    void format(std::size_t first, std::size_t end) {
        const std::size_t column = widths_.size();
        std::size_t at = first;
        for (std::size_t i = first; i < end; ++i) {
            if (column + 1 >= lines_[i].size()) continue;
            print(at, i);
            std::size_t stop = i;
            std::size_t widest = 0;
            for (; stop < end && column + 1 < lines_[stop].size(); ++stop) {
                widest = std::max(widest, width(lines_[stop][column]) + kPadding);
            }
            widths_.push_back(widest);
            format(i, stop);
            widths_.pop_back();
            at = stop;
            i = stop - 1;
        }
        print(at, end);
    }
    void print(std::size_t first, std::size_t end) {
        for (std::size_t i = first; i < end; ++i) {
            const Line& line = lines_[i];
            for (std::size_t j = 0; j < line.size(); ++j) {
                out_ += line[j];
                if (j >= widths_.size()) continue;
                const std::size_t cell = (widths_[j] + kTab - 1) / kTab * kTab;
                const std::size_t text = width(line[j]);
                if (cell > text) out_.append((cell - text + kTab - 1) / kTab, '\t');
            }
            if (i + 1 < lines_.size()) out_ += '\n';
        }
    }
    const std::vector<Line>& lines_;
    std::vector<std::size_t> widths_;
    std::string out_;
};

}  // namespace

std::string align_tabs(std::string_view text) {
    std::vector<Line> lines;
    for (const std::string& line : split(text, '\n')) lines.push_back(split(line, '\t'));
    return Formatter(lines).run();
}

}  // namespace cooper::buildctl
