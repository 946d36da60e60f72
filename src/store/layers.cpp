// Layers: directories committed by rename, with a row each. Invariant: a row with on_disk = 1 has its
// directory; a directory without a row is garbage that the next draft with that number removes.
#include "base/text.hpp"
#include "store/settle.hpp"
#include "store/store.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace cooper::store {

LayerDraft::LayerDraft(LayerDraft&& other) noexcept
    : store_(std::exchange(other.store_, nullptr)),
      dir_(std::move(other.dir_)),
      fs_path_(std::move(other.fs_path_)),
      work_path_(std::move(other.work_path_)),
      lazy_(other.lazy_),
      begun_(other.begun_),
      lock_(std::move(other.lock_)) {}

LayerDraft::~LayerDraft() {
    if (store_ != nullptr) static_cast<void>(remove_deep_tree(store_->dir_, dir_));
}

Result<sys::RootedDir> LayerDraft::open() const { return sys::RootedDir::open_host(fs_path_); }

Result<LayerDraft> Store::make_draft() {
    LayerDraft draft;
    draft.dir_ = "tmp/" + TRY(new_temp_name());
    for (const std::string& name : {draft.dir_, draft.dir_ + "/fs", draft.dir_ + "/work"}) {
        if (::mkdirat(dir_.fd(), name.c_str(), 0755) != 0) return fail_errno(errno, "create a layer");
        // The process's umask must not show in a root file system.
        if (::fchmodat(dir_.fd(), name.c_str(), name.ends_with("/fs") ? 0755 : 0711, 0) != 0)
            return fail_errno(errno, "set the mode of a layer");
    }
    draft.store_ = this;
    draft.begun_ = std::chrono::steady_clock::now();
    draft.fs_path_ = root_ + "/" + draft.dir_ + "/fs";
    draft.work_path_ = root_ + "/" + draft.dir_ + "/work";
    return draft;
}

Result<LayerDraft> Store::begin_layer() { return make_draft(); }

Result<LayerId> LayerDraft::commit(const LayerInfo& info) && {
    Store& store = *store_;
    const int root = store.dir_.fd();
    // overlayfs leaves folders of its own here, some without permissions.
    TRY(remove_deep_tree(store.dir_, dir_ + "/work"));
    const std::string lease = TRY(store.lease());
    LayerId id = lazy_;
    const Value disk = store.space_->limited() ? Value(static_cast<std::int64_t>(disk_bytes(store.root_ + "/" + dir_)))
                                               : Value(nullptr);
    const std::int64_t cost =
        std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - begun_).count();
    TRY(store.database_->transaction([&]() -> Result<> {
        const std::int64_t now = store.now();
        if (lazy_ == 0) {
            id = TRY(store.database_->insert(
                "INSERT INTO layers(on_disk, description, record_type, size, created, used, "
                "diff_id, disk, cost) VALUES(1, ?, ?, ?, ?, ?, ?, ?, ?)",
                {info.description, info.record_type, static_cast<std::int64_t>(info.size_bytes), now, now,
                 info.diff_id ? Value(info.diff_id->to_string()) : Value(nullptr), disk, cost}));
        } else {
            TRY(store.database_->run(
                "UPDATE layers SET on_disk = 1, size = ?, used = ?, disk = ?, cost = ? WHERE id = ?",
                {static_cast<std::int64_t>(info.size_bytes), now, disk, cost, id}));
        }
        TRY(store.database_->run("INSERT OR IGNORE INTO holds VALUES(?, ?)", {lease, id}));
        TRY(note_young(*store.database_, id));
        const std::string target = fmt::format("layers/{}", id);
        if (::renameat(root, dir_.c_str(), root, target.c_str()) != 0) {
            if (errno != ENOTEMPTY && errno != EEXIST) return fail_errno(errno, "keep layer");
            // Left by a crash between rename and commit: nothing names it.
            TRY(remove_deep_tree(store.dir_, target));
            if (::renameat(root, dir_.c_str(), root, target.c_str()) != 0) return fail_errno(errno, "keep layer");
        }
        return {};
    }));
    store.lease_.lock()->held.insert(id);
    store.known_.lock()->insert(id);
    store_ = nullptr;
    return id;
}

Result<LayerId> Store::add_lazy_layer(const Digest& diff_id, const LazyLayer& lazy) {
    LayerId id = 0;
    const std::string lease = TRY(this->lease());
    TRY(database_->transaction([&]() -> Result<> {
        if (const auto found = TRY(find_layer(diff_id))) {
            id = *found;
            TRY(database_->run(
                "UPDATE layers SET lazy_reference = ?, lazy_blob = ? WHERE id = ? AND on_disk = 0",
                {lazy.reference,
                 fmt::format("{} {} {}", lazy.blob.digest.to_string(), lazy.blob.size, lazy.blob.media_type), id}));
        } else {
            id = TRY(database_->insert(
                "INSERT INTO layers(on_disk, description, record_type, size, created, used, diff_id, lazy_blob, "
                "lazy_reference) "
                "VALUES(0, ?, 'regular', 0, ?, ?, ?, ?, ?)",
                {"pulled from " + lazy.reference,
                 lazy.created ? static_cast<std::int64_t>(lazy.created->time_since_epoch().count()) : now(), now(),
                 diff_id.to_string(),
                 fmt::format("{} {} {}", lazy.blob.digest.to_string(), lazy.blob.size, lazy.blob.media_type),
                 lazy.reference}));
        }
        return database_->run("INSERT OR IGNORE INTO holds VALUES(?, ?)", {lease, id});
    }));
    lease_.lock()->held.insert(id);
    return id;
}

Result<std::optional<LayerId>> Store::find_layer(const Digest& diff_id) {
    std::optional<LayerId> found;
    const std::array<Value, 1> values = {diff_id.to_string()};
    TRY(database_->run("SELECT id FROM layers WHERE diff_id = ? ORDER BY on_disk DESC, id LIMIT 1", values,
                       [&](const Row& row) { found = row.integer(0); }));
    return found;
}

Result<std::optional<LayerDraft>> Store::begin_materialize(LayerId id, const Stop& stop) {
    sys::FileLock lock =
        TRY(sys::FileLock::acquire_at(dir_.fd(), fmt::format("locks/layer-{}", id), sys::LockMode::exclusive, stop));
    if (TRY(layer(id)).on_disk) {
        ::unlinkat(dir_.fd(), fmt::format("locks/layer-{}", id).c_str(), 0);
        return std::optional<LayerDraft>{};
    }
    LayerDraft draft = TRY(make_draft());
    draft.lazy_ = id;
    draft.lock_ = std::move(lock);
    return std::optional<LayerDraft>(std::move(draft));
}

Result<LayerRecord> Store::layer(LayerId id) {
    std::optional<LayerRecord> found;
    const std::array<Value, 1> values = {id};
    TRY(database_->run(
        "SELECT on_disk, description, record_type, size, diff_id, lazy_blob, lazy_reference, created, cost FROM layers "
        "WHERE id = ?",
        values, [&](const Row& row) {
            LayerRecord record;
            record.id = id;
            record.on_disk = row.integer(0) == 1;
            record.info.description = row.text(1);
            record.info.record_type = row.text(2);
            record.info.size_bytes = static_cast<std::uint64_t>(row.integer(3));
            record.created = Timestamp(std::chrono::nanoseconds(row.integer(7)));
            record.cost = std::chrono::nanoseconds(row.integer(8));
            if (!row.is_null(4)) {
                if (auto diff_id = Digest::parse(row.text(4))) record.info.diff_id = *diff_id;
            }
            if (!row.is_null(5)) {
                const auto parts = split(row.text(5), ' ');
                LazyLayer lazy;
                lazy.reference = row.text(6);
                if (parts.size() == 3) {
                    lazy.blob.digest = Digest::parse(parts[0]).value_or(Digest{});
                    lazy.blob.size = static_cast<decltype(lazy.blob.size)>(parse_int(parts[1]).value_or(0));
                    lazy.blob.media_type = parts[2];
                }
                record.lazy = std::move(lazy);
            }
            found = std::move(record);
        }));
    if (!found) return fail(Code::not_found, Blame::world, "layer {} is not in the store any more", id);
    return *found;
}

std::string Store::layer_path(LayerId id) const { return fmt::format("{}/layers/{}/fs", root_, id); }

Result<> Store::set_diff_id(LayerId id, const Digest& diff_id) {
    return database_->run("UPDATE layers SET diff_id = ? WHERE id = ?", {diff_id.to_string(), id});
}

Result<> Store::add_layer_blob(LayerId id, const LayerBlob& blob) {
    return database_->run("INSERT OR REPLACE INTO layer_blobs VALUES(?, ?, ?, ?, ?)",
                          {id, blob.compression, blob.blob.media_type, blob.blob.digest.to_string(),
                           static_cast<std::int64_t>(blob.blob.size)});
}

Result<std::vector<LayerBlob>> Store::layer_blobs(LayerId id) {
    std::vector<LayerBlob> blobs;
    const std::array<Value, 1> values = {id};
    TRY(database_->run("SELECT compression, media_type, digest, size FROM layer_blobs WHERE layer = ?", values,
                       [&](const Row& row) {
                           LayerBlob blob;
                           blob.compression = row.text(0);
                           blob.blob.media_type = row.text(1);
                           blob.blob.digest = Digest::parse(row.text(2)).value_or(Digest{});
                           blob.blob.size = static_cast<decltype(blob.blob.size)>(row.integer(3));
                           blobs.push_back(std::move(blob));
                       }));
    return blobs;
}

Result<bool> Store::hold(const Chain& chain) {
    {
        auto lease = lease_.lock();
        const auto held = [&](LayerId id) { return lease->held.contains(id); };
        if (std::all_of(chain.layers.begin(), chain.layers.end(), held)) return true;
    }
    if (!TRY(take(TRY(lease()), chain))) return false;
    lease_.lock()->held.insert(chain.layers.begin(), chain.layers.end());
    return true;
}

// All of them or none.
Result<bool> Store::take(const std::string& lease, const Chain& chain) {
    bool complete = true;
    const Result<> taken = database_->transaction([&]() -> Result<> {
        const std::int64_t time = now();
        for (const LayerId id : chain.layers) {
            TRY(database_->run("UPDATE layers SET used = ?, uses = uses + 1 WHERE id = ?", {time, id}));
            if (database_->changes() == 0) {
                complete = false;
                return Error(Code::not_found, Blame::world, "a layer is gone");
            }
            TRY(database_->run("INSERT OR IGNORE INTO holds VALUES(?, ?)", {lease, id}));
        }
        return {};
    });
    if (complete && !taken) return taken.error();
    return complete;
}

Result<std::shared_ptr<const void>> Store::pin(const Chain& chain) {
    const std::string name = TRY(this->lease());
    auto lease = lease_.lock();
    const bool known = std::all_of(chain.layers.begin(), chain.layers.end(),
                                   [&](LayerId id) { return lease->pins.contains(id) || lease->held.contains(id); });
    if (!known && !TRY(take(name, chain))) return std::shared_ptr<const void>();
    for (const LayerId id : chain.layers) ++lease->pins[id];
    return std::shared_ptr<const void>(
        this, [this, self = weak_from_this().lock(), chain](const void* /*this*/) { unpin(chain); });
}

// Many results come and go in one build: rows are deleted at its end, or when somebody wants to know.
void Store::unpin(const Chain& chain) {
    {
        auto lease = lease_.lock();
        for (const LayerId id : chain.layers) {
            if (const auto found = lease->pins.find(id); found != lease->pins.end() && found->second > 0)
                --found->second;
        }
        if (!is_branch_ || lease->users > 0) return;
    }
    static_cast<void>(drop_unpinned());
}

Result<> Store::drop_unpinned() {
    auto lease = lease_.lock();
    const auto unused = [](const auto& pin) { return pin.second == 0; };
    if (std::none_of(lease->pins.begin(), lease->pins.end(), unused)) return {};
    TRY(database_->transaction([&]() -> Result<> {
        for (const auto& [id, count] : lease->pins) {
            if (count > 0 || lease->held.contains(id)) continue;
            TRY(database_->run("DELETE FROM holds WHERE lease = ? AND layer = ?", {lease->name, id}));
        }
        return {};
    }));
    std::erase_if(lease->pins, unused);
    return {};
}

Result<> Store::release_holds() {
    TRY(drop_unpinned());
    auto lease = lease_.lock();
    if (lease->users > 0) return {};  // somebody has come meanwhile
    if (lease->name.empty() || lease->held.empty()) return {};
    TRY(database_->transaction([&]() -> Result<> {
        for (const LayerId id : lease->held) {
            if (lease->pins.contains(id)) continue;
            TRY(database_->run("DELETE FROM holds WHERE lease = ? AND layer = ?", {lease->name, id}));
        }
        return {};
    }));
    lease->held.clear();
    return {};
}

Result<bool> Store::exists(const Chain& chain) {
    for (const LayerId id : chain.layers) {
        if (known_.lock()->contains(id)) continue;
        bool found = false;
        const std::array<Value, 1> values = {id};
        TRY(database_->run("SELECT 1 FROM layers WHERE id = ?", values, [&](const Row&) { found = true; }));
        if (!found) return false;
        known_.lock()->insert(id);
    }
    return true;
}

}  // namespace cooper::store
