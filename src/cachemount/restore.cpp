#include "base/text.hpp"
#include "cachemount/chunker.hpp"
#include "cachemount/loaded.hpp"
#include "cachemount/merge.hpp"
#include "cachemount/pack_io.hpp"
#include "cachemount/sync.hpp"
#include "codec/sha256.hpp"
#include "sys/xattr.hpp"

#include <cerrno>
#include <fcntl.h>
#include <linux/openat2.h>
#include <map>
#include <set>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace cooper::cachemount {

namespace {

const std::string kIncoming = "incoming";

// Below root, through directories only: no link is followed, be it of the mount itself.
sys::Fd open_plain(int root, const std::string& path, int flags) {
    open_how how{};
    how.flags = static_cast<std::uint64_t>(flags) | O_CLOEXEC;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
    return sys::Fd(static_cast<int>(::syscall(SYS_openat2, root, path.empty() ? "." : path.c_str(), &how, sizeof how)));
}

std::string last_name(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    return slash == std::string::npos ? path : path.substr(slash + 1);
}

timespec to_timespec(std::int64_t ns) {
    constexpr std::int64_t kSecond = 1'000'000'000;
    std::int64_t seconds = ns / kSecond, rest = ns % kSecond;
    if (rest < 0) {
        --seconds;
        rest += kSecond;
    }
    return {.tv_sec = seconds, .tv_nsec = rest};
}

class Restoring {
public:
    Restoring(Place& place, const MountHere& mount, Loaded loaded, const Stop& stop)
        : place_(place), mount_(mount), loaded_(std::move(loaded)), stop_(stop) {}

    Result<Restored> run(std::string name, std::string head) {
        restored_.name = std::move(name);
        const std::string remembered = synced_name(place_, restored_.name);
        synced_ = load_synced(mount_.side, remembered);
        const Synced* const base = common(synced_, loaded_);
        const ScanOptions look{.synced = base, .on_chunk = {}, .is_known = {}};
        local_ = TRY(scan(mount_.files, look, stop_));
        const LocalChanges changes = changes_for_local(local_, base, loaded_.entries);
        TRY(check_room(changes));
        find_sources(changes);
        TRY(sys::remove_tree_at(mount_.side.fd(), kIncoming));
        if (::mkdirat(mount_.side.fd(), kIncoming.c_str(), 0700) != 0) return fail_errno(errno, kIncoming);
        incoming_ = sys::Fd(::openat(mount_.side.fd(), kIncoming.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        if (!incoming_.valid()) return fail_errno(errno, kIncoming);

        PackReader reader(place_, loaded_.there, wanted_);
        const auto written = write_all(changes, reader);
        restored_.fetched_bytes = reader.fetched_bytes();
        // Also of what there is when something fails on the way.
        finish_directories();
        TRY(sys::remove_tree_at(mount_.side.fd(), kIncoming));
        TRY(Result<>(written));
        remove_gone(changes);

        Synced now;
        now.head = std::move(head);
        now.lineage = loaded_.head.lineage;
        now.looked_ns = now_ns();
        now.entries = in_both(TRY(scan(mount_.files, look, stop_)), loaded_.entries);
        TRY(save_synced(mount_.side, remembered, now));
        return restored_;
    }

private:
    // What is written must fit; an index may promise anything.
    Result<> check_room(const LocalChanges& changes) {
        std::uint64_t bytes = 0;
        for (const auto& path : changes.write) bytes += loaded_.entries.at(path).size();
        struct statvfs room{};
        if (::fstatvfs(mount_.files.fd(), &room) != 0) return fail_errno(errno, "free space");
        const std::uint64_t free = std::uint64_t{room.f_bavail} * room.f_frsize;
        if (bytes > free)
            return fail(Code::resource_exhausted, Blame::user, "{} to restore, {} free", human_size(bytes),
                        human_size(free));
        return {};
    }

    struct Source {
        std::string path;
        std::uint64_t offset = 0;
    };

    // Chunks that are here already, in files that have not changed or in the ones that are to be replaced.
    void find_sources(const LocalChanges& changes) {
        for (const auto& path : changes.write) {
            for (const Chunk& chunk : loaded_.entries.at(path).chunks) wanted_.insert(chunk.id);
        }
        if (wanted_.empty()) return;
        const auto offer = [&](const std::string& path, const std::vector<Chunk>& chunks) {
            std::uint64_t offset = 0;
            for (const Chunk& chunk : chunks) {
                if (wanted_.contains(chunk.id)) sources_.try_emplace(chunk.id, Source{path, offset});
                offset += chunk.size;
            }
        };
        if (synced_) {
            for (const auto& [path, known] : synced_->entries) {
                const auto mine = local_.find(path);
                if (mine != local_.end() && mine->second.unchanged) offer(path, known.entry.chunks);
            }
        }
        for (const auto& path : changes.write) {
            const auto mine = local_.find(path);
            if (mine == local_.end() || mine->second.unchanged || mine->second.entry.type != EntryType::file) continue;
            if (const auto chunks = cut_file(mount_.files, path, stop_)) offer(path, *chunks);
        }
        for (const auto& [id, source] : sources_) wanted_.erase(id);
    }

    Result<std::string> bytes_of(const Chunk& chunk, PackReader& reader) {
        if (const auto source = sources_.find(chunk.id); source != sources_.end()) {
            const sys::Fd file = open_plain(mount_.files.fd(), source->second.path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
            std::string bytes(chunk.size, '\0');
            if (file.valid() &&
                ::pread(file.get(), bytes.data(), bytes.size(), static_cast<off_t>(source->second.offset)) ==
                    static_cast<ssize_t>(bytes.size()) &&
                chunk_id(bytes) == chunk.id) {
                restored_.reused_bytes += bytes.size();
                return bytes;
            }
            // Replaced meanwhile.
        }
        return reader.read(chunk, stop_);
    }

    Result<> write_all(const LocalChanges& changes, PackReader& reader) {
        for (const auto& path : changes.write) {
            TRY(check_stop(stop_));
            const Entry& entry = loaded_.entries.at(path);
            const sys::Fd parent =
                open_plain(mount_.files.fd(), std::string(parent_path(path)), O_RDONLY | O_DIRECTORY);
            if (!parent.valid()) {  // something else is here in its place, and is newer
                ++restored_.left_out;
                continue;
            }
            TRY_CONTEXT(write_one(parent.get(), path, entry, reader), "{}", path);
        }
        return {};
    }

    Result<> write_one(int parent, const std::string& path, const Entry& entry, PackReader& reader) {
        const std::string name = last_name(path);
        struct stat st{};
        const bool there = !path.empty() && ::fstatat(parent, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0;
        if (entry.type == EntryType::directory) {
            if (there && !S_ISDIR(st.st_mode) && ::unlinkat(parent, name.c_str(), 0) != 0)
                return fail_errno(errno, "remove");
            if (!path.empty() && !(there && S_ISDIR(st.st_mode)) && ::mkdirat(parent, name.c_str(), 0700) != 0)
                return fail_errno(errno, "create");
            directories_.push_back(path);
            ++restored_.written;
            return {};
        }
        // A directory that holds something stays.
        if (there && S_ISDIR(st.st_mode) && ::unlinkat(parent, name.c_str(), AT_REMOVEDIR) != 0) {
            ++restored_.left_out;
            return {};
        }
        const std::string fresh = std::to_string(count_++);
        if (entry.type == EntryType::symlink) {
            if (::symlinkat(entry.link.c_str(), incoming_.get(), fresh.c_str()) != 0)
                return fail_errno(errno, "create");
            const sys::Fd link(::openat(incoming_.get(), fresh.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
            set_owner(link.get(), entry);
            set_xattrs(link.get(), entry);
            const std::array<timespec, 2> times = {to_timespec(entry.mtime_ns), to_timespec(entry.mtime_ns)};
            static_cast<void>(::utimensat(incoming_.get(), fresh.c_str(), times.data(), AT_SYMLINK_NOFOLLOW));
        } else if (!link_to_other_name(path, entry, fresh)) {
            TRY(write_file(fresh, entry, reader));
            if (!entry.group.empty()) written_groups_.try_emplace(entry.group, path);
        }
        if (::renameat(incoming_.get(), fresh.c_str(), parent, name.c_str()) != 0) return fail_errno(errno, "create");
        ++restored_.written;
        return {};
    }

    // Another name of a file that is here is a link to it.
    bool link_to_other_name(const std::string& path, const Entry& entry, const std::string& fresh) {
        if (entry.group.empty()) return false;
        std::string other;
        if (const auto found = written_groups_.find(entry.group); found != written_groups_.end()) {
            other = found->second;
        } else if (entry.group != path && local_.contains(entry.group)) {
            other = entry.group;
        }
        const auto theirs = loaded_.entries.find(other);
        if (other.empty() || theirs == loaded_.entries.end() || !theirs->second.same_as(entry)) return false;
        const auto now = look_at(mount_.files, other);
        if (!now || now->entry.type != EntryType::file || now->seen.size != entry.size() ||
            now->entry.mtime_ns != entry.mtime_ns)
            return false;
        const sys::Fd parent = open_plain(mount_.files.fd(), std::string(parent_path(other)), O_RDONLY | O_DIRECTORY);
        return parent.valid() &&
               ::linkat(parent.get(), last_name(other).c_str(), incoming_.get(), fresh.c_str(), 0) == 0;
    }

    Result<> write_file(const std::string& fresh, const Entry& entry, PackReader& reader) {
        sys::Fd file(
            ::openat(incoming_.get(), fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
        if (!file.valid()) return fail_errno(errno, "create");
        for (const Chunk& chunk : entry.chunks) {
            TRY(check_stop(stop_));
            TRY(sys::write_all(file.get(), TRY(bytes_of(chunk, reader))));
        }
        set_owner(file.get(), entry);
        if (::fchmod(file.get(), entry.mode) != 0) return fail_errno(errno, "set mode");
        set_xattrs(file.get(), entry);
        const std::array<timespec, 2> times = {to_timespec(entry.mtime_ns), to_timespec(entry.mtime_ns)};
        if (::futimens(file.get(), times.data()) != 0) return fail_errno(errno, "set time");
        return std::move(file).close();
    }

    void set_owner(int fd, const Entry& entry) {
        if (::fchownat(fd, "", entry.uid, entry.gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0) ++restored_.left_out;
    }

    void set_xattrs(int fd, const Entry& entry) {
        for (const auto& [name, value] : entry.xattrs) {
            if (name.starts_with("trusted.overlay.") || name.starts_with("user.overlay.") ||
                !sys::set_xattr(fd, name, value))
                ++restored_.left_out;
        }
    }

    // What is in them first.
    void finish_directories() {
        for (auto path = directories_.rbegin(); path != directories_.rend(); ++path) {
            const Entry& entry = loaded_.entries.at(*path);
            const sys::Fd dir = open_plain(mount_.files.fd(), *path, O_RDONLY | O_DIRECTORY);
            if (!dir.valid()) continue;
            set_owner(dir.get(), entry);
            if (::fchmod(dir.get(), entry.mode) != 0) ++restored_.left_out;
            set_xattrs(dir.get(), entry);
            const std::array<timespec, 2> times = {to_timespec(entry.mtime_ns), to_timespec(entry.mtime_ns)};
            static_cast<void>(::futimens(dir.get(), times.data()));
        }
    }

    void remove_gone(const LocalChanges& changes) {
        for (const auto& path : changes.remove) {
            const sys::Fd parent =
                open_plain(mount_.files.fd(), std::string(parent_path(path)), O_RDONLY | O_DIRECTORY);
            if (!parent.valid()) continue;
            const bool directory = local_.at(path).entry.type == EntryType::directory;
            if (::unlinkat(parent.get(), last_name(path).c_str(), directory ? AT_REMOVEDIR : 0) == 0)
                ++restored_.removed;
        }
    }

    Place& place_;
    const MountHere& mount_;
    Loaded loaded_;
    const Stop& stop_;
    std::optional<Synced> synced_;
    LocalTree local_;
    std::set<ChunkId> wanted_;  // from elsewhere
    std::map<ChunkId, Source> sources_;
    sys::Fd incoming_;
    std::uint64_t count_ = 0;
    std::map<std::string, std::string> written_groups_;  // a name of the file, by its group
    std::vector<std::string> directories_;
    Restored restored_;
};

}  // namespace

Result<std::optional<Restored>> restore(Place& place, const std::vector<std::string>& names, const MountHere& mount,
                                        const Stop& stop) {
    for (const auto& name : names) {
        const auto manifest = TRY(place.read_head(name, stop));
        if (!manifest) continue;
        const std::string head = codec::sha256_of(*manifest).to_string();
        const auto synced = load_synced(mount.side, synced_name(place, name));
        if (synced && synced->head == head) return std::optional(Restored{.name = name});
        Loaded loaded = TRY(load_head(place, *manifest, stop));
        return std::optional(TRY(Restoring(place, mount, std::move(loaded), stop).run(name, head)));
    }
    return std::optional<Restored>();
}

}  // namespace cooper::cachemount
