#include "layer/copy.hpp"

namespace cooper::layer {

void CopyManifest::add(const std::string& dir, std::vector<File> files) {
    auto dirs = dirs_.lock();
    auto& known = (*dirs)[dir];
    for (auto& file : files) {
        std::string name = file.name;
        known.insert_or_assign(std::move(name), std::move(file));
    }
}

void CopyManifest::forget(const std::string& dir, const std::string& name) {
    auto dirs = dirs_.lock();
    if (const auto known = dirs->find(dir); known != dirs->end()) known->second.erase(name);
}

DigestTable CopyManifest::table() {
    auto dirs = dirs_.lock();
    DigestTable table;
    const auto add_string = [&](const std::string& text) {
        const auto at = static_cast<std::uint32_t>(table.strings.size());
        table.strings += text;
        return at;
    };
    for (const auto& [path, files] : *dirs) {
        DigestTable::Dir dir;
        dir.path_offset = add_string(path);
        dir.path_length = static_cast<std::uint32_t>(path.size());
        dir.first = static_cast<std::uint32_t>(table.entries.size());
        dir.count = static_cast<std::uint32_t>(files.size()) + 1;
        table.dirs.push_back(dir);
        table.entries.emplace_back();  // the directory's own record is not of interest
        for (const auto& [name, file] : files) {
            DigestTable::Entry entry{.inode = file.only_name ? 1U : 2U,
                                     .device = std::uint64_t{file.uid} << 32U | file.gid,
                                     .mtime_ns = file.mtime_ns,
                                     .size = file.size,
                                     .mode = file.mode};
            entry.name_offset = add_string(name);
            entry.name_length = static_cast<std::uint32_t>(name.size());
            entry.flags = DigestTable::kEntryKnown;
            entry.digest = file.digest;
            table.entries.push_back(entry);
        }
    }
    return table;
}

}  // namespace cooper::layer
