// Tar streams. TarReader reads v7, ustar, GNU (long names, base-256, sparse) and PAX (all sparse versions) with bounded
// memory; TarWriter writes what Go's archive/tar writes for FormatPAX, which is what image layers look like: ustar
// blocks, a PAX header only when something does not fit, times in whole seconds.
// Malformed archives: invalid_argument, blame on the user. One thread at a time per object.
#pragma once

#include "base/bytes.hpp"
#include "base/result.hpp"

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace cooper::codec {

enum class TarType : char {
    file = '0',
    hard_link = '1',
    symlink = '2',
    char_device = '3',
    block_device = '4',
    directory = '5',
    fifo = '6',
};

// Stored bytes of a sparse file; the rest up to size is zeros.
struct TarSegment {
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
};

struct TarHeader {
    std::string name;  // as in the archive: may hold "./", "..", a leading or trailing '/'
    std::string linkname;
    TarType type = TarType::file;
    std::uint32_t mode = 0;  // 07777
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::string uname;
    std::string gname;
    std::uint64_t size = 0;  // of the file, holes included; 0 for all but files
    std::int64_t mtime_ns = 0;
    std::uint32_t devmajor = 0;
    std::uint32_t devminor = 0;
    std::map<std::string, std::string> xattrs;  // PAX SCHILY.xattr.* and LIBARCHIVE.xattr.*
    std::map<std::string, std::string> pax;     // further records, as read; not written
    bool sparse = false;
    std::vector<TarSegment> segments;  // only when sparse
};

struct TarLimits {
    std::uint64_t max_entries = 10'000'000;
    std::size_t max_meta_bytes = 1 << 20;  // one PAX or GNU header, as in Go
    std::size_t max_segments = 1 << 18;
};

class TarReader {
public:
    explicit TarReader(ByteSource& source) : TarReader(source, TarLimits{}) {}
    TarReader(ByteSource& source, TarLimits limits);

    // The next entry, valid until the next call; null at the end of the archive. What is left of the current body is
    // skipped. Global PAX headers are ignored.
    [[nodiscard]] Result<const TarHeader*> next();
    // The next stored bytes of the current body (of its segments when sparse), without copying; empty at its end.
    // Valid until the next call.
    [[nodiscard]] Result<std::span<const std::byte>> chunk();
    // The current body with its holes filled. 0 = end.
    [[nodiscard]] Result<std::size_t> read(std::span<std::byte> buffer);
    // Reads the source to its end after the archive has ended, so that digests cover all of it.
    [[nodiscard]] Result<> drain();

private:
    struct Meta;
    [[nodiscard]] Result<bool> fill(std::size_t wanted);
    [[nodiscard]] Result<const std::byte*> block();
    [[nodiscard]] Result<std::string> meta_body(std::uint64_t size);
    [[nodiscard]] Result<> skip_body();
    [[nodiscard]] Result<> read_entry(std::span<const std::byte> raw, const Meta& meta);
    [[nodiscard]] Result<> apply_pax(const Meta& meta);
    [[nodiscard]] Result<> read_pax_sparse(const Meta& meta);
    [[nodiscard]] Result<> read_old_sparse(std::span<const std::byte> raw);
    [[nodiscard]] Result<> read_sparse_data_map();
    [[nodiscard]] Result<> check_segments(std::uint64_t stored);

    ByteSource& source_;
    TarLimits limits_;
    Bytes buffer_;
    std::size_t begin_ = 0;
    std::size_t end_ = 0;
    bool source_ended_ = false;
    bool ended_ = false;

    TarHeader header_;
    std::uint64_t entries_ = 0;
    std::uint64_t left_ = 0;  // stored bytes of the body not yet handed out
    std::uint64_t padding_ = 0;
    std::uint64_t position_ = 0;  // for read(): in the expanded body
    std::size_t segment_ = 0;
    std::uint64_t segment_done_ = 0;
    std::span<const std::byte> pending_;
};

class TarWriter {
public:
    explicit TarWriter(ByteSink& sink);
    TarWriter(const TarWriter&) = delete;
    TarWriter& operator=(const TarWriter&) = delete;

    // size bytes of body must follow for a file. Directories get a trailing '/'. Names with NUL, or more than 1 MiB of
    // PAX records: bad input.
    [[nodiscard]] Result<> write_header(const TarHeader& header);
    [[nodiscard]] Result<> write_body(std::span<const std::byte> data);
    // A place of at most wanted bytes to put body bytes into directly; commit says how many were.
    [[nodiscard]] Result<std::span<std::byte>> body_space(std::size_t wanted);
    [[nodiscard]] Result<> commit_body(std::size_t written);
    // The end marker; flushes. Once. Does not finish the sink.
    [[nodiscard]] Result<> finish();
    // What has been written so far goes to the sink, with the padding of a body that is complete.
    [[nodiscard]] Result<> flush();
    [[nodiscard]] std::uint64_t size() const { return size_; }

private:
    [[nodiscard]] Result<> append(std::span<const std::byte> data);
    [[nodiscard]] Result<> append_zeros(std::size_t count);
    [[nodiscard]] Result<> flush_buffer();

    ByteSink& sink_;
    Bytes buffer_;
    std::size_t used_ = 0;
    std::uint64_t left_ = 0;
    std::size_t padding_ = 0;
    std::uint64_t size_ = 0;
};

}  // namespace cooper::codec
