// Stack: the layers of an image on top of each other: which entry made each file what it is, and what is stored but not
// seen. Hard links count as the file they name: its bytes are wasted when no name of it is left.
#pragma once

#include "inside/listing.hpp"

#include <span>

namespace cooper::inside {

// Why a stored file is not seen.
enum class Hidden : std::uint8_t {
    removed,      // deleted by a later layer
    replaced,     // by other bytes
    stored_again  // the same bytes, with another mode, owner, time or attributes
};

// What differs between two entries of one path.
struct Delta {
    bool kind = false, content = false, mode = false, owner = false, time = false, xattrs = false;
    [[nodiscard]] bool any() const { return kind || content || mode || owner || time || xattrs; }
    [[nodiscard]] bool only_time() const { return time && !(kind || content || mode || owner || xattrs); }
};
[[nodiscard]] Delta delta_of(const Entry& before, const Entry& after);

struct Waste {
    Paths::Id path = Paths::kRoot;
    std::uint32_t layer = 0;      // where it is stored
    std::uint32_t hidden_by = 0;  // the layer that hides it; may be the same
    Hidden why = Hidden::removed;
    Delta delta;  // of stored_again
    std::uint64_t bytes = 0;
    std::uint32_t mode_before = 0, mode_after = 0;  // of stored_again
};

struct LayerFacts {
    std::uint64_t files = 0, directories = 0, links = 0, whiteouts = 0;
    std::uint64_t bytes = 0;         // of files
    std::uint64_t wasted_bytes = 0;  // of files in this layer that are not seen
};

class Stack {
public:
    static constexpr std::uint32_t kNothing = UINT32_MAX;
    // An entry: `layer` and its place there; kImplied: a directory that the archive has no entry for.
    static constexpr std::uint32_t kImplied = UINT32_MAX;
    struct Place {
        std::uint32_t layer = kNothing;
        std::uint32_t entry = 0;
        [[nodiscard]] bool exists() const { return layer != kNothing; }
        friend bool operator==(const Place&, const Place&) = default;
    };

    // paths and layers must outlive the stack. resource_exhausted: layers made to be laid on each other for hours.
    static Result<Stack> of(const Paths& paths, std::span<const std::shared_ptr<const Listing>> layers,
                            const Stop& stop);

    [[nodiscard]] Place place(Paths::Id path) const { return live_[path]; }
    // What is seen at a path; nullptr for nothing and for implied directories.
    [[nodiscard]] const Entry* entry(Paths::Id path) const { return entry_at(live_[path]); }
    [[nodiscard]] bool is_directory(Paths::Id path) const;
    [[nodiscard]] const Listing& layer(std::size_t number) const { return *layers_[number]; }
    // The file that a hard link is a name of, through links to links; itself otherwise. nullptr: it is not there.
    [[nodiscard]] const Entry* file_of(const Entry& entry) const;

    // How many names that are seen the file of this entry has.
    [[nodiscard]] std::uint32_t names_of(const Entry& entry) const;
    [[nodiscard]] const std::vector<Waste>& waste() const { return waste_; }
    [[nodiscard]] const std::vector<LayerFacts>& facts() const { return facts_; }
    // Of all files that are seen, each once.
    [[nodiscard]] std::uint64_t seen_bytes() const;

private:
    Stack(const Paths& paths, std::span<const std::shared_ptr<const Listing>> layers);
    [[nodiscard]] const Entry* entry_at(Place place) const;
    Result<> lay(std::uint32_t number, const Stop& stop);
    [[nodiscard]] Result<> check_steps(const Stop& stop) const;
    void put(Paths::Id path, Place place);
    // What is at a path and below it, of layers before `before`.
    void hide_below(Paths::Id path, std::uint32_t by, std::uint32_t before);
    void hide(Paths::Id path, std::uint32_t by, const Entry* instead);
    void release(Paths::Id path, Place file, std::uint32_t by, const Entry* instead);

    const Paths& paths_;
    std::span<const std::shared_ptr<const Listing>> layers_;
    std::vector<Place> live_;  // by path
    // Names of a file whose first name has gone, and what a hard link is a name of.
    std::vector<std::vector<std::uint32_t>> names_;  // by layer and entry; how many names are seen
    std::vector<std::pair<Place, Place>> links_;     // hard link entry → file entry, sorted after lay()
    std::vector<Waste> waste_;
    std::vector<LayerFacts> facts_;
    std::uint64_t steps_ = 0;
    std::uint64_t max_steps_ = 0;
};

}  // namespace cooper::inside
