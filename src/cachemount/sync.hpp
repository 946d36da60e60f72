// A cache mount to a place and back.
//
// save() uploads what is new, and says so in a part of the index; the head is exchanged only when nobody else did
// meanwhile, else both are put together once more. restore() writes what is missing or newer. Neither runs a step; the
// caller holds the mount: save() may run beside steps, restore() may not.
#pragma once

#include "cachemount/place.hpp"
#include "sys/rooted_dir.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace cooper::cachemount {

struct MountHere {
    const sys::RootedDir& files;
    const sys::RootedDir& side;  // a directory of the same file system, for what is remembered and for half files
};

struct SaveTo {
    std::string name;  // of the head
    std::string id;    // of the mount
    std::string scope;
    std::vector<std::string> also_read;  // heads of the same place whose packs may be shared
};

struct Saved {
    std::uint64_t mount_bytes = 0;     // of files
    std::uint64_t uploaded_bytes = 0;  // packs, index and manifest
    std::uint64_t changed = 0;         // files and directories said anew
    std::uint64_t unsteady = 0;        // left as they were known: written to meanwhile
    int attempts = 1;
};
[[nodiscard]] Result<Saved> save(Place& place, const SaveTo& to, const MountHere& mount, const Stop& stop);

struct Restored {
    std::string name;           // the head that was found
    std::uint64_t written = 0;  // files and directories
    std::uint64_t removed = 0;
    std::uint64_t fetched_bytes = 0;
    std::uint64_t reused_bytes = 0;  // that were here already
    std::uint64_t left_out = 0;      // owners or attributes that cannot be given here
};
// From the first of these heads that is there; nullopt when none is.
[[nodiscard]] Result<std::optional<Restored>> restore(Place& place, const std::vector<std::string>& names,
                                                      const MountHere& mount, const Stop& stop);

}  // namespace cooper::cachemount
