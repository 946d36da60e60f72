// Go's path.Clean and path.Join, on which the identity of file operations rests.
#include "llb/state.hpp"

namespace cooper::llb {

std::string clean_path(std::string_view path) {
    if (path.empty()) return ".";
    const bool rooted = path.front() == '/';
    std::string out(rooted ? "/" : "");
    std::size_t keep = out.size();  // ".." may not eat what is before this
    std::size_t at = 0;
    while (at < path.size()) {
        std::size_t end = path.find('/', at);
        if (end == std::string_view::npos) end = path.size();
        const std::string_view part = path.substr(at, end - at);
        at = end + 1;
        if (part.empty() || part == ".") continue;
        if (part == "..") {
            if (out.size() > keep) {
                const std::size_t slash = out.rfind('/');
                out.resize(slash == std::string::npos || slash < keep ? keep : slash);
            } else if (!rooted) {
                if (!out.empty()) out += '/';
                out += "..";
                keep = out.size();
            }
            continue;
        }
        if (!out.empty() && out.back() != '/') out += '/';
        out += part;
    }
    return out.empty() ? "." : out;
}

std::string join_path(std::string_view a, std::string_view b) {
    if (a.empty() && b.empty()) return {};
    if (a.empty()) return clean_path(b);
    if (b.empty()) return clean_path(a);
    return clean_path(std::string(a) + '/' + std::string(b));
}

std::string normalize_path(std::string_view parent, std::string_view path, TrailingSlash slash) {
    std::string out = clean_path(path);
    if (out.front() != '/') out = join_path(join_path("/", parent), out);
    if (slash == TrailingSlash::drop) return out;
    if (path.ends_with('/')) {
        if (!out.ends_with('/')) out += '/';
    } else if (path.ends_with("/.")) {
        if (out != "/") out += '/';
        out += '.';
    }
    return out;
}

}  // namespace cooper::llb
