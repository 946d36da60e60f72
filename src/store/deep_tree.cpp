#include "base/text.hpp"
#include "store/store.hpp"

#include <cerrno>
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace cooper::store {

namespace {

constexpr int kMaxDepth = 64;

// Removes what is in dir. Directories deeper than kMaxDepth are moved up beside the first one, so that
// neither the stack nor the descriptors grow with the depth of the tree.
Result<> empty_dir(int dir, int depth, int shelf, std::uint64_t& shelved) {
    for (const auto& entry : TRY(sys::list_dir(dir))) {
        const char* name = entry.name.c_str();
        if (entry.type != DT_DIR && ::unlinkat(dir, name, 0) == 0) continue;
        if (entry.type != DT_DIR && errno == ENOENT) continue;
        if (::unlinkat(dir, name, AT_REMOVEDIR) == 0 || errno == ENOENT) continue;
        if (depth >= kMaxDepth) {
            const std::string place = fmt::format("deep-{}", shelved++);
            if (::renameat(dir, name, shelf, place.c_str()) != 0) return fail_errno(errno, "remove " + entry.name);
            continue;
        }
        {
            const sys::Fd child(::openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
            if (!child.valid()) return fail_errno(errno, "remove " + entry.name);
            TRY(empty_dir(child.get(), depth + 1, shelf, shelved));
        }
        if (::unlinkat(dir, name, AT_REMOVEDIR) != 0 && errno != ENOENT)
            return fail_errno(errno, "remove " + entry.name);
    }
    return {};
}

}  // namespace

Result<> remove_deep_tree(const sys::RootedDir& root, const std::string& name) {
    if (::unlinkat(root.fd(), name.c_str(), 0) == 0 || errno == ENOENT) return {};
    {
        const sys::Fd dir(::openat(root.fd(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
        if (!dir.valid()) return errno == ENOENT ? Result<>{} : fail_errno(errno, "remove " + name);
        std::uint64_t shelved = 0;
        // Each round shelves what is deeper; a tree of depth d needs d / kMaxDepth rounds.
        for (std::uint64_t before = 1; before != shelved;) {
            before = shelved;
            TRY(empty_dir(dir.get(), 0, dir.get(), shelved));
        }
    }
    if (::unlinkat(root.fd(), name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT)
        return fail_errno(errno, "remove " + name);
    return {};
}

}  // namespace cooper::store
