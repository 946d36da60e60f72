#include "buildctl/log_tails.hpp"

#include "base/text.hpp"

#include <algorithm>

namespace cooper::buildctl {

namespace {

constexpr std::size_t kLines = 20;
constexpr std::size_t kKeptBytes = 16UL << 10U;

std::string last_lines(const std::string& text) {
    const auto lines = split(trim(text), '\n');
    std::string out;
    for (std::size_t i = lines.size() - std::min(lines.size(), kLines); i < lines.size(); ++i) out += lines[i] + "\n";
    return out;
}

}  // namespace

void LogTails::emit(ProgressEvent event) {
    {
        auto steps = steps_.lock();
        if (const auto* vertex = std::get_if<VertexEvent>(&event)) {
            (*steps)[vertex->digest.to_string()].name = vertex->name;
        } else if (const auto* log = std::get_if<LogEvent>(&event)) {
            std::string& tail = (*steps)[log->vertex.to_string()].tail;
            tail += log->data;
            if (tail.size() > 2 * kKeptBytes) tail.erase(0, tail.size() - kKeptBytes);
        }
    }
    next_.emit(std::move(event));
}

Error LogTails::add_to(Error error) {
    const auto* failed = error.find_detail<FailedVertex>();
    if (failed == nullptr || error.find_detail<LogTail>() != nullptr) return error;
    auto steps = steps_.lock();
    const auto found = steps->find(failed->digest);
    if (found == steps->end() || found->second.tail.empty()) return error;
    return error.with_detail(LogTail{found->second.name, last_lines(found->second.tail)});
}

}  // namespace cooper::buildctl
