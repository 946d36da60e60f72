// What takes space, why it stays, and removing it. Roots are images, what live builds hold and, unless everything is
// to go, what cache records name. A layer goes before those below it, never after: what is below a layer that stays is
// of use. Of those that may go, first goes what is made again at the least cost for its bytes.
//
// Victims lose their rows in one transaction first, so nobody can begin to use them; then their directories go.
#include "base/text.hpp"
#include "store/space.hpp"
#include "store/store.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <limits>
#include <queue>
#include <set>
#include <sys/stat.h>
#include <unistd.h>
#include <unordered_map>

namespace cooper::store {

namespace {

// How fast the content of a cache mount is had again: that of a mirror nearby.
constexpr double kMountBytesPerSecond = 10e6;
// What a layer costs of which it is not known.
constexpr double kLeastSeconds = 0.001;

Timestamp at(std::int64_t ns) { return Timestamp{std::chrono::nanoseconds(ns)}; }

bool passes(const UsageRecord& record, const PruneOptions& options) {
    if (options.used_before && record.last_used >= *options.used_before) return false;
    if (options.only && !options.only(record)) return false;
    return std::all_of(options.equals.begin(), options.equals.end(), [&](const auto& want) {
        const auto& [field, value] = want;
        if (field == "id") return record.id == value;
        if (field == "type") return record.record_type == value;
        if (field == "description") return record.description.find(value) != std::string::npos;
        return false;
    });
}

std::int64_t changed_ns(const struct stat& st) { return st.st_ctim.tv_sec * 1'000'000'000LL + st.st_ctim.tv_nsec; }

std::string blob_record_id(const std::string& hex) { return "blob-" + hex.substr(0, 12); }

}  // namespace

// One picture of what is there, made from few questions; layers, mounts and blobs by their place in `records`.
struct Store::Inventory {
    enum class Kind : std::uint8_t { layer, mount, blob };
    struct Record {
        UsageRecord usage;
        Kind kind = Kind::layer;
        std::int64_t id = 0;             // of a layer or a mount
        std::string hex;                 // of a blob
        std::vector<std::size_t> below;  // layers that this one is on top of
        std::vector<std::size_t> above;
        std::vector<std::size_t> blobs;   // packed forms of this layer
        std::vector<std::size_t> layers;  // that a blob is a packed form of
        std::vector<std::string> images;
        std::vector<std::string> leases;
        bool is_result = false;   // named by a record of the cache
        bool remembered = false;  // a blob: of a base image that offline builds need
        bool fresh = false;       // a blob: made a few minutes ago
        bool young = false;       // a blob: it may be on its way into a manifest
        bool of_lazy = false;     // a blob: what a layer that is not on disk yet is made of
    };
    std::vector<Record> records;
    std::unordered_map<std::int64_t, std::size_t> layers;
    std::unordered_map<std::string, std::size_t> blobs;                 // by hex
    std::vector<std::pair<std::string, std::vector<LayerId>>> results;  // as text, and what it names
    std::map<std::int64_t, std::uint64_t> mount_bytes;                  // as measured before
    bool builds_run = false;

    void finish();  // what follows of what has been taken
};

Result<> Store::take_layers(Inventory& all) {
    TRY(database_->run(
        "SELECT id, description, record_type, coalesce(disk, size) + extra, created, used, uses, cost FROM layers "
        "WHERE on_disk = 1 ORDER BY used",
        {}, [&](const Row& row) {
            Inventory::Record record;
            record.id = row.integer(0);
            record.usage.id = fmt::format("layer-{}", record.id);
            record.usage.description = row.text(1);
            record.usage.record_type = row.text(2);
            record.usage.size_bytes = static_cast<std::uint64_t>(row.integer(3));
            record.usage.created = at(row.integer(4));
            record.usage.last_used = at(row.integer(5));
            record.usage.usage_count = row.integer(6);
            record.usage.cost_ns = row.integer(7);
            all.layers.emplace(record.id, all.records.size());
            all.records.push_back(std::move(record));
        }));
    const auto find = [&](LayerId id) -> Inventory::Record* {
        const auto found = all.layers.find(id);
        return found == all.layers.end() ? nullptr : &all.records[found->second];
    };
    TRY(database_->run("SELECT name, chain FROM images UNION ALL SELECT name, chain FROM image_chains", {},
                       [&](const Row& row) {
                           const auto chain = Chain::parse(row.text(1));
                           if (!chain) return;
                           for (const LayerId id : chain->layers) {
                               if (auto* record = find(id)) record->images.push_back(row.text(0));
                           }
                       }));
    TRY(database_->run("SELECT layer, lease FROM holds", {}, [&](const Row& row) {
        if (auto* record = find(row.integer(0))) record->leases.push_back(row.text(1));
    }));
    std::vector<std::pair<std::size_t, std::size_t>> edges;  // below, above
    TRY(database_->run("SELECT DISTINCT result FROM results", {}, [&](const Row& row) {
        auto chain = Chain::parse(row.text(0));
        if (!chain) chain = Chain{};
        std::optional<std::size_t> below;
        for (const LayerId id : chain->layers) {
            const auto found = all.layers.find(id);
            if (found == all.layers.end()) continue;  // not on disk
            all.records[found->second].is_result = true;
            if (below) edges.emplace_back(*below, found->second);
            below = found->second;
        }
        all.results.emplace_back(row.text(0), std::move(chain->layers));
    }));
    std::ranges::sort(edges);
    edges.erase(std::ranges::unique(edges).begin(), edges.end());
    for (const auto& [below, above] : edges) {
        // Chains of merged trees may have two layers both ways round; then neither waits for the other.
        if (below == above || std::ranges::binary_search(edges, std::pair(above, below))) continue;
        all.records[below].above.push_back(above);
        all.records[above].below.push_back(below);
    }
    return {};
}

Result<> Store::take_mounts(Inventory& all) {
    TRY(database_->run("SELECT id, description, created, used, uses FROM cache_mounts ORDER BY used", {},
                       [&](const Row& row) {
                           Inventory::Record record;
                           record.kind = Inventory::Kind::mount;
                           record.id = row.integer(0);
                           record.usage.id = fmt::format("mount-{}", record.id);
                           record.usage.description = row.text(1);
                           record.usage.record_type = "exec.cachemount";
                           record.usage.mutable_record = true;
                           record.usage.created = at(row.integer(2));
                           record.usage.last_used = at(row.integer(3));
                           record.usage.usage_count = row.integer(4);
                           all.records.push_back(std::move(record));
                       }));
    for (auto& record : all.records) {
        if (record.kind != Inventory::Kind::mount) continue;
        const auto measured = all.mount_bytes.find(record.id);
        record.usage.size_bytes = measured != all.mount_bytes.end()
                                      ? measured->second
                                      : disk_bytes(fmt::format("{}/cache-mounts/{}", root_, record.id));
        record.usage.cost_ns =
            static_cast<std::int64_t>(static_cast<double>(record.usage.size_bytes) / kMountBytesPerSecond * 1e9);
        const auto lock = TRY(
            sys::FileLock::try_acquire_at(dir_.fd(), fmt::format("locks/cache-{}", record.id), sys::LockMode::shared));
        record.usage.in_use = !lock;
    }
    return {};
}

Result<> Store::take_blobs(Inventory& all) {
    // Builds that run may count on a blob that they have found or written and that nothing names yet.
    const std::int64_t ten_minutes = std::chrono::nanoseconds(std::chrono::minutes(10)).count();
    const std::string own = "lease-" + lease_.lock()->name;
    bool others = false;
    std::int64_t oldest_build = std::numeric_limits<std::int64_t>::max();
    const sys::RootedDir locks = TRY(dir_.open_dir("locks"));
    struct stat st{};
    for (const auto& entry : TRY(sys::list_dir(locks.fd()))) {
        if (!entry.name.starts_with("lease-") || entry.name == own) continue;
        if (::fstatat(locks.fd(), entry.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) continue;
        // Of a process as such, which may live for weeks: it names its blobs soon. A build says that it is one.
        if (st.st_size == 0) {
            others = true;
            continue;
        }
        oldest_build = std::min(oldest_build, changed_ns(st));
        all.builds_run = true;
    }
    const sys::RootedDir blobs = TRY(dir_.open_dir("blobs/sha256"));
    for (const auto& entry : TRY(sys::list_dir(blobs.fd()))) {
        if (::fstatat(blobs.fd(), entry.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) continue;
        Inventory::Record record;
        record.kind = Inventory::Kind::blob;
        record.hex = entry.name;
        record.usage.id = blob_record_id(entry.name);
        record.usage.description = "sha256:" + entry.name;
        record.usage.record_type = "blob";
        record.usage.size_bytes = static_cast<std::uint64_t>(st.st_blocks) * 512;
        record.usage.created = at(changed_ns(st));
        record.usage.last_used = at(changed_ns(st));
        // Somebody whose build has just ended may be about to name it.
        record.fresh = changed_ns(st) > now() - ten_minutes;
        record.young = changed_ns(st) >= oldest_build || (others && record.fresh);
        all.blobs.emplace(entry.name, all.records.size());
        all.records.push_back(std::move(record));
    }
    const auto find = [&](std::string_view digest) -> std::optional<std::size_t> {
        constexpr std::string_view kPrefix = "sha256:";
        if (!digest.starts_with(kPrefix)) return std::nullopt;
        const auto found = all.blobs.find(std::string(digest.substr(kPrefix.size())));
        if (found == all.blobs.end()) return std::nullopt;
        return found->second;
    };
    TRY(
        database_->run("SELECT digest, name FROM image_blobs UNION SELECT digest, name FROM images "
                       "UNION SELECT config, name FROM images",
                       {}, [&](const Row& row) {
                           if (const auto place = find(row.text(0))) all.records[*place].images.push_back(row.text(1));
                       }));
    TRY(database_->run("SELECT lazy_blob FROM layers WHERE on_disk = 0 AND lazy_blob IS NOT NULL", {},
                       [&](const Row& row) {
                           const std::string blob = row.text(0);
                           if (const auto place = find(std::string_view(blob).substr(0, blob.find(' '))))
                               all.records[*place].of_lazy = true;
                       }));
    TRY(database_->run("SELECT digest, layer FROM layer_blobs", {}, [&](const Row& row) {
        const auto place = find(row.text(0));
        if (!place) return;
        if (const auto layer = all.layers.find(row.integer(1)); layer != all.layers.end()) {
            all.records[*place].layers.push_back(layer->second);
            all.records[layer->second].blobs.push_back(*place);
        } else {
            all.records[*place].of_lazy = true;
        }
    }));
    // A resolved base image is remembered by fact: its manifest and config keep offline builds going.
    return database_->run("SELECT value FROM facts WHERE value LIKE '%sha256:%'", {}, [&](const Row& row) {
        const std::string value = row.text(0);
        for (std::size_t from = 0; (from = value.find("sha256:", from)) != std::string::npos; from += 7) {
            if (const auto place = find(std::string_view(value).substr(from, 71)))
                all.records[*place].remembered = true;
        }
    });
}

void Store::Inventory::finish() {
    for (auto& record : records) {
        record.usage.shared = !record.images.empty();
        const bool of_used_layer = std::ranges::any_of(record.layers, [&](std::size_t layer) {
            return !records[layer].images.empty() || !records[layer].leases.empty();
        });
        record.usage.in_use = record.usage.in_use || record.usage.shared || !record.leases.empty() || of_used_layer;
        for (const std::size_t place : record.below) record.usage.parents.push_back(records[place].usage.id);
    }
}

Result<Store::Inventory> Store::take_inventory() {
    Inventory all;
    TRY(take_layers(all));
    TRY(take_mounts(all));
    TRY(take_blobs(all));
    all.finish();
    return all;
}

Result<std::vector<UsageRecord>> Store::usage() {
    TRY(drop_unpinned());
    auto all = TRY(take_inventory());
    std::vector<UsageRecord> records;
    records.reserve(all.records.size());
    for (auto& record : all.records) records.push_back(std::move(record.usage));
    return records;
}

namespace {

std::string first_of(const std::vector<std::string>& names, std::string_view what) {
    std::string text =
        names.front().empty() ? fmt::format("{} without a name", what) : fmt::format("{} {}", what, names.front());
    if (names.size() > 1) text += fmt::format(" and {} more", names.size() - 1);
    return text;
}

}  // namespace

Result<std::vector<KeptRecord>> Store::why_kept() {
    TRY(reap());
    TRY(drop_unpinned());
    const auto all = TRY(take_inventory());
    std::vector<KeptRecord> out;
    for (const auto& record : all.records) {
        KeptRecord kept{.usage = record.usage, .by = {}, .freed_by = {}};
        if (!record.images.empty()) {
            std::vector<std::string> names = record.images;
            std::ranges::sort(names);
            names.erase(std::ranges::unique(names).begin(), names.end());
            kept.by.push_back(first_of(names, "image"));
            kept.freed_by.push_back("cooper rmi " + (names.front().empty() ? std::string("ID") : names.front()));
        }
        for (const auto& lease : record.leases) {
            const auto owner = dir_.read_file("locks/lease-" + lease, 256);
            kept.by.push_back(owner && !owner->empty() ? *owner : "process " + lease.substr(0, lease.find('-')));
        }
        if (!record.leases.empty()) kept.freed_by.emplace_back("the end of what uses it");
        if (record.kind == Inventory::Kind::mount && record.usage.in_use) {
            kept.by.emplace_back("a step that runs with it");
            kept.freed_by.emplace_back("the end of the step");
        }
        if (!record.above.empty()) {
            std::vector<std::string> names;
            for (const std::size_t above : record.above) names.push_back(all.records[above].usage.id);
            kept.by.push_back(first_of(names, "on top of it"));
            kept.freed_by.push_back("removing " + names.front() + " first");
        }
        if (!record.layers.empty()) {
            const std::string& layer = all.records[record.layers.front()].usage.id;
            kept.by.push_back("packed form of " + layer);
            kept.freed_by.push_back("removing " + layer);
        }
        if (record.of_lazy) {
            kept.by.emplace_back("a layer that is not unpacked yet");
            kept.freed_by.emplace_back("removing the image or the cache that names it");
        }
        if (record.young) {
            kept.by.emplace_back("builds that run may count on it");
            kept.freed_by.emplace_back("their end");
        }
        if (kept.by.empty()) {
            if (record.kind == Inventory::Kind::blob) {
                kept.by.emplace_back(record.remembered ? "a base image that may be used again"
                                     : record.fresh    ? "it is new: something may be about to name it"
                                                       : "nothing");
                kept.freed_by.emplace_back(record.remembered || record.fresh ? "cooper prune --all" : "cooper prune");
            } else if (record.kind == Inventory::Kind::mount) {
                kept.by.emplace_back("later builds may use it");
                kept.freed_by.emplace_back("cooper prune --all");
            } else {
                kept.by.emplace_back(record.is_result ? "cache: a later build may find it" : "nothing");
                kept.freed_by.emplace_back(record.is_result ? "cooper prune --all" : "cooper prune");
            }
        }
        out.push_back(std::move(kept));
    }
    return out;
}

// What goes, in the order in which it goes: places in `all`.
std::vector<std::size_t> Store::choose_victims(const Inventory& all, const PruneOptions& options) const {
    using Kind = Inventory::Kind;
    const std::int64_t time = now();
    std::vector<std::size_t> layers_left(all.records.size());  // above a layer, or that a blob belongs to
    std::uint64_t kept = 0;
    for (std::size_t i = 0; i < all.records.size(); ++i) {
        const auto& record = all.records[i];
        layers_left[i] = record.kind == Kind::blob ? record.layers.size() : record.above.size();
        if (!record.usage.shared) kept += record.usage.size_bytes;
    }
    const auto blob_may_go = [&](const Inventory::Record& record) {
        return record.images.empty() && !record.young && !record.of_lazy &&
               (options.all || !(record.remembered || record.fresh));
    };
    const auto may_go = [&](const Inventory::Record& record) {
        if (!passes(record.usage, options)) return false;
        switch (record.kind) {
            case Kind::layer:
                return record.images.empty() && record.leases.empty() && (options.all || !record.is_result);
            case Kind::mount:  // only asked for
                return !record.usage.in_use && (options.all || !options.equals.empty() || options.used_before);
            case Kind::blob:
                return blob_may_go(record);
        }
        return false;
    };
    // Seconds of work that a byte spares, and less the longer nobody wanted it.
    const auto worth = [&](std::size_t i) {
        const auto& record = all.records[i];
        if (record.kind == Kind::blob) return 0.0;
        std::uint64_t bytes = record.usage.size_bytes;
        for (const std::size_t blob : record.blobs) {
            if (all.records[blob].layers.size() == 1) bytes += all.records[blob].usage.size_bytes;
        }
        const double seconds = std::max(kLeastSeconds, static_cast<double>(record.usage.cost_ns) / 1e9);
        const double idle = static_cast<double>(time - record.usage.last_used.time_since_epoch().count()) / 1e9;
        return seconds / static_cast<double>(std::max<std::uint64_t>(bytes, 1)) / (3600 + std::max(0.0, idle));
    };
    struct Candidate {
        double worth;
        std::size_t place;
        bool operator>(const Candidate& other) const {
            return worth != other.worth ? worth > other.worth : place > other.place;
        }
    };
    std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
    for (std::size_t i = 0; i < all.records.size(); ++i) {
        if (layers_left[i] == 0 && may_go(all.records[i])) queue.push({worth(i), i});
    }
    std::vector<std::size_t> victims;
    std::uint64_t freed = 0;
    const auto take = [&](std::size_t place) {
        victims.push_back(place);
        kept -= std::min(kept, all.records[place].usage.size_bytes);
        freed += all.records[place].usage.size_bytes;
    };
    while (!queue.empty()) {
        if (options.keep_bytes > 0 && kept <= options.keep_bytes) break;
        if (options.free_bytes > 0 && freed >= options.free_bytes) break;
        const std::size_t place = queue.top().place;
        queue.pop();
        take(place);
        for (const std::size_t blob : all.records[place].blobs) {
            if (--layers_left[blob] == 0 && blob_may_go(all.records[blob])) take(blob);
        }
        for (const std::size_t below : all.records[place].below) {
            if (--layers_left[below] == 0 && may_go(all.records[below])) queue.push({worth(below), below});
        }
    }
    return victims;
}

// Records of results that cannot be had any more, and keys that lead to nothing.
Result<> Store::forget_results(const Inventory& all, const std::set<LayerId>& gone) {
    bool any = false;
    for (const auto& [text, layers] : all.results) {
        const bool is_gone = layers.empty()
                                 ? text != "scratch"
                                 : std::ranges::any_of(layers, [&](LayerId id) { return gone.contains(id); });
        if (!is_gone) continue;
        TRY(drop_cache_result(text));
        any = true;
    }
    // A build may be about to give a result to a key that has none. What is left after some rounds goes next time.
    constexpr int kRounds = 4;
    for (int round = 0; any && !all.builds_run && round < kRounds; ++round) {
        TRY(
            database_->run("DELETE FROM links WHERE NOT EXISTS (SELECT 1 FROM results WHERE key = links.target) "
                           "AND NOT EXISTS (SELECT 1 FROM links AS next WHERE next.source = links.target)",
                           {}));
        any = database_->changes() > 0;
    }
    return {};
}

Result<std::vector<UsageRecord>> Store::prune(const PruneOptions& options) {
    TRY(reap());
    TRY(drop_unpinned());
    std::vector<UsageRecord> removed;
    if (options.dry_run) {
        const auto all = TRY(take_inventory());
        for (const std::size_t place : choose_victims(all, options)) removed.push_back(all.records[place].usage);
        return removed;
    }
    std::set<LayerId> layers;
    std::map<std::int64_t, sys::FileLock> mounts;
    std::vector<std::string> aside;  // names below the root
    Inventory measured;
    TRY(take_mounts(measured));  // takes long where there are many files: before anybody has to wait
    TRY(database_->transaction([&]() -> Result<> {
        // Taken under the write lock: nobody begins to hold anything meanwhile.
        Inventory all;
        for (const auto& record : measured.records) all.mount_bytes.emplace(record.id, record.usage.size_bytes);
        TRY(take_layers(all));
        TRY(take_mounts(all));
        TRY(take_blobs(all));
        all.finish();
        const sys::RootedDir blobs = TRY(dir_.open_dir("blobs/sha256"));
        for (const std::size_t place : choose_victims(all, options)) {
            const auto& record = all.records[place];
            switch (record.kind) {
                case Inventory::Kind::layer:
                    layers.insert(record.id);
                    TRY(database_->run("DELETE FROM layers WHERE id = ?", {record.id}));
                    TRY(database_->run("DELETE FROM layer_blobs WHERE layer = ?", {record.id}));
                    break;
                case Inventory::Kind::mount: {
                    auto lock = TRY(sys::FileLock::try_acquire_at(dir_.fd(), fmt::format("locks/cache-{}", record.id),
                                                                  sys::LockMode::exclusive));
                    if (!lock) continue;  // in use
                    TRY(database_->run("DELETE FROM cache_mounts WHERE id = ?", {record.id}));
                    mounts.emplace(record.id, std::move(*lock));
                    break;
                }
                case Inventory::Kind::blob:
                    if (::unlinkat(blobs.fd(), record.hex.c_str(), 0) != 0) continue;
                    break;
            }
            removed.push_back(record.usage);
        }
        TRY(forget_results(all, layers));
        // Layers that are not on disk are rows, and blobs: nobody needs those that nothing names.
        std::set<LayerId> lazy;
        TRY(database_->run("SELECT id FROM layers WHERE on_disk = 0 AND id NOT IN (SELECT layer FROM holds)", {},
                           [&](const Row& row) { lazy.insert(row.integer(0)); }));
        const auto keep = [&](const Row& row) {
            if (const auto chain = Chain::parse(row.text(0))) {
                for (const LayerId id : chain->layers) lazy.erase(id);
            }
        };
        if (!lazy.empty()) {
            TRY(
                database_->run("SELECT chain FROM images UNION ALL SELECT chain FROM image_chains UNION ALL "
                               "SELECT result FROM results",
                               {}, keep));
        }
        for (const LayerId id : lazy) {
            TRY(database_->run("DELETE FROM layers WHERE id = ?", {id}));
            TRY(database_->run("DELETE FROM layer_blobs WHERE layer = ?", {id}));
        }
        // Directories whose rows are gone: somebody was killed while he pruned. Nobody is about to make rows for them
        // under the write lock; what goes now is no orphan.
        const auto sweep = [&](const std::string& folder, const std::set<std::int64_t>& rows) -> Result<> {
            const sys::RootedDir dir = TRY(dir_.open_dir(folder));
            for (const auto& entry : TRY(sys::list_dir(dir.fd()))) {
                const auto id = parse_int(entry.name);
                if (!id || rows.contains(*id)) continue;
                const std::string target = "tmp/" + TRY(new_temp_name());
                if (::renameat(dir.fd(), entry.name.c_str(), dir_.fd(), target.c_str()) == 0) aside.push_back(target);
            }
            return {};
        };
        std::set<std::int64_t> known_layers = layers;
        std::set<std::int64_t> known_mounts;
        for (const auto& record : all.records) {
            if (record.kind == Inventory::Kind::layer) known_layers.insert(record.id);
            if (record.kind == Inventory::Kind::mount) known_mounts.insert(record.id);
        }
        TRY(sweep("layers", known_layers));
        return sweep("cache-mounts", known_mounts);
    }));
    {
        auto known = known_.lock();
        for (const LayerId id : layers) known->erase(id);
    }
    for (const LayerId id : layers) TRY(remove_deep_tree(dir_, fmt::format("layers/{}", id)));
    for (const auto& [id, lock] : mounts) TRY(remove_deep_tree(dir_, fmt::format("cache-mounts/{}", id)));
    for (const auto& name : aside) TRY(remove_deep_tree(dir_, name));
    TRY(prune_steps());
    return removed;
}

Result<std::vector<Store::CacheMountRecord>> Store::cache_mounts() {
    std::vector<CacheMountRecord> mounts;
    TRY(database_->run("SELECT id, key, description, used, uses FROM cache_mounts ORDER BY key, id", {},
                       [&](const Row& row) {
                           CacheMountRecord mount;
                           mount.key = row.text(1);
                           mount.description = row.text(2);
                           mount.last_used = at(row.integer(3));
                           mount.usage_count = row.integer(4);
                           mount.size_bytes = disk_bytes(fmt::format("{}/cache-mounts/{}/fs", root_, row.integer(0)));
                           mounts.push_back(std::move(mount));
                       }));
    return mounts;
}

// The cap.

Result<> Store::note_files_of(LayerId id) {
    if (!space_->limited()) return {};
    const sys::RootedDir dir = TRY(dir_.open_dir(fmt::format("layers/{}", id)));
    std::int64_t bytes = 0;
    for (const auto& entry : TRY(sys::list_dir(dir.fd()))) {
        struct stat st{};
        if (::fstatat(dir.fd(), entry.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
            bytes += std::int64_t{st.st_blocks} * 512;
    }
    return database_->run("UPDATE layers SET extra = ? WHERE id = ?", {bytes, id});
}

// What is on its way from one place to another is counted in both rather than in none: drafts come before layers.
Result<std::uint64_t> Store::measure_disk(Look look) {
    std::uint64_t total = disk_bytes(root_ + "/tmp") + disk_bytes(root_ + "/blobs");
    struct stat st{};
    if (::fstat(dir_.fd(), &st) == 0) total += static_cast<std::uint64_t>(st.st_blocks) * 512;
    for (const auto& entry : TRY(sys::list_dir(dir_.fd()))) {
        if (entry.name != "tmp" && entry.name != "blobs" && entry.name != "layers")
            total += disk_bytes(root_ + "/" + entry.name);
    }
    if (look == Look::everywhere) return total + disk_bytes(root_ + "/layers");
    // Those from before there was a cap.
    std::vector<LayerId> unmeasured;
    TRY(database_->run("SELECT id FROM layers WHERE on_disk = 1 AND disk IS NULL", {},
                       [&](const Row& row) { unmeasured.push_back(row.integer(0)); }));
    for (const LayerId id : unmeasured) {
        const auto bytes = static_cast<std::int64_t>(disk_bytes(fmt::format("{}/layers/{}", root_, id)));
        TRY(database_->run("UPDATE layers SET disk = ? WHERE id = ?", {bytes, id}));
    }
    if (::fstatat(dir_.fd(), "layers", &st, AT_SYMLINK_NOFOLLOW) == 0)
        total += static_cast<std::uint64_t>(st.st_blocks) * 512;
    TRY(database_->run("SELECT coalesce(sum(disk + extra), 0) FROM layers WHERE on_disk = 1", {},
                       [&](const Row& row) { total += static_cast<std::uint64_t>(row.integer(0)); }));
    return total;
}

Result<std::string> Store::describe_space() {
    const auto all = TRY(take_inventory());
    std::uint64_t images = 0;
    std::uint64_t builds = 0;
    std::uint64_t mounts = 0;
    std::uint64_t cache = 0;
    for (const auto& record : all.records) {
        if (!record.images.empty()) {
            images += record.usage.size_bytes;
        } else if (!record.leases.empty() || record.young) {
            builds += record.usage.size_bytes;
        } else if (record.kind == Inventory::Kind::mount) {
            mounts += record.usage.size_bytes;
        } else {
            cache += record.usage.size_bytes;
        }
    }
    const std::uint64_t sent = disk_bytes(root_ + "/locals");  // to a daemon
    return fmt::format("images hold {}, builds that run hold {} and are writing {}, cache mounts {}, other cache {}{}",
                       human_size(images), human_size(builds), human_size(disk_bytes(root_ + "/tmp")),
                       human_size(mounts), human_size(cache),
                       sent > 0 ? fmt::format(", files that clients sent {}", human_size(sent)) : "");
}

Result<> Store::limit_space(std::uint64_t max_bytes) {
    Space::Limit limit;
    limit.max_bytes = max_bytes;
    limit.measure = [this] { return measure_disk(Look::where_it_changes); };
    limit.measure_all = [this] { return measure_disk(Look::everywhere); };
    limit.evict = [this](std::uint64_t bytes) -> Result<> {
        PruneOptions options;
        options.all = true;
        options.free_bytes = bytes;
        TRY(prune(options));
        return {};
    };
    limit.describe = [this] {
        const auto text = describe_space();
        return text ? *text : text.error().to_string();
    };
    return space_->set_limit(std::move(limit));
}

Result<std::vector<std::string>> Store::verify() {
    std::vector<std::string> wrong;
    std::set<std::string> rows;
    TRY(database_->run("SELECT id FROM layers WHERE on_disk = 1", {},
                       [&](const Row& row) { rows.insert(row.text(0)); }));
    for (const auto& id : rows) {
        struct stat st{};
        if (::fstatat(dir_.fd(), ("layers/" + id + "/fs").c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
            wrong.push_back("layer " + id + " has a row but no directory");
        }
    }
    const sys::RootedDir blobs = TRY(dir_.open_dir("blobs/sha256"));
    for (const auto& entry : TRY(sys::list_dir(blobs.fd()))) {
        sys::FdSource source(TRY(blobs.open(entry.name, O_RDONLY, sys::Follow::no, 0)));
        codec::Sha256 hash;
        std::vector<std::byte> buffer(256 * 1024);
        while (const std::size_t n = TRY(source.read(buffer))) hash.update(std::span<const std::byte>(buffer).first(n));
        if (hash.finish().hex() != entry.name) wrong.push_back("blob " + entry.name + " has other bytes");
    }
    std::string integrity;
    TRY(database_->run("PRAGMA integrity_check", {}, [&](const Row& row) { integrity = row.text(0); }));
    if (integrity != "ok") wrong.push_back("database: " + integrity);
    return wrong;
}

}  // namespace cooper::store
