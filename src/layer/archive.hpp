// Local archives as ADD unpacks them: what counts as one, and a reader that hands its entries to a sink. No whiteout
// meaning: names are names. Paths given to the sink are clean, rooted ("/a/b"), and lexically inside; resolving links
// is the sink's affair. Bad archives: invalid_argument, blame on the user.
#pragma once

#include "base/bytes.hpp"
#include "base/stop.hpp"
#include "codec/compression.hpp"
#include "codec/tar.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace cooper::layer {

struct ArchiveMetadata {
    std::uint32_t mode = 0;  // 07777
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::int64_t mtime_ns = 0;
    std::map<std::string, std::string> xattrs;
};

enum class DeviceKind : std::uint8_t { character, block, fifo };

class ArchiveSink {
public:
    virtual ~ArchiveSink() = default;
    // An existing directory keeps its content. Parents that no entry named are the sink's to make (0755).
    virtual Result<> directory(const std::string& path, const ArchiveMetadata& metadata) = 0;
    // Exactly size bytes can be read from body.
    virtual Result<> file(const std::string& path, const ArchiveMetadata& metadata, std::uint64_t size,
                          ByteSource& body) = 0;
    virtual Result<> symlink(const std::string& path, const std::string& target, const ArchiveMetadata& metadata) = 0;
    // target is a path in the archive's tree, rooted and clean.
    virtual Result<> hard_link(const std::string& path, const std::string& target, const ArchiveMetadata& metadata) = 0;
    virtual Result<> device(const std::string& path, DeviceKind kind, std::uint32_t major, std::uint32_t minor,
                            const ArchiveMetadata& metadata) = 0;
};

struct ArchiveLimits {
    std::uint64_t max_entries = 10'000'000;
    std::uint64_t max_bytes = std::uint64_t{1} << 40;  // unpacked
};

// Whether the file is what docker unpacks: a tar, plain or in gzip, bzip2, xz or zstd, by its content (zip is not).
// nullopt = no. Reads at most some hundred KiB from the descriptor with pread.
[[nodiscard]] Result<std::optional<codec::Compression>> detect_archive(int fd);

struct ArchiveStats {
    std::uint64_t entries = 0;
    std::uint64_t bytes = 0;
};
// source is the file from its beginning, still compressed.
[[nodiscard]] Result<ArchiveStats> extract_archive(std::unique_ptr<ByteSource> source, ArchiveSink& sink,
                                                   const ArchiveLimits& limits, Stop stop);

}  // namespace cooper::layer
