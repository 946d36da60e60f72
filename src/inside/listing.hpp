// Listing: the entries of one layer, read from its tar in one pass. Contents are hashed and forgotten.
#pragma once

#include "base/stop.hpp"
#include "inside/image.hpp"
#include "inside/paths.hpp"

#include <array>
#include <deque>
#include <memory>

namespace cooper::inside {

enum class Kind : std::uint8_t { file, directory, symlink, char_device, block_device, fifo };
[[nodiscard]] std::string_view kind_name(Kind kind);

struct Entry {
    Paths::Id path = Paths::kRoot;
    Kind kind = Kind::file;
    bool hard_link = false;  // a further name of the file at `link`; size 0
    std::uint16_t mode = 0;
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::uint64_t size = 0;  // of a file
    std::int64_t mtime_s = 0;
    // The beginning of a sha256: of a file's bytes, a link's target, a device's numbers.
    std::array<std::uint8_t, 16> content{};
    std::uint64_t xattrs = 0;       // the beginning of a sha256 of names and values; 0 = none
    Paths::Id link = Paths::kNone;  // of hard links
    std::uint32_t target = 0;       // of symlinks: where in Listing::targets, which ends with a NUL
};

struct Listing {
    std::deque<Entry> entries;         // in the order of the archive; grows without being copied
    std::vector<Paths::Id> whiteouts;  // what they remove
    std::vector<Paths::Id> opaques;    // directories whose content of below is hidden
    std::string targets;

    [[nodiscard]] std::string_view target_of(const Entry& entry) const { return targets.data() + entry.target; }
};

// Names in an archive are hostile; a layer that is broken is an error that names it by its number.
struct Listings {
    Paths paths;
    std::vector<std::shared_ptr<const Listing>> layers;  // those of the images one after another
};
struct ListingLimits {
    // Of all layers together, about 100 bytes of memory each. Entries that repeat each other cost an archive nearly
    // nothing.
    std::uint64_t max_entries = 20'000'000;
};
// All layers of all images, several at a time; those with one diff id once.
[[nodiscard]] Result<Listings> read_layers(const std::vector<const Image*>& images, const ListingLimits& limits,
                                           std::size_t threads, const Stop& stop);

}  // namespace cooper::inside
