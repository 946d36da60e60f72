// Cache mounts: directories that outlive builds, named by key. A directory is used under a lock on
// locks/cache-<id>: shared for sharing=shared, exclusive for locked and private.
#include "base/text.hpp"
#include "store/store.hpp"

#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace cooper::store {

namespace {

struct Instance {
    std::int64_t id = 0;
    bool seeded = false;
};

std::string lock_name(std::int64_t id) { return fmt::format("locks/cache-{}", id); }
std::string fs_path(const std::string& root, std::int64_t id) { return fmt::format("{}/cache-mounts/{}/fs", root, id); }

}  // namespace

Result<CacheMount> Store::acquire_cache_mount(const std::string& key, Sharing sharing, const std::string& description,
                                              const Stop& stop) {
    while (true) {
        std::vector<Instance> instances;
        TRY(database_->transaction([&]() -> Result<> {
            const std::array<Value, 1> values = {key};
            TRY(database_->run("SELECT id, seeded FROM cache_mounts WHERE key = ? ORDER BY id", values,
                               [&](const Row& row) { instances.push_back({row.integer(0), row.integer(1) == 1}); }));
            if (!instances.empty()) return {};
            const std::int64_t id = TRY(database_->insert(
                "INSERT INTO cache_mounts(key, description, seeded, created, used, uses) VALUES(?, ?, 0, ?, ?, 0)",
                {key, description, now(), now()}));
            instances.push_back({id, false});
            return {};
        }));
        std::optional<sys::FileLock> lock;
        Instance chosen;
        if (sharing == Sharing::private_) {
            for (const Instance& instance : instances) {
                lock = TRY(sys::FileLock::try_acquire_at(dir_.fd(), lock_name(instance.id), sys::LockMode::exclusive));
                chosen = instance;
                if (lock) break;
            }
            if (!lock) {
                chosen = {
                    TRY(database_->insert("INSERT INTO cache_mounts(key, description, seeded, created, used, uses) "
                                          "VALUES(?, ?, 0, ?, ?, 0)",
                                          {key, description, now(), now()})),
                    false};
                lock = TRY(sys::FileLock::acquire_at(dir_.fd(), lock_name(chosen.id), sys::LockMode::exclusive, stop));
            }
        } else {
            chosen = instances.front();
            const bool alone = sharing == Sharing::locked || !chosen.seeded;
            if (sharing == Sharing::shared && alone) {
                // Somebody else may be seeding it, and then stay with it for long: no waiting to be alone.
                lock = TRY(sys::FileLock::try_acquire_at(dir_.fd(), lock_name(chosen.id), sys::LockMode::exclusive));
                if (!lock) {
                    lock = TRY(sys::FileLock::acquire_at(dir_.fd(), lock_name(chosen.id), sys::LockMode::shared, stop));
                    lock.reset();
                    continue;
                }
            } else {
                lock = TRY(sys::FileLock::acquire_at(dir_.fd(), lock_name(chosen.id),
                                                     alone ? sys::LockMode::exclusive : sys::LockMode::shared, stop));
            }
        }
        // Meanwhile it may have been seeded (then a shared user need not be alone) or pruned: look again.
        std::optional<bool> seeded;
        const std::array<Value, 1> values = {chosen.id};
        TRY(database_->run("SELECT seeded FROM cache_mounts WHERE id = ?", values,
                           [&](const Row& row) { seeded = row.integer(0) == 1; }));
        if (!seeded || *seeded != chosen.seeded) continue;

        TRY(prepare_cache_mount(chosen.id, *seeded));
        TRY(database_->run("UPDATE cache_mounts SET used = ?, uses = uses + 1 WHERE id = ?", {now(), chosen.id}));
        CacheMount mount;
        mount.store_ = this;
        mount.id_ = chosen.id;
        mount.path_ = fs_path(root_, chosen.id);
        mount.fresh_ = !*seeded;
        mount.lock_ = std::move(*lock);
        return mount;
    }
}

Result<> Store::prepare_cache_mount(std::int64_t id, bool seeded) {
    const std::string name = fmt::format("cache-mounts/{}", id);
    if (!seeded) TRY(remove_deep_tree(dir_, name));  // half seeded by somebody who died
    for (const std::string& part : {name, name + "/fs"}) {
        if (::mkdirat(dir_.fd(), part.c_str(), 0755) != 0 && errno != EEXIST)
            return fail_errno(errno, "create cache mount");
        if (!seeded && ::fchmodat(dir_.fd(), part.c_str(), 0755, 0) != 0)
            return fail_errno(errno, "set the mode of a cache mount");
    }
    return {};
}

Result<std::optional<CacheMount>> Store::lock_cache_mount(const std::string& key, const std::string& description,
                                                          const Stop& stop) {
    while (true) {
        TRY(check_stop(stop));
        std::optional<std::int64_t> id;
        TRY(database_->transaction([&]() -> Result<> {
            const std::array<Value, 1> values = {key};
            TRY(database_->run("SELECT min(id), count(*) FROM cache_mounts WHERE key = ?", values, [&](const Row& row) {
                if (row.integer(1) > 0) id = row.integer(0);
            }));
            if (id) return {};
            id = TRY(database_->insert(
                "INSERT INTO cache_mounts(key, description, seeded, created, used, uses) VALUES(?, ?, 0, ?, ?, 0)",
                {key, description, now(), now()}));
            return {};
        }));
        auto lock = TRY(sys::FileLock::try_acquire_at(dir_.fd(), lock_name(*id), sys::LockMode::exclusive));
        if (!lock) return std::optional<CacheMount>();
        std::optional<bool> seeded;
        const std::array<Value, 1> values = {*id};
        TRY(database_->run("SELECT seeded FROM cache_mounts WHERE id = ?", values,
                           [&](const Row& row) { seeded = row.integer(0) == 1; }));
        if (!seeded) continue;  // pruned meanwhile
        TRY(prepare_cache_mount(*id, *seeded));
        CacheMount mount;
        mount.store_ = this;
        mount.id_ = *id;
        mount.path_ = fs_path(root_, *id);
        mount.fresh_ = !*seeded;
        mount.lock_ = std::move(*lock);
        return std::optional(std::move(mount));
    }
}

Result<std::optional<CacheMount>> Store::share_cache_mount(const std::string& key) {
    std::optional<std::int64_t> id;
    const std::array<Value, 1> by_key = {key};
    TRY(database_->run("SELECT min(id), count(*) FROM cache_mounts WHERE key = ? AND seeded = 1", by_key,
                       [&](const Row& row) {
                           if (row.integer(1) > 0) id = row.integer(0);
                       }));
    if (!id) return std::optional<CacheMount>();
    auto lock = TRY(sys::FileLock::try_acquire_at(dir_.fd(), lock_name(*id), sys::LockMode::shared));
    if (!lock) return std::optional<CacheMount>();
    bool there = false;
    const std::array<Value, 1> by_id = {*id};
    TRY(database_->run("SELECT id FROM cache_mounts WHERE id = ? AND seeded = 1", by_id,
                       [&](const Row& /*row*/) { there = true; }));
    if (!there) return std::optional<CacheMount>();
    CacheMount mount;
    mount.store_ = this;
    mount.id_ = *id;
    mount.path_ = fs_path(root_, *id);
    mount.lock_ = std::move(*lock);
    return std::optional(std::move(mount));
}

Result<std::vector<std::string>> Store::cache_mount_keys() {
    std::vector<std::string> keys;
    TRY(database_->run("SELECT DISTINCT key FROM cache_mounts WHERE seeded = 1 ORDER BY key", {},
                       [&](const Row& row) { keys.push_back(row.text(0)); }));
    return keys;
}

Result<> CacheMount::mark_seeded() {
    TRY(store_->database_->run("UPDATE cache_mounts SET seeded = 1 WHERE id = ?", {id_}));
    fresh_ = false;
    return {};
}

Result<> Store::clear_cache_mounts(const std::string& key, const Stop& stop) {
    std::vector<std::int64_t> ids;
    const std::array<Value, 1> values = {key};
    TRY(database_->run("SELECT id FROM cache_mounts WHERE key = ?", values,
                       [&](const Row& row) { ids.push_back(row.integer(0)); }));
    for (const std::int64_t id : ids) {
        const auto lock = TRY(sys::FileLock::acquire_at(dir_.fd(), lock_name(id), sys::LockMode::exclusive, stop));
        TRY(remove_deep_tree(dir_, fmt::format("cache-mounts/{}", id)));
        TRY(database_->run("DELETE FROM cache_mounts WHERE id = ?", {id}));
    }
    return {};
}

}  // namespace cooper::store
