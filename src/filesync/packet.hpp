// The messages of fsutil's transfer protocol: what FileSync/DiffCopy and, for directories, FileSend/DiffCopy carry.
// Packet{type 1, stat 2, ID 3, data 4}; Stat{path 1, mode 2, uid 3, gid 4, size 5, modTime 6, linkname 7, devmajor 8,
// devminor 9, xattrs 10}. Modes are the bits of Go's os.FileMode, not those of POSIX. Pure; any thread.
#pragma once

#include "base/result.hpp"
#include "snapshot/tree.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace cooper::filesync {

enum class PacketType : std::uint8_t { stat = 0, request = 1, data = 2, fin = 3, error = 4 };

// One entry of a tree.
struct Stat {
    std::string path;        // relative, slash-separated, clean
    std::uint32_t mode = 0;  // os.FileMode
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::int64_t size = 0;
    std::int64_t mtime_ns = 0;
    std::string linkname;  // target of a symbolic link; of a regular file: the earlier name it is a hard link of
    std::int64_t devmajor = 0;
    std::int64_t devminor = 0;
    snapshot::Xattrs xattrs;
};

// os.FileMode: nine permission bits and these. A regular file has none of the type bits.
namespace go_mode {
constexpr std::uint32_t directory = 1U << 31U;
constexpr std::uint32_t symlink = 1U << 27U;
constexpr std::uint32_t device = 1U << 26U;
constexpr std::uint32_t fifo = 1U << 25U;
constexpr std::uint32_t socket = 1U << 24U;
constexpr std::uint32_t setuid = 1U << 23U;
constexpr std::uint32_t setgid = 1U << 22U;
constexpr std::uint32_t char_device = 1U << 21U;  // with device
constexpr std::uint32_t sticky = 1U << 20U;
}  // namespace go_mode

[[nodiscard]] std::uint32_t to_go_mode(snapshot::Kind kind, std::uint32_t permissions);
// The kind; bad input for a mode that is none (two types, append-only, temporary, irregular).
[[nodiscard]] Result<snapshot::Kind> kind_of_mode(std::uint32_t mode);
// 07777.
[[nodiscard]] std::uint32_t permissions_of_mode(std::uint32_t mode);

struct Packet {
    PacketType type = PacketType::stat;
    std::optional<Stat> stat;  // of type stat: nothing = no more entries
    std::uint32_t id = 0;
    std::string_view data;  // into the message that was parsed
};
// Unknown fields are skipped; an unknown type is bad input.
[[nodiscard]] Result<Packet> parse_packet(std::string_view message);
// The message Stat alone, as lists of metadata keep it.
[[nodiscard]] Result<Stat> parse_stat(std::string_view message);
[[nodiscard]] std::string stat_bytes(const Stat& stat);

[[nodiscard]] std::string stat_packet(const Stat& stat);
[[nodiscard]] std::string end_of_stats_packet();
[[nodiscard]] std::string request_packet(std::uint32_t id);
[[nodiscard]] std::string data_packet(std::uint32_t id, std::string_view data);  // empty data: the file ends
[[nodiscard]] std::string fin_packet();
[[nodiscard]] std::string error_packet(std::string_view text);

}  // namespace cooper::filesync
