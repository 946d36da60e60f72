// Mount stubs: the empty files and directories that exist in a root only because something is mounted
// on them. They must not become part of what the step leaves behind.
//
// For overlays they come from an extra layer at the very bottom (kept in <state>/stubs, shared by all
// steps with the same mounts, immutable), so nothing has to be made or removed. What that cannot give
// (a target below a symbolic link, a root that is no overlay) is made in the root and removed after.
#pragma once

#include "base/result.hpp"
#include "sys/rooted_dir.hpp"

#include <ctime>
#include <string>
#include <vector>

namespace cooper::run {

enum class StubKind : std::uint8_t { directory, file };
struct Stub {
    std::string path;  // absolute in the root, clean
    StubKind kind = StubKind::directory;
    auto operator<=>(const Stub&) const = default;
};

// The host path of the layer with these stubs, made when missing. Several programs may ask at once.
[[nodiscard]] Result<std::string> stub_layer(const std::string& state_dir, std::vector<Stub> stubs);

// Makes the stubs that root lacks and takes them away again.
class MadeStubs {
public:
    MadeStubs() = default;
    [[nodiscard]] static Result<MadeStubs> make(const sys::RootedDir& root, const std::vector<Stub>& stubs);
    // Removes what is still empty, deepest first, and gives the parents their old times back.
    void remove(const sys::RootedDir& root);

private:
    struct Made {
        std::string path;
        StubKind kind;
        std::string parent;
        timespec parent_access;
        timespec parent_change;
    };
    Result<> make_one(const sys::RootedDir& root, const std::string& path, StubKind kind);
    std::vector<Made> made_;  // parents before children
};

}  // namespace cooper::run
