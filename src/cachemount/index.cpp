#include "cachemount/index.hpp"

#include "base/bytes.hpp"
#include "base/text.hpp"
#include "cachemount/chunker.hpp"
#include "codec/sha256.hpp"
#include "codec/wire.hpp"

#include <algorithm>
#include <cstring>
#include <set>

namespace cooper::cachemount {

namespace {

constexpr std::uint64_t kVersion = 1;
constexpr std::size_t kMaxXattrs = 64;
constexpr std::size_t kMaxXattrBytes = std::size_t{64} << 10U;

Error damaged(std::string_view what) { return fail(Code::data_loss, Blame::world, "index of a cache mount: {}", what); }

std::string_view text_of(const ChunkId& id) { return {reinterpret_cast<const char*>(id.data()), id.size()}; }

std::string marshal_pack(const Pack& pack) {
    codec::WireWriter out;
    out.text(1, as_text(std::as_bytes(pack.digest.raw())));
    out.uint(2, pack.size);
    for (const Frame& frame : pack.frames) {
        codec::WireWriter inner;
        inner.uint(1, frame.stored);
        std::string ids;
        codec::WireWriter sizes;
        for (std::size_t i = frame.first; i < frame.first + frame.chunks; ++i) {
            ids += text_of(pack.chunks[i].id);
            sizes.varint(pack.chunks[i].size);
        }
        inner.text(2, ids);
        inner.text(3, sizes.bytes());
        out.element(3, inner.bytes());
    }
    return out.take();
}

Result<Digest> parse_digest(std::string_view raw) {
    if (raw.size() != 32) return damaged("a digest of another length");
    return Digest::from_raw(Digest::Algorithm::sha256, as_bytes(raw));
}

Result<> parse_frame(std::string_view text, Pack& pack) {
    Frame frame;
    frame.first = static_cast<std::uint32_t>(pack.chunks.size());
    if (!pack.frames.empty()) frame.offset = pack.frames.back().offset + pack.frames.back().stored;
    std::string_view ids, sizes;
    codec::WireReader reader(text);
    while (!reader.done()) {
        const auto field = TRY(reader.next());
        if (field.id == 1 && field.is_number()) {
            if (field.number > 2 * kMaxFrameBytes) return damaged("a frame that is too large");
            frame.stored = static_cast<std::uint32_t>(field.number);
        } else if (field.id == 2 && field.is_bytes()) {
            ids = field.bytes;
        } else if (field.id == 3 && field.is_bytes()) {
            sizes = field.bytes;
        }
    }
    if (ids.empty() || ids.size() % sizeof(ChunkId) != 0) return damaged("a frame without chunks");
    codec::WireReader numbers(sizes);
    std::size_t total = 0;
    for (; !ids.empty(); ids.remove_prefix(sizeof(ChunkId))) {
        if (numbers.done()) return damaged("a chunk without a size");
        const std::uint64_t size = TRY(numbers.varint());
        if (size == 0 || size > kMaxChunkBytes) return damaged("a chunk of an impossible size");
        Chunk chunk;
        std::memcpy(chunk.id.data(), ids.data(), chunk.id.size());
        chunk.size = static_cast<std::uint32_t>(size);
        pack.chunks.push_back(chunk);
        total += size;
        if (total > kMaxFrameBytes) return damaged("a frame that is too large");
    }
    if (!numbers.done() || frame.stored == 0) return damaged("a frame whose sizes do not agree");
    frame.size = static_cast<std::uint32_t>(total);
    frame.chunks = static_cast<std::uint32_t>(pack.chunks.size()) - frame.first;
    pack.frames.push_back(frame);
    return {};
}

Result<Pack> parse_pack(std::string_view text) {
    Pack pack;
    codec::WireReader reader(text);
    while (!reader.done()) {
        const auto field = TRY(reader.next());
        if (field.id == 1 && field.is_bytes()) {
            pack.digest = TRY(parse_digest(field.bytes));
        } else if (field.id == 2 && field.is_number()) {
            pack.size = field.number;
        } else if (field.id == 3 && field.is_bytes()) {
            TRY(parse_frame(field.bytes, pack));
        }
    }
    if (pack.digest.empty()) return damaged("a pack without a digest");
    if (pack.size > kMaxPackBytes) return damaged("a pack that is too large");
    if (pack.frames.empty()) return pack;  // its frames are told by an earlier part
    if (pack.frames.back().offset + pack.frames.back().stored != pack.size)
        return damaged("a pack whose frames do not fill it");
    return pack;
}

// Runs of chunks that follow one another in a pack: its number, the first, how many.
std::string marshal_chunks(const std::vector<Chunk>& chunks, const Packs& packs,
                           const std::map<std::uint32_t, std::uint64_t>& numbers) {
    codec::WireWriter out;
    for (std::size_t at = 0; at < chunks.size();) {
        const Packs::Place* const first = packs.find(chunks[at].id);
        CHECK(first != nullptr);
        std::size_t count = 1;
        while (at + count < chunks.size()) {
            const Packs::Place* const next = packs.find(chunks[at + count].id);
            CHECK(next != nullptr);
            if (next->pack != first->pack || next->chunk != first->chunk + count) break;
            ++count;
        }
        out.varint(numbers.at(first->pack));
        out.varint(first->chunk);
        out.varint(count);
        at += count;
    }
    return out.take();
}

Result<std::vector<Chunk>> parse_chunks(std::string_view text, const std::vector<const Pack*>& packs,
                                        std::size_t& budget) {
    std::vector<Chunk> chunks;
    codec::WireReader reader(text);
    while (!reader.done()) {
        const std::uint64_t number = TRY(reader.varint());
        if (reader.done()) return damaged("half a run of chunks");
        const std::uint64_t first = TRY(reader.varint());
        if (reader.done()) return damaged("half a run of chunks");
        const std::uint64_t count = TRY(reader.varint());
        if (number >= packs.size()) return damaged("a pack that is not there");
        const Pack& pack = *packs[number];
        if (first > pack.chunks.size() || count > pack.chunks.size() - first)
            return damaged("chunks that are not in their pack");
        if (count > budget) return damaged("more chunks than any mount has");
        budget -= count;
        const auto begin = pack.chunks.begin() + static_cast<std::ptrdiff_t>(first);
        chunks.insert(chunks.end(), begin, begin + static_cast<std::ptrdiff_t>(count));
    }
    return chunks;
}

Result<std::pair<std::string, std::string>> parse_pair(std::string_view text) {
    std::pair<std::string, std::string> pair;
    codec::WireReader reader(text);
    while (!reader.done()) {
        const auto field = TRY(reader.next());
        if (field.id == 1 && field.is_bytes()) pair.first = field.bytes;
        if (field.id == 2 && field.is_bytes()) pair.second = field.bytes;
    }
    return pair;
}

Result<std::pair<std::string, Entry>> parse_entry(std::string_view text, const std::vector<const Pack*>& packs,
                                                  std::size_t& budget) {
    std::pair<std::string, Entry> out;
    auto& [path, entry] = out;
    std::uint64_t type = 0;
    std::uint64_t mode = 0, uid = 0, gid = 0;
    codec::WireReader reader(text);
    while (!reader.done()) {
        const auto field = TRY(reader.next());
        if (field.is_bytes()) {
            if (field.id == 1) path = field.bytes;
            if (field.id == 7) entry.link = field.bytes;
            if (field.id == 8) entry.group = field.bytes;
            if (field.id == 9) {
                auto pair = TRY(parse_pair(field.bytes));
                if (pair.first.empty() || pair.first.size() > 255 || pair.second.size() > kMaxXattrBytes ||
                    pair.first.find('\0') != std::string::npos || entry.xattrs.size() == kMaxXattrs)
                    return damaged("extended attributes that no file can have");
                entry.xattrs.insert(std::move(pair));
            }
            if (field.id == 10) entry.chunks = TRY(parse_chunks(field.bytes, packs, budget));
        } else if (field.is_number()) {
            if (field.id == 2) type = field.number;
            if (field.id == 3) mode = field.number;
            if (field.id == 4) uid = field.number;
            if (field.id == 5) gid = field.number;
            if (field.id == 6) entry.mtime_ns = field.int64();
            if (field.id == 11) entry.stamp_ns = field.int64();
        }
    }
    TRY(check_path(path));
    if (type < 1 || type > 4) return damaged(fmt::format("{} is of no known type", quoted(path)));
    if (mode > 07777 || uid >= UINT32_MAX || gid >= UINT32_MAX)
        return damaged(fmt::format("{} has an impossible mode or owner", quoted(path)));
    entry.type = static_cast<EntryType>(type);
    entry.mode = static_cast<std::uint32_t>(mode);
    entry.uid = static_cast<std::uint32_t>(uid);
    entry.gid = static_cast<std::uint32_t>(gid);
    if (entry.type != EntryType::file && (!entry.chunks.empty() || !entry.group.empty()))
        return damaged(fmt::format("{} is no file and has content", quoted(path)));
    if (path.empty() && entry.type != EntryType::directory) return damaged("the mount is no directory");
    if (!entry.group.empty()) TRY(check_path(entry.group));
    const bool link = entry.type == EntryType::symlink;
    if (link != !entry.link.empty() || entry.link.size() > 4095 || entry.link.find('\0') != std::string::npos)
        return damaged(fmt::format("{} has an impossible link target", quoted(path)));
    return out;
}

}  // namespace

codec::WireWriter begin_entry(const std::string& path, const Entry& entry) {
    codec::WireWriter out;
    out.text(1, path);
    out.uint(2, static_cast<std::uint64_t>(entry.type));
    out.uint(3, entry.mode);
    out.uint(4, entry.uid);
    out.uint(5, entry.gid);
    out.integer(6, entry.mtime_ns);
    out.text(7, entry.link);
    out.text(8, entry.group);
    for (const auto& [name, value] : entry.xattrs) {
        codec::WireWriter pair;
        pair.text(1, name);
        pair.text(2, value);
        out.element(9, pair.bytes());
    }
    return out;
}

namespace {

std::string marshal_entry(const std::string& path, const Entry& entry, const Packs& packs,
                          const std::map<std::uint32_t, std::uint64_t>& numbers) {
    codec::WireWriter out = begin_entry(path, entry);
    out.text(10, marshal_chunks(entry.chunks, packs, numbers));
    out.integer(11, entry.stamp_ns);
    return out.take();
}

}  // namespace

ChunkId chunk_id(std::string_view bytes) {
    ChunkId id{};
    const Digest digest = codec::sha256_of(bytes);
    std::ranges::copy(digest.raw(), id.begin());
    return id;
}

std::uint64_t Entry::size() const {
    std::uint64_t size = 0;
    for (const Chunk& chunk : chunks) size += chunk.size;
    return size;
}

bool Entry::same_as(const Entry& other) const {
    return type == other.type && mode == other.mode && uid == other.uid && gid == other.gid &&
           mtime_ns == other.mtime_ns && link == other.link && group == other.group && xattrs == other.xattrs &&
           chunks == other.chunks;
}

std::size_t ChunkHash::operator()(const ChunkId& id) const noexcept {
    std::size_t hash = 0;
    std::memcpy(&hash, id.data(), sizeof hash);
    return hash;
}

void Packs::add(Pack pack) {
    const auto number = static_cast<std::uint32_t>(packs_.size());
    if (!by_digest_.emplace(pack.digest, number).second) return;
    for (std::uint32_t i = 0; i < pack.chunks.size(); ++i) places_.try_emplace(pack.chunks[i].id, Place{number, i});
    packs_.push_back(std::move(pack));
}

const Packs::Place* Packs::find(const ChunkId& id) const {
    const auto found = places_.find(id);
    return found == places_.end() ? nullptr : &found->second;
}

const Pack* Packs::find(const Digest& digest) const {
    const auto found = by_digest_.find(digest);
    return found == by_digest_.end() ? nullptr : &packs_[found->second];
}

Result<> check_path(std::string_view path) {
    if (path.empty()) return {};
    if (path.size() > 4096 || path.find('\0') != std::string_view::npos)
        return damaged(fmt::format("{} is no path of a file", quoted(path)));
    for (const auto& part : split(path, '/')) {
        if (part.empty() || part == "." || part == ".." || part.size() > 255)
            return damaged(fmt::format("{} is no path of a file", quoted(path)));
    }
    return {};
}

std::string_view parent_path(std::string_view path) {
    const std::size_t slash = path.rfind('/');
    return slash == std::string_view::npos ? std::string_view() : path.substr(0, slash);
}

std::string marshal_part(const Part& part, const Packs& packs) {
    codec::WireWriter out;
    out.uint(1, kVersion);
    // Its own packs with their frames, then those of others by digest alone.
    std::map<std::uint32_t, std::uint64_t> numbers;
    std::set<Digest> own;
    for (const Pack& pack : part.packs) own.insert(pack.digest);
    std::set<std::uint32_t> used;
    for (const auto& [path, entry] : part.entries) {
        for (const Chunk& chunk : entry.chunks) {
            const Packs::Place* const place = packs.find(chunk.id);
            CHECK(place != nullptr);
            used.insert(place->pack);
        }
    }
    for (std::uint32_t i = 0; i < packs.all().size(); ++i) {
        const Pack& pack = packs.at(i);
        const bool mine = own.contains(pack.digest);
        if (!mine && !used.contains(i)) continue;
        numbers.emplace(i, numbers.size());
        out.element(
            2, marshal_pack(mine ? pack : Pack{.digest = pack.digest, .size = pack.size, .frames = {}, .chunks = {}}));
    }
    for (const auto& [path, entry] : part.entries) out.element(3, marshal_entry(path, entry, packs, numbers));
    return out.take();
}

Result<Part> parse_part(std::string_view text, Packs& known) {
    if (text.size() > kMaxPartBytes) return damaged("it is too large");
    Part part;
    std::vector<Digest> named;
    std::vector<std::string_view> entries;
    std::uint64_t version = 0;
    std::size_t in_packs = 0;
    for (const Pack& pack : known.all()) in_packs += pack.chunks.size();
    codec::WireReader reader(text);
    while (!reader.done()) {
        const auto field = TRY(reader.next());
        if (field.id == 1 && field.is_number()) {
            version = field.number;
        } else if (field.id == 2 && field.is_bytes()) {
            Pack pack = TRY(parse_pack(field.bytes));
            named.push_back(pack.digest);
            if (pack.frames.empty()) continue;
            in_packs += pack.chunks.size();
            if (in_packs > kMaxChunks) return damaged("more chunks than any mount has");
            part.packs.push_back(pack);
            known.add(std::move(pack));
        } else if (field.id == 3 && field.is_bytes()) {
            entries.push_back(field.bytes);
            if (entries.size() > kMaxEntries) return damaged("more files than any mount has");
        }
    }
    if (version != kVersion)
        return fail(Code::unimplemented, Blame::user, "index of a cache mount: version {}, want {}", version, kVersion)
            .with_hint("another version of cooper has written it");
    std::vector<const Pack*> packs;
    for (const Digest& digest : named) {
        packs.push_back(known.find(digest));
        if (packs.back() == nullptr) return damaged(fmt::format("frames of {} are told nowhere", digest.to_string()));
    }
    std::size_t budget = kMaxChunks;
    for (const auto bytes : entries) {
        auto entry = TRY(parse_entry(bytes, packs, budget));
        const std::string path = entry.first;
        if (!part.entries.insert(std::move(entry)).second)
            return damaged(fmt::format("{} is there twice", quoted(path)));
    }
    return part;
}

Result<Entries> join_parts(const std::vector<Part>& parts) {
    Entries joined;
    for (const Part& part : parts) {
        for (const auto& [path, entry] : part.entries) {
            if (entry.type == EntryType::gone) {
                joined.erase(path);
            } else {
                joined.insert_or_assign(path, entry);
            }
        }
        if (joined.size() > kMaxEntries) return damaged("more files than any mount has");
    }
    std::uint64_t bytes = 0;
    std::size_t chunks = 0;
    // Parents sort before what is in them.
    for (auto it = joined.begin(); it != joined.end();) {
        const auto& [path, entry] = *it;
        const auto parent = joined.find(std::string(parent_path(path)));
        if (!path.empty() && (parent == joined.end() || parent->second.type != EntryType::directory)) {
            it = joined.erase(it);
            continue;
        }
        bytes += entry.size();
        chunks += entry.chunks.size();
        if (bytes > kMaxMountBytes || chunks > kMaxChunks) return damaged("more content than any mount has");
        ++it;
    }
    return joined;
}

}  // namespace cooper::cachemount
