#include "why/files.hpp"

#include "codec/compression.hpp"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>
#include <memory>

namespace cooper::why {

namespace {

constexpr std::string_view kMagic = "files1\n";
constexpr std::size_t kMaxBytes = 256U << 20U;

// Fixed part behind each path and its NUL.
struct Fixed {
    std::uint64_t size = 0;
    std::uint32_t mode = 0;
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::uint32_t kind = 0;
    std::array<std::uint8_t, 16> digest{};
};
static_assert(sizeof(Fixed) == 40);

std::string_view kind_name(FileKind kind) {
    switch (kind) {
        case FileKind::file:
            return "file";
        case FileKind::directory:
            return "directory";
        case FileKind::link:
            return "link";
        case FileKind::other:
            break;
    }
    return "device";
}

std::optional<FileChange> change_of(const FileEntry& before, const FileEntry& after) {
    if (before.digest == after.digest && before.kind == after.kind) return std::nullopt;
    FileChange change{.path = after.path};
    if (before.kind != after.kind) {
        change.change = "type";
        change.before = kind_name(before.kind);
        change.after = kind_name(after.kind);
    } else if (before.size == after.size && before.mode != after.mode) {
        change.change = "mode";
        change.before = fmt::format("{:04o}", before.mode);
        change.after = fmt::format("{:04o}", after.mode);
    } else if (before.size == after.size && (before.uid != after.uid || before.gid != after.gid)) {
        change.change = "owner";
        change.before = fmt::format("{}:{}", before.uid, before.gid);
        change.after = fmt::format("{}:{}", after.uid, after.gid);
    } else {
        change.change = after.kind == FileKind::link ? "link" : "content";
    }
    return change;
}

}  // namespace

std::string pack(std::vector<FileEntry> files) {
    std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
    std::string plain(kMagic);
    for (const auto& file : files) {
        plain += file.path;
        plain += '\0';
        const Fixed fixed{file.size, file.mode, file.uid, file.gid, static_cast<std::uint32_t>(file.kind), file.digest};
        plain.append(reinterpret_cast<const char*>(&fixed), sizeof fixed);
    }
    StringSink sink;
    auto compressor = codec::make_compressor(sink, codec::Compression::zstd, 1, 1);
    if (!compressor || !(*compressor)->write(as_bytes(plain)) || !(*compressor)->finish()) return plain;
    return std::move(sink.text);
}

std::optional<std::vector<FileEntry>> unpack(std::string_view packed) {
    auto decompressed = codec::decompress_any(std::make_unique<StringSource>(std::string(packed)));
    if (!decompressed) return std::nullopt;
    const auto plain = read_all(*decompressed->source, kMaxBytes);
    if (!plain || !plain->starts_with(kMagic)) return std::nullopt;
    std::vector<FileEntry> files;
    std::string_view rest = std::string_view(*plain).substr(kMagic.size());
    while (!rest.empty()) {
        const std::size_t end = rest.find('\0');
        if (end == std::string_view::npos || rest.size() < end + 1 + sizeof(Fixed) || files.size() == kMaxFiles) {
            return std::nullopt;
        }
        Fixed fixed;
        std::memcpy(&fixed, rest.data() + end + 1, sizeof fixed);
        if (fixed.kind > static_cast<std::uint32_t>(FileKind::other)) return std::nullopt;
        files.push_back({std::string(rest.substr(0, end)), static_cast<FileKind>(fixed.kind), fixed.mode, fixed.uid,
                         fixed.gid, fixed.size, fixed.digest});
        rest.remove_prefix(end + 1 + sizeof fixed);
    }
    return files;
}

std::vector<FileChange> changes(const std::vector<FileEntry>& before, const std::vector<FileEntry>& after) {
    std::vector<FileChange> of_files;
    std::vector<FileChange> of_directories;
    const auto add = [&](FileKind kind, FileChange change) {
        (kind == FileKind::directory ? of_directories : of_files).push_back(std::move(change));
    };
    auto old = before.begin();
    auto now = after.begin();
    while (old != before.end() || now != after.end()) {
        if (now == after.end() || (old != before.end() && old->path < now->path)) {
            add(old->kind, {old->path, "removed", "", ""});
            ++old;
        } else if (old == before.end() || now->path < old->path) {
            add(now->kind, {now->path, "added", "", ""});
            ++now;
        } else {
            if (auto change = change_of(*old, *now)) add(now->kind, std::move(*change));
            ++old;
            ++now;
        }
    }
    return of_files.empty() ? of_directories : of_files;
}

}  // namespace cooper::why
