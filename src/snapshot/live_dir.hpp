// LiveDir: a directory of the host as a tree, as BuildKit's client would send it: what the exclude patterns
// (.dockerignore) drop is not there, owners are 0:0, sockets are skipped. Its files are the user's: never linked, and
// they may change at any moment.
#pragma once

#include "codec/pattern_matcher.hpp"
#include "snapshot/tree.hpp"

namespace cooper::snapshot {

// git: what git would record of them. Files are 0755 when their owner may run them, else 0644; directories are 0755.
enum class Modes : std::uint8_t { as_they_are, git };

struct LiveDirOptions {
    std::vector<std::string> exclude;
    std::vector<std::string> include;  // empty = all
    Modes modes = Modes::as_they_are;
};

class LiveDir final : public Tree {
public:
    static Result<std::shared_ptr<const LiveDir>> create(sys::RootedDir dir, const LiveDirOptions& options);

    [[nodiscard]] Result<DirectoryRef> root() const override;
    [[nodiscard]] bool immutable() const override { return false; }
    ~LiveDir() override;

    struct State;

private:
    explicit LiveDir(std::shared_ptr<const State> state);
    std::shared_ptr<const State> state_;
};

}  // namespace cooper::snapshot
