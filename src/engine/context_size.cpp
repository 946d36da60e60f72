#include "engine/context_size.hpp"

#include "sys/rooted_dir.hpp"

#include <algorithm>
#include <array>
#include <dirent.h>
#include <fcntl.h>

namespace cooper::engine {

namespace {

// Written by tools, or secret: seldom meant for an image.
constexpr std::array<std::string_view, 12> kNotable = {".git",        ".hg",         ".svn", "node_modules",
                                                       ".venv",       "venv",        ".env", ".idea",
                                                       "__pycache__", ".mypy_cache", ".tox", ".terraform"};

}  // namespace

Result<frontend::ContextSize> measure_directory(const std::string& host_path, const Stop& stop) {
    frontend::ContextSize size;
    const auto root = TRY(sys::RootedDir::open_host(host_path));
    std::vector<std::string> open = {""};
    std::uint64_t seen = 0;
    while (!open.empty() && !size.more) {
        TRY(check_stop(stop));
        const std::string path = std::move(open.back());
        open.pop_back();
        const auto dir = root.open(path.empty() ? "/" : path, O_RDONLY | O_DIRECTORY, sys::Follow::no, 0);
        if (!dir) continue;
        const auto entries = sys::list_dir(dir->get());
        if (!entries) continue;
        for (const sys::DirEntry& entry : *entries) {
            if (++seen > kMaxCounted) {
                size.more = true;
                break;
            }
            if (path.empty() && std::ranges::find(kNotable, entry.name) != kNotable.end()) {
                size.notable.push_back(entry.name);
            }
            if (entry.type == DT_DIR) {
                open.push_back(path + "/" + entry.name);
                continue;
            }
            struct stat st{};
            if (::fstatat(dir->get(), entry.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) continue;
            ++size.files;
            size.bytes += static_cast<std::uint64_t>(st.st_size);
        }
    }
    std::ranges::sort(size.notable);
    return size;
}

}  // namespace cooper::engine
