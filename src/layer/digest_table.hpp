// DigestTable: what is known of a tree's content digests, as one flat file that is read with one read and rewritten
// whole, by rename. Per directory: its own record, its recursive digest when known, and its entries with their
// digests and the stat they had. A table belongs to a key (a chain's name, or a context's identity); with
// another key or any damage it loads as empty, never as wrong.
#pragma once

#include "base/result.hpp"
#include "snapshot/tree.hpp"

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::layer {

using RawDigest = std::array<std::uint8_t, 32>;

class DigestTable {
public:
    // On-disk layout; 88 bytes.
    struct Entry {
        std::uint64_t inode = 0;
        std::uint64_t device = 0;
        std::int64_t mtime_ns = 0;
        std::int64_t ctime_ns = 0;
        std::uint64_t size = 0;
        std::uint32_t mode = 0;  // permission bits, and the snapshot::Kind from bit 16 on
        std::uint32_t name_offset = 0;
        std::uint32_t name_length = 0;
        std::uint32_t flags = 0;
        RawDigest digest{};
    };
    static constexpr std::uint32_t kEntryKnown = 1;  // digest holds
    static constexpr std::uint32_t kEntryStat = 2;   // the stat fields hold
    // 56 bytes. The first entry of a directory stands for its own record ("."); the others are sorted by name.
    struct Dir {
        std::uint32_t path_offset = 0;
        std::uint32_t path_length = 0;
        std::uint32_t first = 0;
        std::uint32_t count = 0;
        RawDigest digest{};
        std::uint32_t flags = 0;
        std::uint32_t reserved = 0;
    };
    static constexpr std::uint32_t kDirDigestKnown = 1;  // the recursive digest holds (immutable trees only)
    static constexpr std::uint32_t kDirListed = 2;       // the entries are all there are

    std::vector<Dir> dirs;  // sorted by path
    std::vector<Entry> entries;
    std::string strings;
    // When the scan began. An entry whose times are not older than this (less the clock's granularity) may have
    // changed unseen, and is not believed.
    std::int64_t scanned_ns = 0;

    [[nodiscard]] bool empty() const { return dirs.empty(); }
    [[nodiscard]] const Dir* find_dir(std::string_view path) const;
    [[nodiscard]] std::span<const Entry> entries_of(const Dir& dir) const;
    [[nodiscard]] std::string_view name_of(const Entry& entry) const;
    [[nodiscard]] std::string_view path_of(const Dir& dir) const;

    // Missing, foreign or damaged files give an empty table.
    [[nodiscard]] static DigestTable load(const std::string& file, std::string_view key);
    [[nodiscard]] Result<> save(const std::string& file, std::string_view key) const;
};

}  // namespace cooper::layer
