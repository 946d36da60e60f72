#include "cachemount/loaded.hpp"

#include "base/bytes.hpp"
#include "codec/compression.hpp"
#include "codec/sha256.hpp"

#include <set>

namespace cooper::cachemount {

Result<Loaded> load_head(Place& place, std::string_view manifest, const Stop& stop) {
    Loaded loaded;
    loaded.head = TRY(parse_head(manifest));
    std::size_t left = kMaxPartBytes;
    for (const auto& blob : loaded.head.parts) {
        std::string packed = TRY_CONTEXT(place.read(blob, 0, blob.size, stop), "index {}", blob.digest.to_string());
        if (codec::sha256_of(packed) != blob.digest)
            return fail(Code::data_loss, Blame::world, "index {} is damaged", blob.digest.to_string());
        const auto source =
            TRY(codec::make_decompressor(std::make_unique<StringSource>(std::move(packed)), codec::Compression::zstd));
        const std::string text = TRY_CONTEXT(read_all(*source, left), "index {}", blob.digest.to_string());
        left -= text.size();
        loaded.parts.push_back(TRY(parse_part(text, loaded.told)));
    }
    loaded.entries = TRY(join_parts(loaded.parts));
    for (const auto& blob : loaded.head.packs) {
        const Pack* const pack = loaded.told.find(blob.digest);
        if (pack == nullptr || pack->size != blob.size)
            return fail(Code::data_loss, Blame::world, "no index tells of {}", blob.digest.to_string());
        loaded.there.add(*pack);
    }
    for (const auto& [path, entry] : loaded.entries) {
        for (const Chunk& chunk : entry.chunks) {
            if (loaded.there.find(chunk.id) == nullptr)
                return fail(Code::data_loss, Blame::world, "a part of {} is in no pack", path);
        }
    }
    return loaded;
}

const Synced* common(const std::optional<Synced>& synced, const Loaded& loaded) {
    return synced && !loaded.head.lineage.empty() && synced->lineage == loaded.head.lineage ? &*synced : nullptr;
}

std::string synced_name(const Place& place, const std::string& head) {
    return "synced-" + codec::sha256_of(place.identity() + "\n" + head).hex().substr(0, 32);
}

}  // namespace cooper::cachemount
