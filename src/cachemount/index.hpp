// What is in a cache mount, as it travels: files by path, their content as lists of chunks, and the packs that the
// chunks are in.
//
//     head (a manifest with a name) → index parts, oldest first → packs → frames (zstd) → chunks
//
// A part says what has changed since the parts before it, so that a small change is a small upload; parts and packs are
// blobs and never change. docs/cache.md has the format.
//
// Plain data; any thread. Doors: parse_part, join_parts. What they let through is safe to write below a
// directory: paths are relative and clean, every parent is a directory, sizes agree and are bounded.
#pragma once

#include "base/digest.hpp"
#include "base/result.hpp"
#include "codec/wire.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace cooper::cachemount {

inline constexpr std::size_t kMaxPartBytes = std::size_t{256} << 20U;  // of all parts, unpacked
inline constexpr std::uint64_t kMaxPackBytes = std::uint64_t{64} << 20U;
inline constexpr std::size_t kMaxFrameBytes = std::size_t{1} << 20U;  // unpacked
inline constexpr std::size_t kMaxChunks = std::size_t{8} << 20U;      // named by all files, and in all packs
inline constexpr std::size_t kMaxEntries = std::size_t{2} << 20U;
inline constexpr std::uint64_t kMaxMountBytes = std::uint64_t{1} << 38U;

using ChunkId = std::array<std::uint8_t, 32>;  // sha256
[[nodiscard]] ChunkId chunk_id(std::string_view bytes);

struct Chunk {
    ChunkId id{};
    std::uint32_t size = 0;
    friend auto operator<=>(const Chunk&, const Chunk&) = default;
};

struct Frame {
    std::uint64_t offset = 0;  // in the pack
    std::uint32_t stored = 0;  // bytes there
    std::uint32_t size = 0;    // unpacked
    std::uint32_t first = 0;   // of the pack's chunks
    std::uint32_t chunks = 0;
};

struct Pack {
    Digest digest;
    std::uint64_t size = 0;
    std::vector<Frame> frames;
    std::vector<Chunk> chunks;
};

enum class EntryType : std::uint8_t { file = 1, directory = 2, symlink = 3, gone = 4 };

struct Entry {
    EntryType type = EntryType::file;
    std::uint32_t mode = 0;  // 07777
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::int64_t mtime_ns = 0;
    std::string link;   // of a symlink: its target
    std::string group;  // of a file with several names: the first of them
    std::map<std::string, std::string> xattrs;
    std::vector<Chunk> chunks;
    // When it became so: of two versions the later one stays.
    std::int64_t stamp_ns = 0;

    [[nodiscard]] std::uint64_t size() const;
    // All but the stamp.
    [[nodiscard]] bool same_as(const Entry& other) const;
};

// Fields 1 to 9 of an entry's message: all but its chunks and its stamp.
[[nodiscard]] codec::WireWriter begin_entry(const std::string& path, const Entry& entry);

struct ChunkHash {
    std::size_t operator()(const ChunkId& id) const noexcept;
};

// Where chunks are, over several packs.
class Packs {
public:
    struct Place {
        std::uint32_t pack = 0;
        std::uint32_t chunk = 0;
    };
    // The first pack that has a chunk is where it is.
    void add(Pack pack);
    [[nodiscard]] const Place* find(const ChunkId& id) const;
    [[nodiscard]] const Pack* find(const Digest& digest) const;
    [[nodiscard]] const Pack& at(std::uint32_t pack) const { return packs_[pack]; }
    [[nodiscard]] const std::vector<Pack>& all() const { return packs_; }

private:
    std::vector<Pack> packs_;
    std::map<Digest, std::uint32_t> by_digest_;
    std::unordered_map<ChunkId, Place, ChunkHash> places_;
};

using Entries = std::map<std::string, Entry>;  // by path; "" is the mount itself

// One part: new packs, and entries that are new, changed or gone.
struct Part {
    std::vector<Pack> packs;
    Entries entries;
};

// known: packs of the parts before it; gets those of this one. text is unpacked.
[[nodiscard]] Result<Part> parse_part(std::string_view text, Packs& known);
// Every chunk is in one of the packs.
[[nodiscard]] std::string marshal_part(const Part& part, const Packs& packs);

// What all parts together say. Entries whose parent is no directory are left out.
[[nodiscard]] Result<Entries> join_parts(const std::vector<Part>& parts);

// Relative, no empty part, no "." and "..", no NUL; at most 4096 bytes, 255 a part.
[[nodiscard]] Result<> check_path(std::string_view path);
[[nodiscard]] std::string_view parent_path(std::string_view path);

}  // namespace cooper::cachemount
