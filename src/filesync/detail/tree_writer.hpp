// TreeWriter: the disk's side of a receiver. Makes a directory equal to entries that come in order; content comes later
// and from other threads.
#pragma once

#include "filesync/receive.hpp"

#include <memory>
#include <optional>
#include <string>
#include <sys/stat.h>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace cooper::filesync::detail {

// The directories that one thread opened last.
class ParentCache {
public:
    explicit ParentCache(const sys::RootedDir& root) : root_(root) {}
    // Of a clean relative path; the descriptor lives as long as its holders.
    [[nodiscard]] Result<std::shared_ptr<const sys::Fd>> parent_of(const std::string& path);

private:
    const sys::RootedDir& root_;
    std::string path_;
    std::shared_ptr<const sys::Fd> fd_;
};

// A file whose content is on its way. One thread at a time. One that goes before it is complete leaves nothing.
class IncomingFile {
public:
    enum class Place : std::uint8_t { free, taken };  // whether something of the same name must be replaced
    IncomingFile(Stat stat, Place place) : stat_(std::move(stat)), place_(place) {}
    IncomingFile(const IncomingFile&) = delete;
    IncomingFile& operator=(const IncomingFile&) = delete;
    ~IncomingFile();

    [[nodiscard]] const std::string& path() const { return stat_.path; }
    Result<> write(ParentCache& parents, std::string_view data);
    Result<> complete(ParentCache& parents);

private:
    Result<> open(ParentCache& parents);

    Stat stat_;
    Place place_;
    std::shared_ptr<const sys::Fd> parent_;
    std::string name_;  // in parent_, while it is written
    sys::Fd fd_;
    bool complete_ = false;
};

class TreeWriter {
public:
    TreeWriter(const sys::RootedDir& dest, const ReceiveOptions& options, ReceiveStats& stats);
    ~TreeWriter();

    // The next entry, not checked yet. A file: its content is wanted.
    Result<std::unique_ptr<IncomingFile>> add(const Stat& offered);
    // No more entries.
    Result<> end();
    // All content is there.
    Result<> finish();

private:
    struct Level;
    struct MadeDir;
    struct Link;
    class MetadataList;

    Result<> check(const Stat& stat) const;
    Result<> leave_levels(const std::string& path);
    Result<> leave_level();
    Result<> make_level(std::size_t index);
    Result<std::optional<struct stat>> claim(Level& level, const std::string& name);
    Result<std::unique_ptr<IncomingFile>> add_file(Level& level, const std::string& name, Stat stat);
    Result<> add_symlink(Level& level, const std::string& name, const Stat& stat);
    Result<> add_special(Level& level, const std::string& name, const Stat& stat, snapshot::Kind kind);
    template <class Make>
    Result<bool> place(const Level& level, const std::string& name, const std::optional<struct stat>& old, Make make);
    bool is_second_name(const struct stat& st);
    Result<> make_link(const Link& link, ParentCache& parents, ParentCache& targets);
    Result<> finish_dir(const MadeDir& dir) const;

    const sys::RootedDir& dest_;
    const ReceiveOptions& options_;
    ReceiveStats& stats_;
    std::vector<Level> levels_;  // the root and the directories that hold the last entry
    std::string last_path_;
    std::vector<MadeDir> dirs_;  // left, inner ones first
    std::vector<Link> links_;
    std::unordered_set<std::size_t> files_;  // hashes of the paths of files that are or will be there
    std::unordered_set<std::uint64_t> shared_inodes_;
    std::unique_ptr<MetadataList> metadata_;
};

// As fsutil orders paths: component by component.
[[nodiscard]] int compare_paths(std::string_view a, std::string_view b);

}  // namespace cooper::filesync::detail
