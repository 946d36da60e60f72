#include "store/settle.hpp"

#include "base/log.hpp"
#include "base/text.hpp"

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <fcntl.h>
#include <set>
#include <sys/stat.h>
#include <unistd.h>

namespace cooper::store {

namespace {

constexpr const char* kBootFile = "boot";  // the boot of the machine that the store was used in last
constexpr std::int64_t kYoungSeconds = 3'600;
constexpr LayerId kBetweenSweeps = 32;  // commits
constexpr std::size_t kMaxPath = 3'000;
constexpr std::int64_t kNsPerSecond = 1'000'000'000;

// Empty when the machine does not say.
std::string boot_of_machine() {
    const sys::Fd file(::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
    if (!file.valid()) return {};
    return std::string(trim(sys::read_to_end(file.get(), 64).value_or(std::string())));
}

std::string noted_boot(const sys::RootedDir& dir) {
    const sys::Fd file(::openat(dir.fd(), kBootFile, O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!file.valid()) return {};
    return std::string(trim(sys::read_to_end(file.get(), 64).value_or(std::string())));
}

// A file that the power failure has cut is another boot, too.
Result<> note_boot(const sys::RootedDir& dir, const std::string& boot) {
    const std::string fresh = fmt::format("tmp/boot-{}", ::getpid());
    const sys::Fd file(::openat(dir.fd(), fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (!file.valid()) return fail_errno(errno, "note the boot of the machine");
    TRY(sys::write_all(file.get(), as_bytes(boot)));
    if (::renameat(dir.fd(), fresh.c_str(), dir.fd(), kBootFile) != 0)
        return fail_errno(errno, "note the boot of the machine");
    return {};
}

// Bytes of the regular files of a tree; nullopt when it cannot be read, or a file has a hole: room that was reserved
// for what was never written looks the same. What was meant to be sparse is made again, too.
std::optional<std::uint64_t> bytes_of_whole_files(const sys::RootedDir& dir, const std::string& top_name) {
    const sys::Fd top(::openat(dir.fd(), top_name.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!top.valid()) return std::nullopt;
    std::uint64_t bytes = 0;
    std::set<ino_t> seen;
    // A directory at a time: few descriptors, however wide or deep it is.
    std::vector<std::string> pending = {"."};
    while (!pending.empty()) {
        const std::string path = std::move(pending.back());
        pending.pop_back();
        const sys::Fd folder(::openat(top.get(), path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
        if (!folder.valid()) return std::nullopt;
        const auto entries = sys::list_dir(folder.get());
        if (!entries) return std::nullopt;
        for (const auto& entry : *entries) {
            const char* name = entry.name.c_str();
            struct stat st{};
            if (::fstatat(folder.get(), name, &st, AT_SYMLINK_NOFOLLOW) != 0) return std::nullopt;
            if (S_ISDIR(st.st_mode)) {
                if (path.size() > kMaxPath) return std::nullopt;
                pending.push_back(path + "/" + entry.name);
                continue;
            }
            if (!S_ISREG(st.st_mode) || (st.st_nlink > 1 && !seen.insert(st.st_ino).second)) continue;
            const sys::Fd file(::openat(folder.get(), name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
            if (!file.valid() && errno != EACCES) return std::nullopt;  // without root it may be another user's
            if (file.valid() && st.st_size > 0 && ::lseek(file.get(), 0, SEEK_HOLE) < st.st_size) return std::nullopt;
            bytes += static_cast<std::uint64_t>(st.st_size);
        }
    }
    return bytes;
}

struct YoungLayer {
    LayerId id = 0;
    std::uint64_t size_bytes = 0;
    bool can_be_fetched = false;
    std::string description;
};

bool has_layer(const ImageRecord& image, LayerId id) {
    const auto in = [id](const Chain& chain) { return std::ranges::find(chain.layers, id) != chain.layers.end(); };
    return in(image.chain) || std::ranges::any_of(image.others, in);
}

Result<> forget(Store& store, const sys::RootedDir& dir, const YoungLayer& layer) {
    Database& database = store.database();
    log::warn("a layer was not on the disk when the machine went down; what made it will run again",
              {{"layer", layer.description}});
    TRY(database.transaction([&]() -> Result<> {
        if (layer.can_be_fetched) {
            return database.run("UPDATE layers SET on_disk = 0, size = 0, disk = NULL, extra = 0 WHERE id = ?",
                                {layer.id});
        }
        for (const auto& image : TRY(store.images())) {
            if (!has_layer(image, layer.id)) continue;
            log::warn("an image has lost a layer with it and is forgotten", {{"image", image.name}});
            TRY(store.remove_image(image.name));
        }
        TRY(store.drop_cache_results_with(layer.id));
        TRY(database.run("DELETE FROM layer_blobs WHERE layer = ?", {layer.id}));
        TRY(database.run("DELETE FROM holds WHERE layer = ?", {layer.id}));
        return database.run("DELETE FROM layers WHERE id = ?", {layer.id});
    }));
    return remove_deep_tree(dir, fmt::format("layers/{}", layer.id));
}

Result<> check_layers(Store& store, const sys::RootedDir& dir) {
    std::vector<YoungLayer> young;
    TRY(store.database().run(
        "SELECT layers.id, size, lazy_blob, description FROM young JOIN layers ON layers.id = young.layer "
        "WHERE on_disk = 1",
        {}, [&](const Row& row) {
            young.push_back({row.integer(0), static_cast<std::uint64_t>(row.integer(1)), !row.is_null(2), row.text(3)});
        }));
    for (const auto& layer : young) {
        const auto found = bytes_of_whole_files(dir, fmt::format("layers/{}/fs", layer.id));
        if (found && *found >= layer.size_bytes) continue;
        TRY(forget(store, dir, layer));
    }
    return {};
}

// Of blobs the digest is known. Those that came within an hour of the newest: the machine was up that much longer.
Result<> check_blobs(Store& store, const sys::RootedDir& dir) {
    const sys::RootedDir blobs = TRY(dir.open_dir("blobs/sha256"));
    std::vector<std::pair<std::string, std::int64_t>> all;
    std::int64_t newest = 0;
    for (const auto& entry : TRY(sys::list_dir(blobs.fd()))) {
        struct stat st{};
        if (::fstatat(blobs.fd(), entry.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) continue;
        all.emplace_back(entry.name, st.st_ctim.tv_sec);
        newest = std::max<std::int64_t>(newest, st.st_ctim.tv_sec);
    }
    // What has been looked at after an earlier start needs no second look.
    const auto before = TRY(store.fact("settled"));
    const std::int64_t looked_at = before ? before->time.time_since_epoch().count() / kNsPerSecond : 0;
    std::vector<std::byte> buffer(std::size_t{256} << 10U);
    for (const auto& [name, changed] : all) {
        if (changed < newest - kYoungSeconds || changed < looked_at) continue;
        const sys::Fd file(::openat(blobs.fd(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
        codec::Sha256 hash;
        bool whole = file.valid();
        while (whole) {
            const auto got = sys::read_some(file.get(), buffer);
            if (got && *got > 0) {
                hash.update(std::span<const std::byte>(buffer).first(*got));
                continue;
            }
            whole = got && hash.finish().hex() == name;
            break;
        }
        if (whole) continue;
        log::warn("a blob was not on the disk when the machine went down; it is fetched or made again",
                  {{"blob", name}});
        if (::unlinkat(blobs.fd(), name.c_str(), 0) != 0 && errno != ENOENT)
            return fail_errno(errno, "remove a damaged blob");
    }
    return store.set_fact("settled", "");
}

}  // namespace

Result<> note_young(Database& database, LayerId id) {
    timespec up{};
    ::clock_gettime(CLOCK_MONOTONIC, &up);
    const auto now = static_cast<std::int64_t>(up.tv_sec);
    TRY(database.run("INSERT OR REPLACE INTO young VALUES(?, ?)", {id, now}));
    if (id % kBetweenSweeps != 0) return {};
    return database.run("DELETE FROM young WHERE made < ?", {now - kYoungSeconds});
}

Result<> settle(Store& store, const sys::RootedDir& dir) {
    const std::string boot = boot_of_machine();
    if (boot.empty() || noted_boot(dir) == boot) return {};
    const auto lock = TRY(sys::FileLock::acquire_at(dir.fd(), "locks/settle", sys::LockMode::exclusive, Stop{}));
    if (noted_boot(dir) == boot) return {};  // another process has done it meanwhile
    TRY(check_layers(store, dir));
    TRY(check_blobs(store, dir));
    TRY(store.database().run("DELETE FROM young", {}));
    return note_boot(dir, boot);
}

}  // namespace cooper::store
