#include "cachemount/tree.hpp"

#include "base/bytes.hpp"
#include "cachemount/chunker.hpp"
#include "codec/compression.hpp"
#include "codec/wire.hpp"
#include "codec/zstd_frame.hpp"
#include "sys/xattr.hpp"

#include <algorithm>
#include <cstring>
#include <deque>
#include <fcntl.h>
#include <set>
#include <unistd.h>

namespace cooper::cachemount {

namespace {

constexpr std::size_t kReadBytes = std::size_t{1} << 20U;
constexpr std::size_t kMaxSyncedBytes = std::size_t{1} << 30U;
constexpr int kMaxReads = 3;  // of a file that changes
// A file that was changed so shortly before it was looked at may be changed again within the same tick of the clock.
constexpr std::int64_t kTickNs = 20'000'000;
constexpr std::uint64_t kDoubtful = 0;  // inode of a file that only its content can tell from another
constexpr std::uint64_t kSyncedVersion = 1;

std::int64_t to_ns(const timespec& time) { return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec; }

Seen seen_of(const struct stat& st) {
    return {static_cast<std::uint64_t>(st.st_size), st.st_ino, to_ns(st.st_mtim), to_ns(st.st_ctim)};
}

bool may_travel(const std::string& xattr) {
    return !xattr.starts_with("trusted.overlay.") && !xattr.starts_with("user.overlay.");
}

Result<LocalEntry> entry_of(int fd, const struct stat& st) {
    LocalEntry local;
    Entry& entry = local.entry;
    entry.type = S_ISREG(st.st_mode)   ? EntryType::file
                 : S_ISDIR(st.st_mode) ? EntryType::directory
                 : S_ISLNK(st.st_mode) ? EntryType::symlink
                                       : EntryType::gone;
    entry.mode = st.st_mode & 07777U;
    entry.uid = st.st_uid;
    entry.gid = st.st_gid;
    entry.mtime_ns = to_ns(st.st_mtim);
    entry.stamp_ns = to_ns(st.st_ctim);
    local.seen = seen_of(st);
    if (entry.type == EntryType::gone) return local;
    if (entry.type == EntryType::symlink) {
        std::array<char, 4096> buffer{};
        const ssize_t n = ::readlinkat(fd, "", buffer.data(), buffer.size());
        if (n <= 0 || static_cast<std::size_t>(n) == buffer.size()) return fail_errno(errno, "read a link");
        entry.link.assign(buffer.data(), static_cast<std::size_t>(n));
    }
    for (auto& [name, value] : TRY(sys::list_xattrs(fd))) {
        if (may_travel(name)) entry.xattrs.emplace(name, std::move(value));
    }
    return local;
}

Result<std::vector<Chunk>> read_chunks(int fd, std::uint64_t size_bytes, const ScanOptions& options, const Stop& stop) {
    std::vector<Chunk> chunks;
    const ChunkSizes sizes = chunk_sizes_for(size_bytes);
    Bytes buffer(std::min<std::uint64_t>(size_bytes + 1, kReadBytes) + sizes.most);
    std::size_t have = 0;
    bool ended = false;
    while (true) {
        TRY(check_stop(stop));
        while (!ended && have < buffer.size()) {
            const std::size_t got = TRY(sys::read_some(fd, std::span(buffer).subspan(have)));
            ended = got == 0;
            have += got;
        }
        std::size_t at = 0;
        while (at < have && (ended || have - at >= sizes.most)) {
            const std::size_t length = first_chunk(std::span(buffer).subspan(at, have - at), sizes);
            const std::string_view bytes = as_text(std::span(buffer).subspan(at, length));
            const Chunk chunk{chunk_id(bytes), static_cast<std::uint32_t>(length)};
            TRY(options.on_chunk(chunk, bytes));
            chunks.push_back(chunk);
            at += length;
        }
        std::memmove(buffer.data(), buffer.data() + at, have - at);
        have -= at;
        if (ended) return chunks;
    }
}

class Scanner {
public:
    Scanner(const sys::RootedDir& mount, const ScanOptions& options, const Stop& stop)
        : mount_(mount), options_(options), stop_(stop) {}

    Result<LocalTree> run() {
        std::deque<std::string> directories = {""};
        TRY(add(""));
        while (!directories.empty()) {
            TRY(check_stop(stop_));
            const std::string directory = std::move(directories.front());
            directories.pop_front();
            const auto opened = mount_.open_dir(directory.empty() ? "/" : directory);
            if (!opened) continue;  // gone meanwhile
            std::vector<std::string> names;
            for (auto& entry : TRY(sys::list_dir(opened->fd()))) names.push_back(std::move(entry.name));
            std::ranges::sort(names);
            for (const auto& name : names) {
                const std::string path = directory.empty() ? name : directory + "/" + name;
                if (!check_path(path)) continue;
                if (tree_.size() >= kMaxEntries)
                    return fail(Code::resource_exhausted, Blame::user, "more than {} files", kMaxEntries);
                TRY(add(path));
                const auto added = tree_.find(path);
                if (added != tree_.end() && added->second.entry.type == EntryType::directory)
                    directories.push_back(path);
            }
        }
        name_groups();
        return std::move(tree_);
    }

private:
    Result<> add(const std::string& path) {
        TRY(check_stop(stop_));
        auto fd = mount_.open(path.empty() ? "/" : path, O_PATH, sys::Follow::no, 0);
        if (!fd) return fd.error().code() == Code::not_found ? Result<>() : Result<>(fd.error());
        struct stat st{};
        if (::fstatat(fd->get(), "", &st, AT_EMPTY_PATH) != 0) return fail_errno(errno, path);
        LocalEntry local = TRY_CONTEXT(entry_of(fd->get(), st), "{}", path);
        if (local.entry.type == EntryType::gone) return {};
        if (local.entry.type == EntryType::file && st.st_nlink > 1) names_[{st.st_dev, st.st_ino}].push_back(path);
        const Synced::Known* known = nullptr;
        if (options_.synced != nullptr) {
            const auto found = options_.synced->entries.find(path);
            if (found != options_.synced->entries.end()) known = &found->second;
        }
        if (known != nullptr && known->seen == local.seen && known->entry.type == local.entry.type) {
            local.unchanged = true;
            if (local.entry.type != EntryType::file || !options_.on_chunk || options_.is_known(known->entry)) {
                local.entry = known->entry;
                local.read = true;
            }
        }
        if (known != nullptr && known->seen.inode == kDoubtful && !options_.on_chunk &&
            local.entry.type == EntryType::file && known->seen.ctime_ns == local.seen.ctime_ns) {
            const auto chunks = cut_file(mount_, path, stop_);
            local.unchanged = chunks && *chunks == known->entry.chunks;
            if (local.unchanged) local.entry = known->entry;
            local.read = local.unchanged;
        }
        if (!local.read && options_.on_chunk && local.entry.type == EntryType::file) TRY(read(path, local));
        tree_.emplace(path, std::move(local));
        return {};
    }

    Result<> read(const std::string& path, LocalEntry& local) {
        for (int attempt = 0; attempt < kMaxReads; ++attempt) {
            const auto fd = mount_.open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY, sys::Follow::no, 0);
            if (!fd) break;
            struct stat before{}, after{};
            if (::fstat(fd->get(), &before) != 0) return fail_errno(errno, path);
            if (!S_ISREG(before.st_mode)) break;
            const auto size = static_cast<std::uint64_t>(before.st_size);
            if (size > kMaxMountBytes) break;
            auto chunks = TRY_CONTEXT(read_chunks(fd->get(), size, options_, stop_), "{}", path);
            if (::fstat(fd->get(), &after) != 0) return fail_errno(errno, path);
            if (seen_of(before) != seen_of(after)) continue;
            LocalEntry fresh = TRY_CONTEXT(entry_of(fd->get(), after), "{}", path);
            const bool unchanged = local.unchanged && fresh.seen == local.seen;
            const std::int64_t stamp = local.entry.stamp_ns;
            local = std::move(fresh);
            if (unchanged) local.entry.stamp_ns = stamp;
            local.unchanged = unchanged;
            local.entry.chunks = std::move(chunks);
            local.read = true;
            return {};
        }
        local.unsteady = true;
        return {};
    }

    // A file with several names in the mount: each says the first of them.
    void name_groups() {
        for (const auto& [inode, paths] : names_) {
            std::vector<std::string> present;
            for (const auto& path : paths) {
                if (tree_.contains(path)) present.push_back(path);
            }
            const auto first = std::ranges::min_element(present);
            for (const auto& path : present) tree_.at(path).entry.group = present.size() > 1 ? *first : std::string();
        }
    }

    const sys::RootedDir& mount_;
    const ScanOptions& options_;
    const Stop& stop_;
    LocalTree tree_;
    std::map<std::pair<dev_t, ino_t>, std::vector<std::string>> names_;
};

// What is remembered is written by us and read by us: chunks are plain.
std::string marshal_known(const std::string& path, const Synced::Known& known) {
    const Entry& entry = known.entry;
    codec::WireWriter out = begin_entry(path, entry);
    std::string ids;
    codec::WireWriter sizes;
    for (const Chunk& chunk : entry.chunks) {
        ids.append(reinterpret_cast<const char*>(chunk.id.data()), chunk.id.size());
        sizes.varint(chunk.size);
    }
    out.text(10, ids);
    out.integer(11, entry.stamp_ns);
    out.text(12, sizes.bytes());
    out.uint(13, known.seen.size);
    out.uint(14, known.seen.inode);
    out.integer(15, known.seen.mtime_ns);
    out.integer(16, known.seen.ctime_ns);
    return out.take();
}

Result<std::pair<std::string, Synced::Known>> parse_known(std::string_view text) {
    std::pair<std::string, Synced::Known> out;
    auto& [path, known] = out;
    Entry& entry = known.entry;
    std::string_view ids, sizes;
    codec::WireReader reader(text);
    while (!reader.done()) {
        const auto field = TRY(reader.next());
        switch (field.id) {
            case 1:
                path = field.bytes;
                break;
            case 2:
                entry.type = static_cast<EntryType>(field.number);
                break;
            case 3:
                entry.mode = static_cast<std::uint32_t>(field.number);
                break;
            case 4:
                entry.uid = static_cast<std::uint32_t>(field.number);
                break;
            case 5:
                entry.gid = static_cast<std::uint32_t>(field.number);
                break;
            case 6:
                entry.mtime_ns = field.int64();
                break;
            case 7:
                entry.link = field.bytes;
                break;
            case 8:
                entry.group = field.bytes;
                break;
            case 9: {
                std::string name, value;
                codec::WireReader pair(field.bytes);
                while (!pair.done()) {
                    const auto part = TRY(pair.next());
                    (part.id == 1 ? name : value) = part.bytes;
                }
                entry.xattrs.emplace(std::move(name), std::move(value));
                break;
            }
            case 10:
                ids = field.bytes;
                break;
            case 11:
                entry.stamp_ns = field.int64();
                break;
            case 12:
                sizes = field.bytes;
                break;
            case 13:
                known.seen.size = field.number;
                break;
            case 14:
                known.seen.inode = field.number;
                break;
            case 15:
                known.seen.mtime_ns = field.int64();
                break;
            case 16:
                known.seen.ctime_ns = field.int64();
                break;
            default:
                break;
        }
    }
    codec::WireReader numbers(sizes);
    for (; ids.size() >= sizeof(ChunkId); ids.remove_prefix(sizeof(ChunkId))) {
        Chunk chunk;
        std::memcpy(chunk.id.data(), ids.data(), chunk.id.size());
        chunk.size = static_cast<std::uint32_t>(TRY(numbers.varint()));
        entry.chunks.push_back(chunk);
    }
    return out;
}

Result<Synced> parse_synced(const std::string& text) {
    Synced synced;
    std::uint64_t version = 0;
    codec::WireReader reader(text);
    while (!reader.done()) {
        const auto field = TRY(reader.next());
        if (field.id == 1) version = field.number;
        if (field.id == 2) synced.head = field.bytes;
        if (field.id == 4) synced.lineage = field.bytes;
        if (field.id == 3) synced.entries.insert(TRY(parse_known(field.bytes)));
    }
    if (version != kSyncedVersion) return fail(Code::data_loss, Blame::world, "of another version");
    return synced;
}

}  // namespace

std::int64_t now_ns() {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    return to_ns(now);
}

std::optional<Synced> load_synced(const sys::RootedDir& side, const std::string& name) {
    auto packed = side.read_file(name, kMaxSyncedBytes);
    if (!packed) return std::nullopt;
    const auto source =
        codec::make_decompressor(std::make_unique<StringSource>(std::move(*packed)), codec::Compression::zstd);
    if (!source) return std::nullopt;
    const auto text = read_all(**source, kMaxSyncedBytes);
    if (!text) return std::nullopt;
    auto synced = parse_synced(*text);
    if (!synced) return std::nullopt;
    return std::move(*synced);
}

Result<> save_synced(const sys::RootedDir& side, const std::string& name, const Synced& synced) {
    codec::WireWriter out;
    out.uint(1, kSyncedVersion);
    out.text(2, synced.head);
    out.text(4, synced.lineage);
    const std::int64_t racy = synced.looked_ns - kTickNs;
    for (const auto& [path, known] : synced.entries) {
        if (known.seen.ctime_ns >= racy && known.entry.type == EntryType::file) {
            Synced::Known doubtful = known;
            doubtful.seen.inode = kDoubtful;
            out.element(3, marshal_known(path, doubtful));
        } else {
            out.element(3, marshal_known(path, known));
        }
    }
    codec::ZstdFrames frames(1);
    const std::string packed = TRY(frames.compress(out.bytes()));
    const std::string fresh = name + ".new";
    {
        sys::Fd file = TRY(side.open(fresh, O_WRONLY | O_CREAT | O_TRUNC, sys::Follow::no, 0600));
        TRY(sys::write_all(file.get(), packed));
        TRY(std::move(file).close());
    }
    if (::renameat(side.fd(), fresh.c_str(), side.fd(), name.c_str()) != 0) return fail_errno(errno, name);
    return {};
}

Result<LocalTree> scan(const sys::RootedDir& mount, const ScanOptions& options, const Stop& stop) {
    return Scanner(mount, options, stop).run();
}

Result<std::vector<Chunk>> cut_file(const sys::RootedDir& mount, const std::string& path, const Stop& stop) {
    const sys::Fd file = TRY(mount.open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY, sys::Follow::no, 0));
    struct stat st{};
    if (::fstat(file.get(), &st) != 0) return fail_errno(errno, path);
    if (!S_ISREG(st.st_mode)) return bad_input("{} is no file", path);
    ScanOptions ignore;
    ignore.on_chunk = [](const Chunk&, std::string_view) -> Result<> { return {}; };
    return read_chunks(file.get(), static_cast<std::uint64_t>(st.st_size), ignore, stop);
}

Result<LocalEntry> look_at(const sys::RootedDir& mount, const std::string& path) {
    const sys::Fd fd = TRY(mount.open(path.empty() ? "/" : path, O_PATH, sys::Follow::no, 0));
    struct stat st{};
    if (::fstatat(fd.get(), "", &st, AT_EMPTY_PATH) != 0) return fail_errno(errno, path);
    return TRY_CONTEXT(entry_of(fd.get(), st), "{}", path);
}

}  // namespace cooper::cachemount
