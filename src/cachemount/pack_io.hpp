// Chunks into packs, and back. One thread at a time.
#pragma once

#include "cachemount/place.hpp"
#include "codec/zstd_frame.hpp"

#include <deque>
#include <functional>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace cooper::cachemount {

// Puts chunks that are nowhere yet into packs, and those to their place as they get full.
class PackWriter {
public:
    // known: where chunks are; gets the packs that are written.
    PackWriter(Place& place, Packs& known, std::uint64_t pack_bytes);
    Result<> add(const Chunk& chunk, std::string_view bytes, const Stop& stop);
    Result<> finish(const Stop& stop);
    [[nodiscard]] const std::vector<oci::Descriptor>& written() const { return written_; }
    [[nodiscard]] std::uint64_t chunks() const { return count_; }

private:
    Result<> end_frame();
    Result<> end_pack(const Stop& stop);

    Place& place_;
    Packs& known_;
    std::uint64_t pack_bytes_;
    codec::ZstdFrames frames_;
    std::string frame_;
    std::uint32_t frame_first_ = 0;
    std::string pack_;
    Pack table_;
    std::unordered_set<ChunkId, ChunkHash> pending_;
    std::vector<oci::Descriptor> written_;
    std::uint64_t count_ = 0;
};

// Chunks from their place, several frames with one request. Every chunk is compared with its digest.
class PackReader {
public:
    // wanted: all that will be asked for, so that nothing else is fetched.
    PackReader(Place& place, const Packs& packs, const std::set<ChunkId>& wanted);
    Result<std::string> read(const Chunk& chunk, const Stop& stop);
    [[nodiscard]] std::uint64_t fetched_bytes() const { return fetched_; }

private:
    struct FrameName {
        std::uint32_t pack = 0;
        std::uint32_t frame = 0;
        friend auto operator<=>(const FrameName&, const FrameName&) = default;
    };
    Result<const std::string*> frame(FrameName name, const Stop& stop);

    Place& place_;
    const Packs& packs_;
    std::set<FrameName> wanted_;
    std::map<FrameName, std::string> unpacked_;
    std::deque<FrameName> order_;  // oldest first
    std::size_t unpacked_bytes_ = 0;
    std::uint64_t fetched_ = 0;
};

[[nodiscard]] std::uint32_t frame_of(const Pack& pack, std::uint32_t chunk);

}  // namespace cooper::cachemount
