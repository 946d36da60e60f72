#include "store/store.hpp"

#include "base/log.hpp"
#include "base/text.hpp"
#include "store/settle.hpp"

#include <array>
#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <map>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

namespace cooper::store {

namespace {

constexpr int kSchemaVersion = 5;
constexpr std::int64_t kBuilds = 1'000;  // whose logs are kept
constexpr const char* kSchema = R"sql(
CREATE TABLE IF NOT EXISTS layers(
    id INTEGER PRIMARY KEY AUTOINCREMENT, on_disk INTEGER NOT NULL, description TEXT NOT NULL, record_type TEXT NOT NULL,
    size INTEGER NOT NULL, created INTEGER NOT NULL, used INTEGER NOT NULL, uses INTEGER NOT NULL DEFAULT 0,
    diff_id TEXT, lazy_blob TEXT, lazy_reference TEXT, disk INTEGER, extra INTEGER NOT NULL DEFAULT 0,
    cost INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS layers_by_diff_id ON layers(diff_id);
CREATE TABLE IF NOT EXISTS layer_blobs(
    layer INTEGER NOT NULL, compression TEXT NOT NULL, media_type TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY(layer, digest)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS images(
    name TEXT PRIMARY KEY, media_type TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL, config TEXT NOT NULL,
    chain TEXT NOT NULL, updated INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS image_blobs(name TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY(name, digest)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS image_chains(
    name TEXT NOT NULL, place INTEGER NOT NULL, chain TEXT NOT NULL, PRIMARY KEY(name, place)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS links(
    source TEXT NOT NULL, link TEXT NOT NULL, target TEXT NOT NULL, PRIMARY KEY(source, link, target)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS links_by_target ON links(target);
CREATE TABLE IF NOT EXISTS results(
    key TEXT NOT NULL, result TEXT NOT NULL, created INTEGER NOT NULL, PRIMARY KEY(key, result)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS results_by_result ON results(result);
CREATE TABLE IF NOT EXISTS holds(lease TEXT NOT NULL, layer INTEGER NOT NULL, PRIMARY KEY(lease, layer)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cache_mounts(
    id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, description TEXT NOT NULL, seeded INTEGER NOT NULL,
    created INTEGER NOT NULL, used INTEGER NOT NULL, uses INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS cache_mounts_by_key ON cache_mounts(key);
CREATE TABLE IF NOT EXISTS facts(key TEXT PRIMARY KEY, value TEXT NOT NULL, time INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS builds(
    ref TEXT PRIMARY KEY, description TEXT NOT NULL, started INTEGER NOT NULL, completed INTEGER, error TEXT NOT NULL,
    steps INTEGER NOT NULL, cached INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS steps(
    id INTEGER PRIMARY KEY AUTOINCREMENT, project TEXT NOT NULL, stage TEXT NOT NULL, text TEXT NOT NULL,
    result TEXT NOT NULL, manifests TEXT NOT NULL, data TEXT NOT NULL, created INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS steps_by_place ON steps(project, stage, text);
CREATE INDEX IF NOT EXISTS steps_by_text ON steps(text);
CREATE INDEX IF NOT EXISTS steps_by_result ON steps(result);
CREATE TABLE IF NOT EXISTS manifests(
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, size INTEGER NOT NULL, data TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS manifests_by_size ON manifests(id, size);
CREATE TABLE IF NOT EXISTS misses(id INTEGER PRIMARY KEY AUTOINCREMENT, build TEXT NOT NULL, data TEXT NOT NULL,
    created INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS misses_by_build ON misses(build);
CREATE INDEX IF NOT EXISTS layer_blobs_by_digest ON layer_blobs(digest);
CREATE INDEX IF NOT EXISTS holds_by_layer ON holds(layer);
CREATE INDEX IF NOT EXISTS layers_by_lazy_blob ON layers(lazy_blob) WHERE on_disk = 0;
CREATE INDEX IF NOT EXISTS builds_by_time ON builds(started);
CREATE TABLE IF NOT EXISTS young(layer INTEGER PRIMARY KEY, made INTEGER NOT NULL);
PRAGMA user_version = 5;
)sql";

Result<> make_dir(const sys::RootedDir& root, const char* name) {
    if (::mkdirat(root.fd(), name, 0711) == 0 || errno == EEXIST) return {};
    return fail_errno(errno, fmt::format("create {} in the state directory", name));
}

// Room for what pruning writes when the disk is full: the file goes when the database cannot be opened for want of it,
// and comes back when there is room again.
constexpr const char* kBallast = "ballast";
constexpr off_t kBallastBytes = off_t{1} << 20U;
constexpr std::uint64_t kRoomForBallast = 64U << 20U;

std::uint64_t free_bytes_of(const sys::RootedDir& root) {
    struct statvfs fs{};
    return ::fstatvfs(root.fd(), &fs) == 0 ? std::uint64_t{fs.f_bavail} * fs.f_frsize : UINT64_MAX;
}

void keep_ballast(const sys::RootedDir& root) {
    if (::faccessat(root.fd(), kBallast, F_OK, AT_SYMLINK_NOFOLLOW) == 0 || free_bytes_of(root) < kRoomForBallast)
        return;
    const sys::Fd file(::openat(root.fd(), kBallast, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    // Where room cannot be reserved there is none kept.
    if (file.valid() && ::fallocate(file.get(), 0, 0, kBallastBytes) != 0) ::unlinkat(root.fd(), kBallast, 0);
}

bool drop_ballast(const sys::RootedDir& root) {
    return free_bytes_of(root) < std::uint64_t{kBallastBytes} && ::unlinkat(root.fd(), kBallast, 0) == 0;
}

// mkdir -p of a host path.
Result<> make_root(const std::string& path) {
    for (std::size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
        const std::string part = path.substr(0, end);
        if (::mkdir(part.c_str(), 0711) != 0 && errno != EEXIST) {
            return fail_errno(errno, "state directory " + part)
                .with_hint("--root DIR or $COOPER_ROOT chooses another place");
        }
        if (end == std::string::npos) return {};
    }
}

}  // namespace

std::int64_t Store::now() const { return clock_.now().time_since_epoch().count(); }

Result<> Store::create_schema() {
    std::int64_t version = 0;
    TRY(database_->run("PRAGMA user_version", {}, [&](const Row& row) { version = row.integer(0); }));
    if (version == kSchemaVersion) return {};
    if (version > kSchemaVersion) {
        return fail(Code::failed_precondition, Blame::user, "the state directory {} is of a newer cooper (schema {})",
                    root_, version)
            .with_hint("use that version, or another --root");
    }
    return database_->transaction([&]() -> Result<> {
        TRY(database_->execute(kSchema));
        // Before 2 links were named in another way: nothing would find what they lead to.
        if (version == 1) TRY(database_->execute("DELETE FROM links; DELETE FROM results;"));
        if (version > 0 && version < 4) {
            TRY(
                database_->execute("ALTER TABLE layers ADD COLUMN disk INTEGER; "
                                   "ALTER TABLE layers ADD COLUMN extra INTEGER NOT NULL DEFAULT 0; "
                                   "ALTER TABLE layers ADD COLUMN cost INTEGER NOT NULL DEFAULT 0"));
        }
        return {};
    });
}

Result<std::unique_ptr<Store>> Store::open(const std::string& root, const Clock& clock) {
    struct stat st{};
    if (::stat((root + "/cooper.db").c_str(), &st) != 0) TRY(make_root(root));
    auto store = std::unique_ptr<Store>(new Store(root, clock));
    store->space_ = std::make_shared<Space>(root);
    auto directory = sys::RootedDir::open_host(root);
    if (!directory) return directory.error().with_hint("--root DIR or $COOPER_ROOT chooses another place");
    store->dir_ = std::move(*directory);
    const std::string file = root + "/cooper.db";
    const auto open_database = [&]() -> Result<> {
        store->database_ = TRY(Database::open(file));
        return store->create_schema();
    };
    Result<> opened = open_database();
    if (!opened && opened.error().code() != Code::data_loss && drop_ballast(store->dir_)) opened = open_database();
    if (!opened && opened.error().code() == Code::data_loss) {
        // What it knew can be built again; what it was is kept for whoever wants to look.
        store->database_.reset();
        const std::string aside = fmt::format("{}.damaged-{}", file, store->now());
        ::rename(file.c_str(), aside.c_str());
        ::unlink((file + "-wal").c_str());
        ::unlink((file + "-shm").c_str());
        log::warn("the state database was damaged and is begun anew", {{"kept", aside}});
        opened = open_database();
    }
    if (!opened) return opened.error();
    const auto is_missing = [&](const char* name) { return ::faccessat(store->dir_.fd(), name, F_OK, 0) != 0; };
    if (is_missing("locks") || is_missing("tmp")) {
        for (const char* name : {"blobs", "layers", "tmp", "cache-mounts", "logs", "locks"})
            TRY(make_dir(store->dir_, name));
        if (::mkdirat(store->dir_.fd(), "blobs/sha256", 0711) != 0 && errno != EEXIST)
            return fail_errno(errno, "create blobs");
    }
    // Leases of others: those that nobody holds any more are reaped.
    const sys::RootedDir locks = TRY(store->dir_.open_dir("locks"));
    for (const auto& entry : TRY(sys::list_dir(locks.fd()))) {
        if (!entry.name.starts_with("lease-")) continue;
        TRY(store->reap());
        break;
    }
    TRY_CONTEXT(settle(*store, store->dir_), "look at what was written before the machine was started again");
    keep_ballast(store->dir_);
    return store;
}

Result<std::shared_ptr<Store>> Store::branch(std::string purpose) {
    auto store = std::shared_ptr<Store>(new Store(root_, clock_));
    store->dir_ = TRY(sys::RootedDir::open_host(root_));
    store->database_ = database_;
    store->is_branch_ = true;
    store->purpose_ = std::move(purpose);
    store->space_ = space_;
    return store;
}

std::shared_ptr<const void> Store::use() {
    ++lease_.lock()->users;
    return std::shared_ptr<const void>(this, [self = shared_from_this()](const void* /*this*/) {
        if (--self->lease_.lock()->users > 0) return;
        // What cannot be let go of now goes with the branch.
        static_cast<void>(self->release_holds());
    });
}

Store::~Store() {
    if (!is_branch_) space_->remove_limit();
    auto lease = lease_.lock();
    if (lease->name.empty()) return;
    static_cast<void>(database_->run("DELETE FROM holds WHERE lease = ?", {lease->name}));
    static_cast<void>(remove_deep_tree(dir_, "tmp/" + lease->name));
    ::unlinkat(dir_.fd(), ("locks/lease-" + lease->name).c_str(), 0);
}

Result<std::string> Store::lease() {
    auto lease = lease_.lock();
    if (!lease->name.empty()) return lease->name;
    std::array<std::uint64_t, 2> random{};
    if (::getentropy(random.data(), sizeof random) != 0) return fail_errno(errno, "random numbers");
    const std::string name = fmt::format("{}-{:016x}", ::getpid(), random[0]);
    // Another process may reap the file between its creation and its lock: then it is made again.
    struct stat locked{};
    struct stat named{};
    do {
        lease->lock =
            TRY(sys::FileLock::acquire_at(dir_.fd(), "locks/lease-" + name, sys::LockMode::exclusive, Stop{}));
        if (::fstat(lease->lock.fd(), &locked) != 0) return fail_errno(errno, "lease");
    } while (::fstatat(dir_.fd(), ("locks/lease-" + name).c_str(), &named, 0) != 0 || named.st_ino != locked.st_ino);
    if (::mkdirat(dir_.fd(), ("tmp/" + name).c_str(), 0711) != 0)
        return fail_errno(errno, "temporary folder in the state directory");
    if (!purpose_.empty()) TRY(sys::write_all(lease->lock.fd(), purpose_));
    lease->name = name;
    return name;
}

Result<std::string> Store::new_temp_name() {
    const std::string name = TRY(lease());
    return fmt::format("{}/{}", name, ++lease_.lock()->counter);
}

Result<std::string> Store::scratch_dir() {
    const std::string name = "tmp/" + TRY(new_temp_name());
    if (::mkdirat(dir_.fd(), name.c_str(), 0700) != 0) return fail_errno(errno, "temporary folder");
    return root_ + "/" + name;
}

Result<> Store::reap() {
    const sys::RootedDir locks = TRY(dir_.open_dir("locks"));
    for (const auto& entry : TRY(sys::list_dir(locks.fd()))) {
        if (!entry.name.starts_with("lease-")) continue;
        const auto lock = TRY(sys::FileLock::try_acquire_at(locks.fd(), entry.name, sys::LockMode::exclusive));
        if (!lock) continue;  // its process lives
        const std::string name = entry.name.substr(6);
        TRY(database_->run("DELETE FROM holds WHERE lease = ?", {name}));
        TRY(remove_deep_tree(dir_, "tmp/" + name));
        ::unlinkat(locks.fd(), entry.name.c_str(), 0);
    }
    return {};
}

// Images.

namespace {
ImageRecord image_of(const Row& row) {
    ImageRecord image;
    image.name = row.text(0);
    image.target.media_type = row.text(1);
    image.target.digest = Digest::parse(row.text(2)).value_or(Digest{});
    image.target.size = row.integer(3);
    image.config = Digest::parse(row.text(4)).value_or(Digest{});
    image.chain = Chain::parse(row.text(5)).value_or(Chain{});
    image.updated = Timestamp{std::chrono::nanoseconds(row.integer(6))};
    return image;
}
}  // namespace

Result<> Store::put_image(const ImageRecord& image, const std::vector<Digest>& blobs) {
    return database_->transaction([&]() -> Result<> {
        TRY(database_->run("DELETE FROM image_blobs WHERE name = ?", {image.name}));
        TRY(database_->run("DELETE FROM image_chains WHERE name = ?", {image.name}));
        for (std::size_t i = 0; i < image.others.size(); ++i) {
            TRY(database_->run("INSERT INTO image_chains VALUES(?, ?, ?)",
                               {image.name, static_cast<std::int64_t>(i), image.others[i].to_string()}));
        }
        for (const Digest& blob : blobs) {
            TRY(database_->run("INSERT OR IGNORE INTO image_blobs VALUES(?, ?)", {image.name, blob.to_string()}));
        }
        return database_->run(
            "INSERT OR REPLACE INTO images VALUES(?, ?, ?, ?, ?, ?, ?)",
            {image.name, image.target.media_type, image.target.digest.to_string(),
             static_cast<std::int64_t>(image.target.size), image.config.to_string(), image.chain.to_string(), now()});
    });
}

Result<std::optional<ImageRecord>> Store::find_image(const std::string& name) {
    std::optional<ImageRecord> found;
    const std::array<Value, 1> values = {name};
    TRY(database_->run("SELECT name, media_type, digest, size, config, chain, updated FROM images WHERE name = ?",
                       values, [&](const Row& row) { found = image_of(row); }));
    if (!found) return found;
    TRY(database_->run("SELECT chain FROM image_chains WHERE name = ? ORDER BY place", values,
                       [&](const Row& row) { found->others.push_back(Chain::parse(row.text(0)).value_or(Chain{})); }));
    return found;
}

Result<std::vector<ImageRecord>> Store::images() {
    std::vector<ImageRecord> all;
    TRY(database_->run(
        "SELECT name, media_type, digest, size, config, chain, updated FROM images ORDER BY updated DESC, name", {},
        [&](const Row& row) { all.push_back(image_of(row)); }));
    std::map<std::string, std::vector<Chain>> others;
    TRY(database_->run("SELECT name, chain FROM image_chains ORDER BY name, place", {}, [&](const Row& row) {
        others[row.text(0)].push_back(Chain::parse(row.text(1)).value_or(Chain{}));
    }));
    for (auto& image : all) {
        if (const auto found = others.find(image.name); found != others.end()) image.others = std::move(found->second);
    }
    return all;
}

Result<bool> Store::remove_image(const std::string& name) {
    bool removed = false;
    TRY(database_->transaction([&]() -> Result<> {
        TRY(database_->run("DELETE FROM image_blobs WHERE name = ?", {name}));
        TRY(database_->run("DELETE FROM image_chains WHERE name = ?", {name}));
        TRY(database_->run("DELETE FROM images WHERE name = ?", {name}));
        removed = database_->changes() > 0;
        return {};
    }));
    return removed;
}

// Cache records.

Result<std::vector<std::string>> Store::cache_links(const std::string& from, const std::string& link) {
    std::vector<std::string> targets;
    const std::array<Value, 2> values = {from, link};
    TRY(database_->run("SELECT target FROM links WHERE source = ? AND link = ?", values,
                       [&](const Row& row) { targets.push_back(row.text(0)); }));
    return targets;
}

Result<std::vector<CacheLinkRow>> Store::cache_links_to(const std::string& to) {
    std::vector<CacheLinkRow> links;
    const std::array<Value, 1> values = {to};
    TRY(database_->run("SELECT source, link FROM links WHERE target = ? ORDER BY source, link", values,
                       [&](const Row& row) { links.push_back({row.text(0), row.text(1), to}); }));
    return links;
}

Result<std::vector<CacheResultRow>> Store::cache_results(const std::string& key) {
    std::vector<CacheResultRow> rows;
    const std::array<Value, 1> values = {key};
    TRY(database_->run("SELECT key, result, created FROM results WHERE key = ?", values, [&](const Row& row) {
        rows.push_back({row.text(0), row.text(1), Timestamp{std::chrono::nanoseconds(row.integer(2))}});
    }));
    return rows;
}

Result<> Store::add_cache(const std::vector<CacheLinkRow>& links, const std::vector<CacheResultRow>& results) {
    return database_->transaction([&]() -> Result<> {
        for (const auto& link : links) {
            TRY(database_->run("INSERT OR IGNORE INTO links VALUES(?, ?, ?)", {link.from, link.link, link.to}));
        }
        for (const auto& result : results) {
            TRY(database_->run("INSERT OR REPLACE INTO results VALUES(?, ?, ?)",
                               {result.key, result.result, result.created.time_since_epoch().count()}));
        }
        return {};
    });
}

Result<> Store::drop_cache_result(const std::string& result) {
    return database_->run("DELETE FROM results WHERE result = ?", {result});
}

Result<> Store::drop_cache_results_with(LayerId layer) {
    return database_->run("DELETE FROM results WHERE ',' || result || ',' LIKE ?", {fmt::format("%,{},%", layer)});
}

Result<std::vector<LayerId>> Store::lazy_layers_of(const Digest& blob) {
    std::vector<LayerId> ids;
    // "DIGEST SIZE TYPE": what begins with the digest and a blank.
    const std::array<Value, 2> values = {blob.to_string() + " ", blob.to_string() + "!"};
    TRY(database_->run("SELECT id FROM layers WHERE on_disk = 0 AND lazy_blob >= ? AND lazy_blob < ?", values,
                       [&](const Row& row) { ids.push_back(row.integer(0)); }));
    return ids;
}

// Facts and builds.

Result<std::optional<Fact>> Store::fact(const std::string& key) {
    std::optional<Fact> found;
    const std::array<Value, 1> values = {key};
    TRY(database_->run("SELECT value, time FROM facts WHERE key = ?", values, [&](const Row& row) {
        found = Fact{row.text(0), Timestamp{std::chrono::nanoseconds(row.integer(1))}};
    }));
    return found;
}

Result<> Store::set_fact(const std::string& key, const std::string& value) {
    return database_->run("INSERT OR REPLACE INTO facts VALUES(?, ?, ?)", {key, value, now()});
}

Result<> Store::put_build(const BuildRecord& build) {
    const Value completed = build.completed ? Value(build.completed->time_since_epoch().count()) : Value(nullptr);
    std::vector<std::string> old;
    TRY(database_->transaction([&]() -> Result<> {
        TRY(database_->run("INSERT OR REPLACE INTO builds VALUES(?, ?, ?, ?, ?, ?, ?)",
                           {build.ref, build.description, build.started.time_since_epoch().count(), completed,
                            build.error, std::int64_t{build.steps}, std::int64_t{build.cached_steps}}));
        const std::array<Value, 1> values = {kBuilds};
        TRY(database_->run("SELECT ref FROM builds ORDER BY started DESC LIMIT -1 OFFSET ?", values,
                           [&](const Row& row) { old.push_back(row.text(0)); }));
        for (const auto& ref : old) TRY(database_->run("DELETE FROM builds WHERE ref = ?", {ref}));
        return {};
    }));
    for (const auto& ref : old) ::unlinkat(dir_.fd(), ("logs/" + ref + ".log").c_str(), 0);
    return {};
}

Result<std::vector<BuildRecord>> Store::builds() {
    std::vector<BuildRecord> all;
    TRY(database_->run(
        "SELECT ref, description, started, completed, error, steps, cached FROM builds ORDER BY started DESC", {},
        [&](const Row& row) {
            BuildRecord build;
            build.ref = row.text(0);
            build.description = row.text(1);
            build.started = Timestamp{std::chrono::nanoseconds(row.integer(2))};
            if (!row.is_null(3)) build.completed = Timestamp{std::chrono::nanoseconds(row.integer(3))};
            build.error = row.text(4);
            build.steps = static_cast<int>(row.integer(5));
            build.cached_steps = static_cast<int>(row.integer(6));
            all.push_back(std::move(build));
        }));
    return all;
}

}  // namespace cooper::store
