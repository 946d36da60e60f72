// What takes space, and removing it. Roots are images, what live processes hold and, unless everything
// is to go, what cache records name. Victims lose their rows in one transaction first, so nobody can
// begin to use them; then their directories go.
#include "base/text.hpp"
#include "store/store.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <set>
#include <sys/stat.h>
#include <unistd.h>

namespace cooper::store {

namespace {

Timestamp at(std::int64_t ns) { return Timestamp{std::chrono::nanoseconds(ns)}; }

void add_chain(std::set<LayerId>& set, const std::string& text) {
    if (const auto chain = Chain::parse(text)) set.insert(chain->layers.begin(), chain->layers.end());
}

// Bytes on disk below dir, an inode counted once; bounded depth is not needed: a directory at a time.
std::uint64_t tree_bytes(const std::string& host_path) {
    std::uint64_t total = 0;
    std::vector<sys::Fd> open;
    std::set<std::pair<dev_t, ino_t>> seen;
    std::vector<std::string> pending = {host_path};
    while (!pending.empty()) {
        const std::string path = std::move(pending.back());
        pending.pop_back();
        const sys::Fd dir(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
        if (!dir.valid()) continue;
        const auto entries = sys::list_dir(dir.get());
        if (!entries) continue;
        for (const auto& entry : *entries) {
            struct stat st{};
            if (::fstatat(dir.get(), entry.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) continue;
            if (S_ISDIR(st.st_mode)) {
                if (path.size() < 3000) pending.push_back(path + "/" + entry.name);
            } else if (st.st_nlink == 1 || seen.emplace(st.st_dev, st.st_ino).second) {
                total += static_cast<std::uint64_t>(st.st_blocks) * 512;
            }
        }
    }
    return total;
}

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

}  // namespace

Result<std::vector<UsageRecord>> Store::usage() {
    TRY(drop_unpinned());
    std::set<LayerId> rooted;
    TRY(database_->run("SELECT chain FROM images UNION SELECT chain FROM image_chains", {},
                       [&](const Row& row) { add_chain(rooted, row.text(0)); }));
    std::set<LayerId> held;
    TRY(database_->run("SELECT DISTINCT layer FROM holds", {}, [&](const Row& row) { held.insert(row.integer(0)); }));
    std::vector<UsageRecord> records;
    TRY(database_->run(
        "SELECT id, description, record_type, size, created, used, uses FROM layers WHERE on_disk = 1 ORDER BY used",
        {}, [&](const Row& row) {
            UsageRecord record;
            record.id = fmt::format("layer-{}", row.integer(0));
            record.description = row.text(1);
            record.record_type = row.text(2);
            record.size_bytes = static_cast<std::uint64_t>(row.integer(3));
            record.created = at(row.integer(4));
            record.last_used = at(row.integer(5));
            record.usage_count = row.integer(6);
            record.shared = rooted.contains(row.integer(0));
            record.in_use = record.shared || held.contains(row.integer(0));
            records.push_back(std::move(record));
        }));
    TRY(database_->run("SELECT id, description, created, used, uses FROM cache_mounts ORDER BY used", {},
                       [&](const Row& row) {
                           UsageRecord record;
                           record.id = fmt::format("mount-{}", row.integer(0));
                           record.description = row.text(1);
                           record.record_type = "exec.cachemount";
                           record.mutable_record = true;
                           record.created = at(row.integer(2));
                           record.last_used = at(row.integer(3));
                           record.usage_count = row.integer(4);
                           record.size_bytes = tree_bytes(fmt::format("{}/cache-mounts/{}/fs", root_, row.integer(0)));
                           records.push_back(std::move(record));
                       }));
    return records;
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
                           mount.size_bytes = tree_bytes(fmt::format("{}/cache-mounts/{}/fs", root_, row.integer(0)));
                           mounts.push_back(std::move(mount));
                       }));
    return mounts;
}

Result<> Store::remove_layers(const std::vector<LayerId>& ids) {
    for (const LayerId id : ids) TRY(remove_deep_tree(dir_, fmt::format("layers/{}", id)));
    return {};
}

Result<std::vector<UsageRecord>> Store::prune(const PruneOptions& options) {
    TRY(reap());
    std::vector<UsageRecord> removed;
    std::vector<LayerId> layers;
    std::vector<UsageRecord> records = TRY(usage());
    std::uint64_t kept = 0;
    for (const auto& record : records) kept += record.size_bytes;

    TRY(database_->transaction([&]() -> Result<> {
        // What is rooted now, under the write lock.
        std::set<LayerId> rooted;
        TRY(database_->run("SELECT chain FROM images UNION SELECT chain FROM image_chains", {},
                           [&](const Row& row) { add_chain(rooted, row.text(0)); }));
        TRY(database_->run("SELECT DISTINCT layer FROM holds", {},
                           [&](const Row& row) { rooted.insert(row.integer(0)); }));
        if (!options.all) {
            // Only what no cache record can lead to.
            TRY(database_->run("SELECT DISTINCT result FROM results", {},
                               [&](const Row& row) { add_chain(rooted, row.text(0)); }));
        }
        for (auto& record : records) {  // least recently used first
            if (!record.id.starts_with("layer-")) continue;
            const LayerId id = parse_int(record.id.substr(6)).value_or(0);
            if (rooted.contains(id) || !passes(record, options) ||
                (options.keep_bytes > 0 && kept <= options.keep_bytes))
                continue;
            kept -= record.size_bytes;
            layers.push_back(id);
            TRY(database_->run("DELETE FROM layers WHERE id = ?", {id}));
            TRY(database_->run("DELETE FROM layer_blobs WHERE layer = ?", {id}));
            removed.push_back(record);
        }
        // Records that name a layer that is gone lead nowhere, and lazy layers nobody names are rows only.
        std::vector<std::string> dead;
        const std::set<LayerId> gone(layers.begin(), layers.end());
        TRY(database_->run("SELECT DISTINCT result FROM results", {}, [&](const Row& row) {
            const auto chain = Chain::parse(row.text(0));
            if (!chain || std::any_of(chain->layers.begin(), chain->layers.end(),
                                      [&](LayerId id) { return gone.contains(id); })) {
                dead.push_back(row.text(0));
            }
        }));
        for (const auto& result : dead) TRY(drop_cache_result(result));
        return {};
    }));
    {
        auto known = known_.lock();
        for (const LayerId id : layers) known->erase(id);
    }
    TRY(remove_layers(layers));

    for (const auto& record : records) {
        if (!record.id.starts_with("mount-")) continue;
        if (!options.all && options.equals.empty() && !options.used_before) continue;  // only asked for
        if (!passes(record, options) || kept <= options.keep_bytes) continue;
        const std::string number = record.id.substr(6);
        const auto lock =
            TRY(sys::FileLock::try_acquire_at(dir_.fd(), "locks/cache-" + number, sys::LockMode::exclusive));
        if (!lock) continue;  // in use
        TRY(database_->run("DELETE FROM cache_mounts WHERE id = ?", {parse_int(number).value_or(0)}));
        TRY(remove_deep_tree(dir_, "cache-mounts/" + number));
        kept -= record.size_bytes;
        removed.push_back(record);
    }

    TRY(prune_steps());

    // Blobs that nothing names any more. Young ones may be on their way into a manifest.
    std::set<std::string> named;
    TRY(database_->run(
        "SELECT digest FROM image_blobs UNION SELECT digest FROM layer_blobs UNION SELECT digest FROM images "
        "UNION SELECT config FROM images",
        {}, [&](const Row& row) { named.insert(row.text(0)); }));
    if (!options.all) {
        // A resolved base image is remembered by fact: its manifest and config keep offline builds going.
        TRY(database_->run("SELECT value FROM facts", {}, [&](const Row& row) {
            for (const auto& word : split(row.text(0), ' ')) named.insert(word);
        }));
    }
    const std::int64_t young = now() - std::chrono::nanoseconds(std::chrono::minutes(10)).count();
    // reap() left only the leases of live processes.
    const std::string own = "lease-" + lease_.lock()->name;
    const sys::RootedDir locks = TRY(dir_.open_dir("locks"));
    const auto lock_files = TRY(sys::list_dir(locks.fd()));
    const bool others = std::any_of(lock_files.begin(), lock_files.end(), [&](const auto& entry) {
        return entry.name.starts_with("lease-") && entry.name != own;
    });
    const sys::RootedDir blobs = TRY(dir_.open_dir("blobs/sha256"));
    for (const auto& entry : TRY(sys::list_dir(blobs.fd()))) {
        if (named.contains("sha256:" + entry.name) || !options.equals.empty()) continue;
        struct stat st{};
        if (::fstatat(blobs.fd(), entry.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) continue;
        const std::int64_t changed = st.st_ctim.tv_sec * 1'000'000'000LL + st.st_ctim.tv_nsec;
        if (changed > young && (!options.all || others)) continue;
        if (options.used_before && at(changed) >= *options.used_before) continue;
        UsageRecord record;
        record.id = "blob-" + entry.name.substr(0, 12);
        record.record_type = "blob";
        record.description = "sha256:" + entry.name;
        record.size_bytes = static_cast<std::uint64_t>(st.st_blocks) * 512;
        if (options.only && !options.only(record)) continue;
        if (::unlinkat(blobs.fd(), entry.name.c_str(), 0) != 0) continue;
        removed.push_back(std::move(record));
    }
    return removed;
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
