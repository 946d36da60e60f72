// A local build context as a value: an open directory, its ignore rules, and what is remembered of its digests.
// Nothing is read until a selector or a copy asks for it, and then only what it names.
#pragma once

#include "layer/copy.hpp"
#include "layer/tree_digest.hpp"
#include "snapshot/live_dir.hpp"

#include <memory>
#include <string>
#include <vector>

namespace cooper::source {

struct LocalOptions {
    std::string host_path;
    std::vector<std::string> exclude;  // patterns as read_ignore_file gives them
    std::vector<std::string> include;
    std::vector<std::string> follow_paths;  // with include only: links among these are followed into include patterns
    snapshot::Modes modes = snapshot::Modes::as_they_are;
    std::string stat_cache_file;  // where digests are remembered; empty = nowhere
    std::size_t threads = 2;
};

class LocalContext {
public:
    // A path that is no directory: one clear error that names it.
    static Result<std::unique_ptr<LocalContext>> open(const LocalOptions& options);
    // Remembers what was learnt (best effort; a context that did not change writes nothing).
    ~LocalContext();
    LocalContext(const LocalContext&) = delete;
    LocalContext& operator=(const LocalContext&) = delete;

    [[nodiscard]] const snapshot::TreeRef& tree() const { return tree_; }
    [[nodiscard]] layer::TreeDigester& digester() { return *digester_; }
    [[nodiscard]] Result<Digest> digest(std::span<const layer::ContentSelector> selectors, Stop stop);
    // Writes the stat cache now if something was learnt.
    [[nodiscard]] Result<> save();

private:
    LocalContext() = default;
    std::string stat_cache_file_;
    std::string key_;
    snapshot::TreeRef tree_;
    std::unique_ptr<layer::TreeDigester> digester_;
};

}  // namespace cooper::source
