#include "layer/archive.hpp"

#include "base/text.hpp"
#include "layer/detail/entry_path.hpp"

#include <algorithm>
#include <unistd.h>

namespace cooper::layer {

namespace {

using codec::TarHeader;
using codec::TarType;

constexpr std::size_t kMaxPath = 4096;

// The beginning of a file, without moving its offset.
class HeadSource final : public ByteSource {
public:
    explicit HeadSource(int fd) : fd_(fd) {}
    Result<std::size_t> read(std::span<std::byte> buffer) override {
        const std::size_t wanted = std::min(buffer.size(), kMost - at_);
        const ssize_t got = wanted == 0 ? 0 : ::pread(fd_, buffer.data(), wanted, static_cast<off_t>(at_));
        if (got < 0) return fail_errno(errno, "read");
        at_ += static_cast<std::size_t>(got);
        return static_cast<std::size_t>(got);
    }

private:
    // One block of bzip2 (900 kB) and its neighbours.
    static constexpr std::size_t kMost = 4 << 20;
    int fd_;
    std::size_t at_ = 0;
};

class BodySource final : public ByteSource {
public:
    BodySource(codec::TarReader& tar, const Stop& stop) : tar_(tar), stop_(stop) {}
    Result<std::size_t> read(std::span<std::byte> buffer) override {
        TRY(check_stop(stop_));
        return tar_.read(buffer);
    }

private:
    codec::TarReader& tar_;
    const Stop& stop_;
};

Result<> hand_over(const TarHeader& header, ByteSource& body, ArchiveSink& sink) {
    const std::string path = "/" + TRY(detail::clean_entry_path(header.name, kMaxPath));
    ArchiveMetadata metadata{.mode = header.mode,
                             .uid = header.uid,
                             .gid = header.gid,
                             .mtime_ns = header.mtime_ns,
                             .xattrs = header.xattrs};
    if (path == "/" && header.type != TarType::directory) return bad_input("the root must be a directory");
    switch (header.type) {
        case TarType::directory:
            return sink.directory(path, metadata);
        case TarType::file:
            return sink.file(path, metadata, header.size, body);
        case TarType::symlink:
            return sink.symlink(path, header.linkname, metadata);
        case TarType::hard_link: {
            const std::string target =
                "/" + TRY_CONTEXT(detail::clean_entry_path(header.linkname, kMaxPath), "hard link target");
            return sink.hard_link(path, target, metadata);
        }
        case TarType::char_device:
            return sink.device(path, DeviceKind::character, header.devmajor, header.devminor, metadata);
        case TarType::block_device:
            return sink.device(path, DeviceKind::block, header.devmajor, header.devminor, metadata);
        case TarType::fifo:
            return sink.device(path, DeviceKind::fifo, 0, 0, metadata);
    }
    UNREACHABLE();
}

}  // namespace

Result<std::optional<codec::Compression>> detect_archive(int fd) {
    auto opened = codec::decompress_any(std::make_unique<HeadSource>(fd));
    if (!opened) {
        // Trouble with the file itself is not an answer.
        if (opened.error().find_detail<Errno>() != nullptr) return std::move(opened).error();
        return std::nullopt;
    }
    codec::TarReader tar(*opened->source);
    const auto first = tar.next();
    if (!first && first.error().find_detail<Errno>() != nullptr) return first.error();
    if (!first || *first == nullptr) return std::nullopt;
    return opened->compression;
}

Result<ArchiveStats> extract_archive(std::unique_ptr<ByteSource> source, ArchiveSink& sink, const ArchiveLimits& limits,
                                     Stop stop) {
    auto opened = TRY(codec::decompress_any(std::move(source)));
    codec::TarLimits tar_limits;
    tar_limits.max_entries = limits.max_entries;
    codec::TarReader tar(*opened.source, tar_limits);
    BodySource body(tar, stop);
    ArchiveStats stats;
    for (;;) {
        TRY(check_stop(stop));
        const TarHeader* header = TRY(tar.next());
        if (header == nullptr) return stats;
        ++stats.entries;
        if (header->size > limits.max_bytes - stats.bytes) {
            return fail(Code::resource_exhausted, Blame::user, "the archive unpacks to more than {} bytes",
                        limits.max_bytes);
        }
        stats.bytes += header->size;
        TRY_CONTEXT(hand_over(*header, body, sink), "archive entry {}", quoted(header->name));
    }
}

}  // namespace cooper::layer
