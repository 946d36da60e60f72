#include "codec/estargz.hpp"

#include "base/clock.hpp"
#include "base/text.hpp"
#include "base/work_pool.hpp"
#include "codec/go_json.hpp"
#include "codec/sha256.hpp"
#include "codec/tar.hpp"

#include <algorithm>
#include <array>
#include <libdeflate.h>
#include <memory>
#include <optional>
#include <vector>

namespace cooper::codec {
namespace {

constexpr std::string_view kTocName = "stargz.index.json";
constexpr std::string_view kNoPrefetch = ".no.prefetch.landmark";
constexpr std::string_view kPrefetch = ".prefetch.landmark";
constexpr std::byte kLandmark{0x0f};

constexpr std::uint64_t kChunkBytes = 4 << 20;
constexpr std::size_t kMemberBytes = 8 << 20;  // of headers alone
constexpr std::size_t kBatchBytes = 8 << 20;   // for each thread, before they are set to work
constexpr std::size_t kCopyBytes = 256 << 10;
constexpr std::size_t kMaxThreads = 16;
constexpr int kUsualLevel = 5;
constexpr std::size_t kMaxTocBytes = 1 << 30;

// The gzip members of the archive, compressed several at a time and written in order.
class Members final : public ByteSink {
public:
    Members(ByteSink& out, int level, std::size_t threads) : out_(out), level_(level), threads_(threads) {
        members_.emplace_back();
    }

    // What is written goes into a member of at most some MiB.
    Result<> write(std::span<const std::byte> data) override {
        plain_.update(data);
        plain_bytes_ += data.size();
        while (!data.empty()) {
            Bytes& input = members_.back().input;
            if (input.size() == kMemberBytes) {
                TRY(begin());
                continue;
            }
            const std::size_t n = std::min(data.size(), kMemberBytes - input.size());
            input.insert(input.end(), data.begin(), data.begin() + static_cast<std::ptrdiff_t>(n));
            waiting_bytes_ += n;
            data = data.subspan(n);
        }
        return {};
    }

    // What comes next begins a member; its number.
    Result<std::size_t> begin() {
        if (!members_.back().input.empty()) {
            if (waiting_bytes_ >= kBatchBytes * threads_) TRY(compress());
            if (members_.empty() || !members_.back().input.empty()) members_.emplace_back();
        }
        return starts_.size() + members_.size() - 1;
    }
    // All members so far are written; where each begins is known.
    Result<> compress() {
        TRY(parallel_for(members_.size(), threads_, [this](std::size_t i) -> Result<> {
            Member& member = members_[i];
            const std::unique_ptr<libdeflate_compressor, decltype(&libdeflate_free_compressor)> deflater(
                libdeflate_alloc_compressor(level_), libdeflate_free_compressor);
            CHECK(deflater != nullptr);
            member.output.resize(libdeflate_gzip_compress_bound(deflater.get(), member.input.size()));
            const std::size_t size = libdeflate_gzip_compress(deflater.get(), member.input.data(), member.input.size(),
                                                              member.output.data(), member.output.size());
            CHECK(size > 0);
            member.output.resize(size);
            return {};
        }));
        for (const Member& member : members_) {
            starts_.push_back(packed_bytes_);
            TRY(write_packed(member.output));
        }
        members_.clear();
        waiting_bytes_ = 0;
        members_.emplace_back();
        return {};
    }
    [[nodiscard]] std::uint64_t start_of(std::size_t member) const { return starts_.at(member); }

    Result<> write_packed(std::span<const std::byte> bytes) {
        packed_.update(bytes);
        packed_bytes_ += bytes.size();
        return out_.write(bytes);
    }
    BlobFacts finish() {
        return {.diff_id = plain_.finish(),
                .uncompressed_size = plain_bytes_,
                .digest = packed_.finish(),
                .size = packed_bytes_};
    }

private:
    struct Member {
        Bytes input;
        Bytes output;
    };
    ByteSink& out_;
    const int level_;
    const std::size_t threads_;
    std::vector<Member> members_;        // the last one is being filled
    std::vector<std::uint64_t> starts_;  // of those that are written
    std::size_t waiting_bytes_ = 0;
    Sha256 plain_;
    Sha256 packed_;
    std::uint64_t plain_bytes_ = 0;
    std::uint64_t packed_bytes_ = 0;
};

struct Chunk {
    std::size_t member = 0;
    std::uint64_t offset = 0;  // in the file
    std::uint64_t size = 0;    // 0 = to the end of the file
    Digest digest;
};
struct TocEntry {
    TarHeader header;
    Digest digest;  // of the content; files with content only
    std::vector<Chunk> chunks;
};

std::string_view type_name(TarType type) {
    switch (type) {
        case TarType::file:
            return "reg";
        case TarType::hard_link:
            return "hardlink";
        case TarType::symlink:
            return "symlink";
        case TarType::char_device:
            return "char";
        case TarType::block_device:
            return "block";
        case TarType::directory:
            return "dir";
        case TarType::fifo:
            return "fifo";
    }
    UNREACHABLE();
}

void integer_unless_zero(GoJson& json, std::string_view name, std::uint64_t value) {
    if (value != 0) json.key(name).unsigned_integer(value);
}
void text_unless_empty(GoJson& json, std::string_view name, const std::string& value) {
    if (!value.empty()) json.field(name, value);
}

void write_chunk(GoJson& json, const Chunk& chunk) {
    integer_unless_zero(json, "chunkOffset", chunk.offset);
    integer_unless_zero(json, "chunkSize", chunk.size);
    json.field("chunkDigest", chunk.digest.to_string());
}

void write_entry(GoJson& json, const TocEntry& entry, const Members& members) {
    const TarHeader& header = entry.header;
    const bool device = header.type == TarType::char_device || header.type == TarType::block_device;
    json.begin_object();
    json.field("name", header.name);
    json.field("type", type_name(header.type));
    if (header.type == TarType::file) integer_unless_zero(json, "size", header.size);
    constexpr std::int64_t kSecond = 1'000'000'000;
    const std::int64_t seconds = header.mtime_ns / kSecond - (header.mtime_ns % kSecond < 0 ? 1 : 0);
    json.field("modtime", format_rfc3339(Timestamp(std::chrono::nanoseconds(seconds * kSecond))));
    text_unless_empty(json, "linkName", header.linkname);
    integer_unless_zero(json, "mode", header.mode);
    integer_unless_zero(json, "uid", header.uid);
    integer_unless_zero(json, "gid", header.gid);
    text_unless_empty(json, "userName", header.uname);
    text_unless_empty(json, "groupName", header.gname);
    if (!entry.chunks.empty()) integer_unless_zero(json, "offset", members.start_of(entry.chunks.front().member));
    if (device) {
        integer_unless_zero(json, "devMajor", header.devmajor);
        integer_unless_zero(json, "devMinor", header.devminor);
    }
    if (!header.xattrs.empty()) {
        json.key("xattrs").begin_object();
        for (const auto& [name, value] : header.xattrs) json.key(name).bytes(value);
        json.end_object();
    }
    if (!entry.chunks.empty()) {
        json.field("digest", entry.digest.to_string());
        write_chunk(json, entry.chunks.front());
    }
    json.end_object();
    for (std::size_t i = 1; i < entry.chunks.size(); ++i) {
        json.begin_object();
        json.field("name", header.name);
        json.field("type", "chunk");
        json.key("offset").unsigned_integer(members.start_of(entry.chunks[i].member));
        write_chunk(json, entry.chunks[i]);
        json.end_object();
    }
}

// An empty gzip member with the place of the table in a field of its header.
std::array<std::byte, 51> footer(std::uint64_t toc_offset) {
    std::array<std::byte, 51> bytes{};
    const std::string field = fmt::format("SG\x16{:c}{:016x}STARGZ", '\0', toc_offset);
    // Deflate, with further fields, no time, of an unknown system; then 26 bytes of them.
    constexpr std::array<unsigned char, 12> kHead{0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255, 26, 0};
    std::ranges::transform(kHead, bytes.begin(), [](unsigned char c) { return static_cast<std::byte>(c); });
    std::ranges::transform(field, bytes.begin() + kHead.size(), [](char c) { return static_cast<std::byte>(c); });
    // One stored block, the last, of no bytes; sum and size are zero.
    constexpr std::array<unsigned char, 5> kEmpty{1, 0, 0, 0xff, 0xff};
    std::ranges::transform(kEmpty, bytes.begin() + kHead.size() + field.size(),
                           [](unsigned char c) { return static_cast<std::byte>(c); });
    return bytes;
}

class Writer {
public:
    Writer(ByteSource& tar, ByteSink& out, int level, std::size_t threads)
        : reader_(tar), members_(out, level, threads), writer_(members_), buffer_(kCopyBytes) {}

    Result<EstargzFacts> write(const Stop& stop) {
        TRY(add_landmark());
        while (const TarHeader* header = TRY(reader_.next())) {
            TRY(check_stop(stop));
            const std::string_view name = std::string_view(header->name).starts_with("./")
                                              ? std::string_view(header->name).substr(2)
                                              : std::string_view(header->name);
            // A layer that is of this form already loses what makes it so.
            if (name == kTocName || name == kNoPrefetch || name == kPrefetch) continue;
            TRY(add(*header, stop));
        }
        TRY(reader_.drain());
        return finish();
    }

private:
    TocEntry& begin_entry(const TarHeader& header) {
        TocEntry& entry = entries_.emplace_back();
        entry.header = header;
        entry.header.pax.clear();
        entry.header.segments.clear();
        entry.header.sparse = false;
        return entry;
    }

    Result<> add_landmark() {
        TarHeader header;
        header.name = kNoPrefetch;
        header.size = 1;
        TocEntry& entry = begin_entry(header);
        TRY(writer_.write_header(header));
        TRY(writer_.flush());
        const std::span body(&kLandmark, 1);
        entry.digest = sha256_of(body);
        entry.chunks.push_back({.member = TRY(members_.begin()), .digest = entry.digest});
        TRY(writer_.write_body(body));
        return writer_.flush();
    }

    Result<> add(const TarHeader& header, const Stop& stop) {
        TocEntry& entry = begin_entry(header);
        TRY(writer_.write_header(entry.header));
        if (header.type == TarType::directory && !entry.header.name.ends_with('/')) entry.header.name += '/';
        if (header.type != TarType::file || header.size == 0) return {};
        Sha256 whole;
        const std::uint64_t size = header.size;
        for (std::uint64_t at = 0; at < size;) {
            const std::uint64_t wanted = std::min(kChunkBytes, size - at);
            TRY(writer_.flush());
            Chunk chunk{.member = TRY(members_.begin()), .offset = at};
            if (at + wanted < size) chunk.size = wanted;
            Sha256 part;
            for (std::uint64_t left = wanted; left > 0;) {
                TRY(check_stop(stop));
                const auto piece = std::span(buffer_).first(std::min<std::uint64_t>(left, buffer_.size()));
                const std::size_t got = TRY(reader_.read(piece));
                if (got == 0) return bad_input("tar: {} ends early", quoted(header.name));
                const auto bytes = piece.first(got);
                if (size > kChunkBytes) whole.update(bytes);
                part.update(bytes);
                TRY(writer_.write_body(bytes));
                left -= got;
            }
            chunk.digest = part.finish();
            entry.chunks.push_back(chunk);
            at += wanted;
        }
        entry.digest = size > kChunkBytes ? whole.finish() : entry.chunks.front().digest;
        return writer_.flush();
    }

    Result<EstargzFacts> finish() {
        TRY(writer_.flush());
        TRY(members_.compress());
        GoJson json("\t");
        json.begin_object().key("version").integer(1).key("entries").begin_array();
        for (const TocEntry& entry : entries_) write_entry(json, entry, members_);
        json.end_array().end_object();
        const std::string toc = std::move(json).take();
        if (toc.size() > kMaxTocBytes)
            return bad_input("a layer of {} entries is too large for eStargz", entries_.size());
        EstargzFacts facts;
        facts.toc = sha256_of(toc);
        const std::size_t member = TRY(members_.begin());
        TarHeader header;
        header.name = kTocName;
        header.size = toc.size();
        TRY(writer_.write_header(header));
        TRY(writer_.write_body(as_bytes(toc)));
        TRY(writer_.finish());
        TRY(members_.compress());
        TRY(members_.write_packed(footer(members_.start_of(member))));
        facts.blob = members_.finish();
        return facts;
    }

    TarReader reader_;
    Members members_;
    TarWriter writer_;
    std::vector<TocEntry> entries_;
    Bytes buffer_;
};

}  // namespace

Result<EstargzFacts> write_estargz(ByteSource& tar, ByteSink& out, int level, std::size_t threads, const Stop& stop) {
    Writer writer(tar, out, level == kDefaultLevel ? kUsualLevel : std::clamp(level, 1, 12),
                  std::clamp<std::size_t>(threads, 1, kMaxThreads));
    return writer.write(stop);
}

}  // namespace cooper::codec
