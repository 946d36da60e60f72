// A directory as a build context: which files a build would send, and which line of an ignore file says so.
// Nothing of the state directory is read or written.
#pragma once

#include "base/result.hpp"
#include "base/stop.hpp"
#include "codec/pattern_matcher.hpp"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace cooper::engine {

struct IgnoreRules {
    std::string file;  // as the caller would name it; empty: there is none
    std::vector<codec::IgnoreLine> lines;
};

// <Dockerfile>.dockerignore, else .dockerignore of the context. dockerfile: a host path; empty means the context's.
[[nodiscard]] Result<IgnoreRules> find_ignore_rules(const std::string& context, const std::string& dockerfile);

enum class ContextFile : std::uint8_t { sent, ignored };

// The paths that are sent (each, sorted, parents first), or those left out (a directory for all of it).
// visit gets a path relative to the context; directories end in '/'. size: of files.
struct ListedFile {
    std::string path;
    std::uint64_t size = 0;
};
[[nodiscard]] Result<> list_context(const std::string& context, const IgnoreRules& rules, ContextFile which,
                                    const std::function<void(const ListedFile&)>& visit, const Stop& stop);

}  // namespace cooper::engine
