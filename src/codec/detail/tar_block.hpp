// The 512-byte header block of tar: field positions shared by reader and writer (POSIX.1-2001 pax, GNU tar manual).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace cooper::codec::tar {

inline constexpr std::size_t kBlock = 512;
inline constexpr std::size_t kMaxMeta = 1 << 20;

struct Field {
    std::size_t at;
    std::size_t size;
};
inline constexpr Field kName{0, 100};
inline constexpr Field kMode{100, 8};
inline constexpr Field kUid{108, 8};
inline constexpr Field kGid{116, 8};
inline constexpr Field kSize{124, 12};
inline constexpr Field kMtime{136, 12};
inline constexpr Field kChecksum{148, 8};
inline constexpr std::size_t kTypeAt = 156;
inline constexpr Field kLinkname{157, 100};
inline constexpr Field kMagic{257, 8};
inline constexpr Field kUname{265, 32};
inline constexpr Field kGname{297, 32};
inline constexpr Field kDevmajor{329, 8};
inline constexpr Field kDevminor{337, 8};
inline constexpr Field kPrefix{345, 155};
inline constexpr Field kStarPrefix{345, 131};
inline constexpr Field kStarTrailer{508, 4};
// GNU's old sparse format.
inline constexpr std::size_t kSparseAt = 386;
inline constexpr std::size_t kSparseEntries = 4;
inline constexpr std::size_t kSparseExtendedAt = 482;
inline constexpr Field kRealSize{483, 12};
inline constexpr std::size_t kExtensionEntries = 21;
inline constexpr std::size_t kExtensionMoreAt = 504;

[[nodiscard]] inline std::string_view field_of(std::span<const std::byte> block, Field field) {
    return {reinterpret_cast<const char*>(block.data()) + field.at, field.size};
}
// Up to the first NUL.
[[nodiscard]] std::string_view text_of(std::span<const std::byte> block, Field field);
// Octal (blanks and NULs around it) or base-256; nullopt when malformed or too big.
[[nodiscard]] std::optional<std::int64_t> number_of(std::string_view field);

[[nodiscard]] inline std::size_t padding_of(std::uint64_t size) {
    return static_cast<std::size_t>((kBlock - size % kBlock) % kBlock);
}

}  // namespace cooper::codec::tar
