// The files that a step read, as its content key saw them: packed for the database, and two lists compared.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::why {

enum class FileKind : std::uint8_t { file, directory, link, other };

struct FileEntry {
    std::string path;  // rooted
    FileKind kind = FileKind::file;
    std::uint32_t mode = 0;  // permission bits
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::uint64_t size = 0;
    std::array<std::uint8_t, 16> digest{};  // the first half of its record's
    friend bool operator==(const FileEntry&, const FileEntry&) = default;
};
// More are not remembered.
inline constexpr std::size_t kMaxFiles = 200'000;

// Compressed; sorted by path.
[[nodiscard]] std::string pack(std::vector<FileEntry> files);
// nullopt: damaged, or more than kMaxFiles.
[[nodiscard]] std::optional<std::vector<FileEntry>> unpack(std::string_view packed);

struct FileChange {
    std::string path;
    std::string change;  // content, mode, owner, link, type, added, removed
    std::string before;
    std::string after;
};
// Of sorted lists. Directories count only when nothing but them changed: what is in them says more.
[[nodiscard]] std::vector<FileChange> changes(const std::vector<FileEntry>& before,
                                              const std::vector<FileEntry>& after);

}  // namespace cooper::why
