// Patterns and paths of any bytes: no crash, no hang, and the incremental form agrees with the direct one.
#include "codec/pattern_matcher.hpp"

#include "codec/path_match.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const std::size_t cut = text.find('\0');
    std::vector<std::string> patterns;
    for (auto& line : cooper::codec::read_ignore_lines(text.substr(0, cut)))
        patterns.push_back(std::move(line.pattern));
    const std::string path = cooper::codec::rooted_path(cut == std::string_view::npos ? "a/b" : text.substr(cut + 1));
    const std::string_view relative = std::string_view(path).substr(1);
    const auto matcher = cooper::codec::PatternMatcher::create(patterns);
    if (!matcher || relative.empty()) return 0;

    cooper::codec::PatternMatcher::ParentResults parent;
    cooper::codec::PatternMatcher::ParentResults mine;
    bool walked = false;
    for (std::size_t end = 0; end != std::string_view::npos;) {
        end = relative.find('/', end == 0 ? 0 : end + 1);
        walked = matcher->matches(relative.substr(0, end), parent, mine);
        parent = mine;
    }
    // With exceptions the two forms of moby/patternmatcher may differ by design; without, they are one.
    if (!matcher->has_exceptions() && walked != matcher->matches_or_parent_matches(relative)) std::abort();
    return 0;
}
