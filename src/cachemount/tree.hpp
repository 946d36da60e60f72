// A cache mount as it lies on this machine, and what is remembered of it since it last was the same as one elsewhere.
//
// Files are read while others may write them: one that changes while it is read is left as it was known.
// Sockets, FIFOs, devices and names that cannot travel are left out. Any thread.
#pragma once

#include "base/stop.hpp"
#include "cachemount/index.hpp"
#include "sys/rooted_dir.hpp"

#include <functional>
#include <map>
#include <optional>
#include <string>

namespace cooper::cachemount {

// A file that has the same is not read again.
struct Seen {
    std::uint64_t size = 0;
    std::uint64_t inode = 0;
    std::int64_t mtime_ns = 0;
    std::int64_t ctime_ns = 0;
    friend bool operator==(const Seen&, const Seen&) = default;
};

struct LocalEntry {
    Entry entry;  // of files without chunks when they have not been read
    Seen seen;
    bool read = false;       // entry.chunks is what is in it
    bool unchanged = false;  // since it was remembered
    bool unsteady = false;   // it changed while it was read
};
using LocalTree = std::map<std::string, LocalEntry>;

// What both sides had when they last met.
struct Synced {
    struct Known {
        Entry entry;
        Seen seen;
    };
    std::string head;            // digest of the manifest; empty when something is still to be done here
    std::string lineage;         // of that head; another one has been begun anew, and nobody has met it
    std::int64_t looked_ns = 0;  // when the files began to be looked at
    std::map<std::string, Known> entries;
};
[[nodiscard]] std::int64_t now_ns();
// Lost or damaged: nullopt, as if they had never met.
[[nodiscard]] std::optional<Synced> load_synced(const sys::RootedDir& side, const std::string& name);
[[nodiscard]] Result<> save_synced(const sys::RootedDir& side, const std::string& name, const Synced& synced);

struct ScanOptions {
    const Synced* synced = nullptr;
    // Files are read and cut; empty: only looked at.
    std::function<Result<>(const Chunk& chunk, std::string_view bytes)> on_chunk;
    // Whether a file that has not changed need not be read: all of its chunks are elsewhere.
    std::function<bool(const Entry& entry)> is_known;
};
[[nodiscard]] Result<LocalTree> scan(const sys::RootedDir& mount, const ScanOptions& options, const Stop& stop);
// What a file is cut into.
[[nodiscard]] Result<std::vector<Chunk>> cut_file(const sys::RootedDir& mount, const std::string& path,
                                                  const Stop& stop);
[[nodiscard]] Result<LocalEntry> look_at(const sys::RootedDir& mount, const std::string& path);

}  // namespace cooper::cachemount
