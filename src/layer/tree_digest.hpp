// TreeDigester: BuildKit's content hash (cache/contenthash) of a tree or a selection of it, byte for byte, so that
// cache keys agree with BuildKit's. Every file is read at most once; what is known is kept in a DigestTable.
// Threads: one digest() at a time per object (calls serialise); hashing itself uses `threads` threads.
#pragma once

#include "base/digest.hpp"
#include "base/guarded.hpp"
#include "base/stop.hpp"
#include "layer/alike.hpp"
#include "layer/digest_table.hpp"
#include "snapshot/tree.hpp"

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace cooper::layer {

struct ContentSelector {
    std::string path;  // "" or "/" = the whole tree; a trailing '/' leaves the directory's own record out of filters
    bool wildcard = false;
    bool follow_links = false;
    std::vector<std::string> include;
    std::vector<std::string> exclude;
    std::vector<std::string> required;  // relative to path; each must match something

    friend bool operator==(const ContentSelector&, const ContentSelector&) = default;
};

class TreeDigester {
public:
    // known: what an earlier digester of the same tree learnt (empty is fine).
    TreeDigester(snapshot::TreeRef tree, DigestTable known, std::size_t threads);
    ~TreeDigester();
    TreeDigester(const TreeDigester&) = delete;
    TreeDigester& operator=(const TreeDigester&) = delete;

    // A path that is not there: not_found with BuildKit's text `"/x": not found`.
    [[nodiscard]] Result<Digest> digest(const ContentSelector& selector, Stop stop);
    // Several selectors of one input: the digests joined by NUL, hashed. None = the whole tree.
    [[nodiscard]] Result<Digest> digest_all(std::span<const ContentSelector> selectors, Stop stop);

    // What digest_all() would be if everything had the mode and owner of its usual_node(): equal for trees that a copy
    // which replaces these cannot tell apart. Of what digest_all() of these selectors has seen.
    [[nodiscard]] Result<Digest> digest_alike(std::span<const ContentSelector> selectors,
                                              const Replacement& replacement, Stop stop);

    // What digest() of this selector is made of: files and directories with their own digests (of a directory: of its
    // own record), in the order of the tree; through links where the selector follows them. nullopt: more than limit.
    // With a replacement that replaces something: what digest_alike() is made of.
    struct ListedFile {
        std::string path;  // rooted
        snapshot::Node node;
        RawDigest digest{};
    };
    [[nodiscard]] Result<std::optional<std::vector<ListedFile>>> list(const ContentSelector& selector,
                                                                      const Replacement& replacement, std::size_t limit,
                                                                      Stop stop);

    // Whether something was learnt that the table given did not have.
    [[nodiscard]] bool learnt();
    // The same, and forgets it: the caller now saves table().
    [[nodiscard]] bool take_learnt();
    // All that is known now, for the next time; started is when the first file was looked at.
    [[nodiscard]] DigestTable table();
    // digest_alike() reads files that have an unusual mode or owner once more. Of a tree that may change that is
    // remembered, too: load() is asked when it is first needed; take_usual() is to be saved, nullopt: nothing is new.
    void remember_usual(std::function<DigestTable()> load);
    [[nodiscard]] std::optional<DigestTable> take_usual();
    // The stat a file had when it was hashed, to notice changes before copying; nullopt when it was not hashed.
    [[nodiscard]] std::optional<snapshot::Node> hashed_node(std::string_view path);
    [[nodiscard]] const snapshot::TreeRef& tree() const { return tree_; }
    struct Counters {
        std::uint64_t stats = 0;
        std::uint64_t files_read = 0;
        std::uint64_t bytes_read = 0;
        std::uint64_t dirs_listed = 0;
    };
    [[nodiscard]] Counters counters();

    // All that was hashed of one directory's files, by name; for comparing and linking in bulk.
    struct HashedFile {
        std::string name;
        snapshot::Node node;
        RawDigest digest{};
    };
    [[nodiscard]] std::vector<HashedFile> hashed_files(const std::string& dir_path);

    struct State;

private:
    snapshot::TreeRef tree_;
    std::size_t threads_;
    Guarded<std::unique_ptr<State>> state_;
};

// The digest of scratch (nil result): sha256 of nothing for "/", an error for any other path.
[[nodiscard]] Result<Digest> digest_of_scratch(std::span<const ContentSelector> selectors);

}  // namespace cooper::layer
