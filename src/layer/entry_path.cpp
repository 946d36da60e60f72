#include "layer/detail/entry_path.hpp"

#include "base/text.hpp"

namespace cooper::layer::detail {

Result<std::string> clean_entry_path(std::string_view name, std::size_t max_bytes) {
    if (name.size() > max_bytes) return bad_input("name of {} bytes is too long", name.size());
    if (name.find('\0') != std::string_view::npos) return bad_input("name contains a NUL byte");
    std::string out;
    out.reserve(name.size());
    for (std::size_t at = 0; at < name.size();) {
        const std::size_t end = std::min(name.find('/', at), name.size());
        const std::string_view part = name.substr(at, end - at);
        at = end + 1;
        if (part.empty() || part == ".") continue;
        if (part == "..") {
            if (out.empty()) return bad_input("{} leads out of the archive", quoted(name));
            const std::size_t slash = out.rfind('/');
            out.resize(slash == std::string::npos ? 0 : slash);
            continue;
        }
        if (part.size() > 255) return bad_input("a component of the name has {} bytes, more than 255", part.size());
        if (!out.empty()) out += '/';
        out += part;
    }
    return out;
}

ParentAndName split_entry_path(std::string_view path) {
    const std::size_t slash = path.rfind('/');
    if (slash == std::string_view::npos) return {.parent = {}, .name = path};
    return {.parent = path.substr(0, slash), .name = path.substr(slash + 1)};
}

}  // namespace cooper::layer::detail
