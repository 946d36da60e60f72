#include "cachemount/pack_io.hpp"

#include "codec/sha256.hpp"

#include <algorithm>
#include <utility>

namespace cooper::cachemount {

namespace {

constexpr std::size_t kFrameBytes = std::size_t{64} << 10U;
constexpr int kLevel = 3;
constexpr std::uint64_t kMaxRequest = std::uint64_t{4} << 20U;
constexpr std::uint64_t kMaxGap = std::uint64_t{32} << 10U;  // that is read rather than asked around
constexpr std::size_t kMaxUnpacked = std::size_t{64} << 20U;

}  // namespace

std::uint32_t frame_of(const Pack& pack, std::uint32_t chunk) {
    const auto behind = std::ranges::upper_bound(pack.frames, chunk, {}, &Frame::first);
    return static_cast<std::uint32_t>(behind - pack.frames.begin() - 1);
}

PackWriter::PackWriter(Place& place, Packs& known, std::uint64_t pack_bytes)
    : place_(place), known_(known), pack_bytes_(pack_bytes), frames_(kLevel) {}

Result<> PackWriter::add(const Chunk& chunk, std::string_view bytes, const Stop& stop) {
    if (known_.find(chunk.id) != nullptr || !pending_.insert(chunk.id).second) return {};
    if (frame_.size() + bytes.size() > kFrameBytes) TRY(end_frame());
    if (pack_.size() >= pack_bytes_) TRY(end_pack(stop));
    frame_ += bytes;
    table_.chunks.push_back(chunk);
    ++count_;
    return {};
}

Result<> PackWriter::end_frame() {
    if (frame_.empty()) return {};
    const std::string stored = TRY(frames_.compress(frame_));
    Frame frame;
    frame.offset = pack_.size();
    frame.stored = static_cast<std::uint32_t>(stored.size());
    frame.size = static_cast<std::uint32_t>(frame_.size());
    frame.first = frame_first_;
    frame.chunks = static_cast<std::uint32_t>(table_.chunks.size()) - frame_first_;
    table_.frames.push_back(frame);
    frame_first_ += frame.chunks;
    pack_ += stored;
    frame_.clear();
    return {};
}

Result<> PackWriter::end_pack(const Stop& stop) {
    TRY(end_frame());
    if (pack_.empty()) return {};
    table_.digest = codec::sha256_of(pack_);
    table_.size = pack_.size();
    oci::Descriptor blob;
    blob.media_type = kPackType;
    blob.digest = table_.digest;
    blob.size = table_.size;
    TRY(place_.put(blob, std::exchange(pack_, {}), stop));
    known_.add(std::exchange(table_, {}));
    pending_.clear();
    frame_first_ = 0;
    written_.push_back(std::move(blob));
    return {};
}

Result<> PackWriter::finish(const Stop& stop) { return end_pack(stop); }

PackReader::PackReader(Place& place, const Packs& packs, const std::set<ChunkId>& wanted)
    : place_(place), packs_(packs) {
    for (const ChunkId& id : wanted) {
        if (const Packs::Place* const at = packs.find(id))
            wanted_.insert({at->pack, frame_of(packs.at(at->pack), at->chunk)});
    }
}

Result<const std::string*> PackReader::frame(FrameName name, const Stop& stop) {
    if (const auto found = unpacked_.find(name); found != unpacked_.end()) return &found->second;
    const Pack& pack = packs_.at(name.pack);
    // With it those that follow and are wanted, too.
    const Frame& first = pack.frames[name.frame];
    std::uint32_t last = name.frame;
    for (std::uint32_t next = name.frame + 1; next < pack.frames.size(); ++next) {
        const Frame& frame = pack.frames[next];
        const Frame& end = pack.frames[last];
        if (frame.offset + frame.stored - first.offset > kMaxRequest) break;
        if (frame.offset - (end.offset + end.stored) > kMaxGap) break;
        if (wanted_.contains({name.pack, next})) last = next;
    }
    oci::Descriptor blob;
    blob.media_type = kPackType;
    blob.digest = pack.digest;
    blob.size = pack.size;
    const std::uint64_t length = pack.frames[last].offset + pack.frames[last].stored - first.offset;
    const std::string bytes = TRY(place_.read(blob, first.offset, length, stop));
    fetched_ += length;
    for (std::uint32_t i = name.frame; i <= last; ++i) {
        const FrameName own{name.pack, i};
        if ((i != name.frame && !wanted_.contains(own)) || unpacked_.contains(own)) continue;
        const Frame& frame = pack.frames[i];
        const auto stored = std::string_view(bytes).substr(frame.offset - first.offset, frame.stored);
        std::string text = TRY_CONTEXT(codec::read_zstd_frame(stored, frame.size), "{}", pack.digest.to_string());
        unpacked_bytes_ += text.size();
        unpacked_.emplace(own, std::move(text));
        order_.push_back(own);
    }
    while (unpacked_bytes_ > kMaxUnpacked && order_.front() != name) {
        unpacked_bytes_ -= unpacked_.at(order_.front()).size();
        unpacked_.erase(order_.front());
        order_.pop_front();
    }
    return &unpacked_.at(name);
}

Result<std::string> PackReader::read(const Chunk& chunk, const Stop& stop) {
    const Packs::Place* const at = packs_.find(chunk.id);
    if (at == nullptr) return fail(Code::data_loss, Blame::world, "a chunk is in no pack");
    const Pack& pack = packs_.at(at->pack);
    const std::uint32_t number = frame_of(pack, at->chunk);
    const std::string& text = *TRY(frame({at->pack, number}, stop));
    std::size_t offset = 0;
    for (std::uint32_t i = pack.frames[number].first; i < at->chunk; ++i) offset += pack.chunks[i].size;
    if (pack.chunks[at->chunk].size != chunk.size)
        return fail(Code::data_loss, Blame::world, "a chunk of another size");
    std::string bytes = text.substr(offset, chunk.size);
    if (bytes.size() != chunk.size || chunk_id(bytes) != chunk.id)
        return fail(Code::data_loss, Blame::world, "{} is damaged", pack.digest.to_string());
    return bytes;
}

}  // namespace cooper::cachemount
