#include "base/text.hpp"
#include "cachemount/loaded.hpp"
#include "cachemount/merge.hpp"
#include "cachemount/pack_io.hpp"
#include "cachemount/sync.hpp"
#include "codec/sha256.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <set>
#include <sys/random.h>

namespace cooper::cachemount {

namespace {

constexpr int kMaxAttempts = 8;
constexpr int kIndexLevel = 9;
constexpr std::uint64_t kLeastPack = std::uint64_t{4} << 20U;
constexpr std::uint64_t kMostPack = std::uint64_t{32} << 20U;
constexpr std::size_t kFewPacks = 8;

std::uint64_t bytes_of(const Entries& entries) {
    std::uint64_t bytes = 0;
    for (const auto& [path, entry] : entries) bytes += entry.size();
    return bytes;
}

// Packs of which little is in use any more, or that were small from the start: what is in them goes into the next pack,
// as far as it is here. At most a hundredth of the mount, so that the upload stays small.
std::set<Digest> packs_to_empty(const Loaded& loaded, std::uint64_t pack_bytes) {
    std::vector<std::uint64_t> used(loaded.there.all().size());
    std::set<ChunkId> counted;
    for (const auto& [path, entry] : loaded.entries) {
        for (const Chunk& chunk : entry.chunks) {
            if (counted.insert(chunk.id).second) used[loaded.there.find(chunk.id)->pack] += chunk.size;
        }
    }
    std::vector<std::pair<std::uint64_t, std::uint32_t>> poor;
    for (std::uint32_t i = 0; i < used.size(); ++i) {
        if (used[i] < pack_bytes / 4) poor.emplace_back(used[i], i);
    }
    std::set<Digest> chosen;
    if (poor.size() < kFewPacks) return chosen;
    std::ranges::sort(poor);
    std::uint64_t budget = bytes_of(loaded.entries) / 100;
    for (const auto& [bytes, pack] : poor) {
        if (bytes > budget) break;
        budget -= bytes;
        chosen.insert(loaded.there.at(pack).digest);
    }
    return chosen;
}

Result<std::string> new_lineage() {
    std::array<std::uint8_t, 16> random{};
    if (::getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size()))
        return fail_errno(errno, "random bytes");
    return to_hex(random);
}

// One save, as far as it goes until the head is exchanged.
class Saving {
public:
    Saving(Place& place, const SaveTo& to, const MountHere& mount, const Stop& stop)
        : place_(place), to_(to), mount_(mount), stop_(stop) {}

    Result<Saved> run() {
        const std::string remembered = synced_name(place_, to_.name);
        synced_ = load_synced(mount_.side, remembered);
        for (const auto& name : to_.also_read) TRY(read_other(name));
        while (true) {
            TRY(check_stop(stop_));
            const auto before = TRY(place_.read_head(to_.name, stop_));
            Loaded loaded = before ? TRY(load_or_begin(*before)) : Loaded{};
            auto manifest = TRY(prepare(loaded, before));
            if (manifest) {
                const auto done = place_.write_head(to_.name, *manifest, before, stop_);
                if (!done && done.error().code() == Code::aborted && saved_.attempts < kMaxAttempts) {
                    ++saved_.attempts;
                    continue;
                }
                TRY(Result<>(done));
                saved_.uploaded_bytes += manifest->size();
                if (saved_.attempts < kMaxAttempts && TRY(was_overwritten(*manifest))) {
                    ++saved_.attempts;
                    continue;
                }
            }
            Synced now;
            now.lineage = lineage_;
            now.looked_ns = looked_ns_;
            now.entries = in_both(local_, joined_);
            const LocalChanges missing = changes_for_local(local_, &now, joined_);
            if (missing.write.empty() && missing.remove.empty())
                now.head = codec::sha256_of(manifest ? *manifest : *before).to_string();
            TRY(save_synced(mount_.side, remembered, now));
            return saved_;
        }
    }

private:
    // What cannot be read any more is written anew: nobody else can read it either.
    Result<Loaded> load_or_begin(const std::string& manifest) {
        auto loaded = load_head(place_, manifest, stop_);
        if (loaded) return loaded;
        if (loaded.error().code() == Code::data_loss || loaded.error().code() == Code::not_found) return Loaded{};
        return loaded;
    }

    // By somebody who had read what was there before, and so does not have what is in ours.
    Result<bool> was_overwritten(const std::string& manifest) {
        TRY(place_.settle(stop_));
        const auto now = TRY(place_.read_head(to_.name, stop_));
        if (!now || *now == manifest) return !now;
        const auto head = parse_head(*now);
        return !head || head->before != codec::sha256_of(manifest).to_string();
    }

    Result<> read_other(const std::string& name) {
        if (name == to_.name) return {};
        const auto manifest = TRY(place_.read_head(name, stop_));
        if (!manifest) return {};
        Loaded loaded = TRY(load_or_begin(*manifest));
        for (const Pack& pack : loaded.there.all()) others_.push_back(pack);
        return {};
    }

    // The manifest that is to be the head; nullopt when it need not change.
    Result<std::optional<std::string>> prepare(const Loaded& loaded, const std::optional<std::string>& before) {
        const std::uint64_t pack_bytes = std::clamp(bytes_of(loaded.entries) / 1000, kLeastPack, kMostPack);
        const std::set<Digest> emptied = packs_to_empty(loaded, pack_bytes);
        Packs known;
        for (const Pack& pack : loaded.there.all()) {
            if (!emptied.contains(pack.digest)) known.add(pack);
        }
        for (const Pack& pack : others_) known.add(pack);
        for (const Pack& pack : written_) known.add(pack);

        PackWriter writer(place_, known, pack_bytes);
        const ScanOptions options{
            .synced = synced_ ? &*synced_ : nullptr,
            .on_chunk = [&](const Chunk& chunk, std::string_view bytes) { return writer.add(chunk, bytes, stop_); },
            .is_known =
                [&](const Entry& entry) {
                    return std::ranges::all_of(entry.chunks,
                                               [&](const Chunk& chunk) { return known.find(chunk.id) != nullptr; });
                }};
        looked_ns_ = now_ns();
        local_ = TRY(scan(mount_.files, options, stop_));
        TRY(writer.finish(stop_));
        for (const auto& blob : writer.written()) {
            written_.push_back(*known.find(blob.digest));
            saved_.uploaded_bytes += blob.size;
        }
        count_local();

        lineage_ = loaded.head.lineage;
        Entries changes = changes_for_head(local_, common(synced_, loaded), loaded.entries);
        if (changes.empty() && before && !loaded.parts.empty()) {
            joined_ = loaded.entries;
            return std::optional<std::string>();
        }
        saved_.changed = changes.size();
        // What others have put there and is not here stays where it is.
        for (const auto& [path, entry] : loaded.entries) {
            for (const Chunk& chunk : entry.chunks) {
                if (known.find(chunk.id) == nullptr) known.add(loaded.there.at(loaded.there.find(chunk.id)->pack));
            }
        }
        return TRY(write_index(loaded, std::move(changes), known, before));
    }

    void count_local() {
        saved_.mount_bytes = saved_.unsteady = 0;
        for (const auto& [path, local] : local_) {
            if (local.entry.type == EntryType::file) saved_.mount_bytes += local.seen.size;
            if (local.unsteady) ++saved_.unsteady;
        }
    }

    Result<std::optional<std::string>> write_index(const Loaded& loaded, Entries changes, const Packs& known,
                                                   const std::optional<std::string>& before) {
        std::vector<Part> parts = loaded.parts;
        parts.push_back({.packs = {}, .entries = std::move(changes)});
        joined_ = TRY(join_parts(parts));
        Head head = loaded.head;
        head.id = to_.id;
        head.scope = to_.scope;
        if (lineage_.empty()) lineage_ = TRY(new_lineage());
        head.lineage = lineage_;
        head.before = before ? codec::sha256_of(*before).to_string() : std::string();

        // A part is put together with the one before it unless that one is more than twice as large: few parts, and
        // the large ones are seldom written.
        std::string text;
        while (true) {
            text = TRY(pack_part(parts, known));
            if (head.parts.empty() || head.parts.back().size >= 2 * text.size()) break;
            Part last = std::move(parts.back());
            parts.pop_back();
            for (auto& [path, entry] : last.entries) parts.back().entries.insert_or_assign(path, std::move(entry));
            head.parts.pop_back();
        }
        oci::Descriptor blob;
        blob.media_type = kPartType;
        blob.digest = codec::sha256_of(text);
        blob.size = text.size();
        saved_.uploaded_bytes += text.size();
        TRY(place_.put(blob, std::move(text), stop_));
        head.parts.push_back(std::move(blob));

        std::set<std::uint32_t> used;
        for (const auto& [path, entry] : joined_) {
            for (const Chunk& chunk : entry.chunks) used.insert(known.find(chunk.id)->pack);
        }
        head.packs.clear();
        for (const std::uint32_t pack : used) {
            oci::Descriptor named;
            named.media_type = kPackType;
            named.digest = known.at(pack).digest;
            named.size = known.at(pack).size;
            head.packs.push_back(std::move(named));
        }
        TRY(place_.put(empty_config(), "{}", stop_));
        return std::optional(marshal_head(head));
    }

    // The last part, with the packs that no part before it tells of.
    Result<std::string> pack_part(std::vector<Part>& parts, const Packs& known) {
        Part& last = parts.back();
        std::erase_if(last.entries, [&](const auto& item) {
            if (item.second.type == EntryType::gone) return parts.size() == 1;
            return !joined_.contains(item.first);
        });
        std::set<Digest> told;
        for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
            for (const Pack& pack : parts[i].packs) told.insert(pack.digest);
        }
        // Also the packs that others now find chunks in which were elsewhere before.
        std::set<std::uint32_t> used;
        for (const auto& [path, entry] : joined_) {
            for (const Chunk& chunk : entry.chunks) used.insert(known.find(chunk.id)->pack);
        }
        last.packs.clear();
        for (const std::uint32_t pack : used) {
            if (!told.contains(known.at(pack).digest)) last.packs.push_back(known.at(pack));
        }
        codec::ZstdFrames frames(kIndexLevel);
        return frames.compress(marshal_part(last, known));
    }

    Place& place_;
    const SaveTo& to_;
    const MountHere& mount_;
    const Stop& stop_;
    std::optional<Synced> synced_;
    std::vector<Pack> others_;   // of heads that may be shared
    std::vector<Pack> written_;  // by this save
    std::int64_t looked_ns_ = 0;
    std::string lineage_;
    LocalTree local_;
    Entries joined_;
    Saved saved_;
};

}  // namespace

Result<Saved> save(Place& place, const SaveTo& to, const MountHere& mount, const Stop& stop) {
    return Saving(place, to, mount, stop).run();
}

}  // namespace cooper::cachemount
