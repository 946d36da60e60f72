#include "run/stubs.hpp"

#include "base/text.hpp"
#include "sys/temp_dir.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace cooper::run {
namespace {

// FNV-1a: names a directory, guards nothing (stubs a layer lacks are made by hand).
std::uint64_t hash(const std::vector<Stub>& stubs) {
    std::uint64_t value = 14695981039346656037U;
    const auto add = [&value](unsigned char byte) { value = (value ^ byte) * 1099511628211U; };
    for (const Stub& stub : stubs) {
        for (const char c : stub.path) add(static_cast<unsigned char>(c));
        add(stub.kind == StubKind::file ? 1 : 0);
    }
    return value;
}

std::string parent_path(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    return slash == 0 || slash == std::string::npos ? "/" : path.substr(0, slash);
}

Result<> make_entry(const sys::RootedDir& root, const std::string& path, StubKind kind) {
    const auto parent = TRY(root.parent_of(path));
    if (kind == StubKind::directory) {
        if (::mkdirat(parent.dir.get(), parent.name.c_str(), 0755) != 0) return fail_errno(errno, "make " + path);
        if (::fchmodat(parent.dir.get(), parent.name.c_str(), 0755, 0) != 0)
            return fail_errno(errno, "set the mode of " + path);
        return {};
    }
    const sys::Fd fd(
        ::openat(parent.dir.get(), parent.name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
    if (!fd.valid()) return fail_errno(errno, "make " + path);
    ::fchmod(fd.get(), 0644);
    return {};
}

// All times at the epoch, so that a stub directory that a step copies up is the same everywhere.
void age(const sys::RootedDir& root, const std::string& path) {
    const std::array<timespec, 2> epoch{};
    const auto entry = root.open(path, O_PATH, sys::Follow::no, 0);
    if (entry) ::utimensat(AT_FDCWD, fmt::format("/proc/self/fd/{}", entry->get()).c_str(), epoch.data(), 0);
}

}  // namespace

Result<std::string> stub_layer(const std::string& state_dir, std::vector<Stub> stubs) {
    std::sort(stubs.begin(), stubs.end());
    stubs.erase(std::unique(stubs.begin(), stubs.end()), stubs.end());
    const std::string all = state_dir + "/stubs";
    const std::string path = fmt::format("{}/{:016x}", all, hash(stubs));
    if (::access(path.c_str(), F_OK) == 0) return path;
    if (::mkdir(all.c_str(), 0700) != 0 && errno != EEXIST) return fail_errno(errno, fmt::format("make {}", all));

    sys::TempDir draft = TRY(sys::TempDir::create(all, ".new-"));
    const std::string tree = draft.path() + "/tree";
    if (::mkdir(tree.c_str(), 0755) != 0) return fail_errno(errno, fmt::format("make {}", tree));
    ::chmod(tree.c_str(), 0755);
    const sys::RootedDir root = TRY(sys::RootedDir::open_host(tree));
    std::vector<std::string> made;
    for (const Stub& stub : stubs) {
        std::string path_so_far;
        const std::vector<std::string> parts = split(stub.path, '/');
        for (std::size_t i = 0; i < parts.size(); i++) {
            if (parts[i].empty()) continue;
            path_so_far += "/" + parts[i];
            if (root.stat(path_so_far, sys::Follow::no)) continue;
            const bool last = i + 1 == parts.size();
            if (!make_entry(root, path_so_far, last ? stub.kind : StubKind::directory)) break;  // below a file
            made.push_back(path_so_far);
        }
    }
    for (auto entry = made.rbegin(); entry != made.rend(); ++entry) age(root, *entry);
    age(root, "/");
    if (::rename(tree.c_str(), path.c_str()) != 0 && errno != EEXIST && errno != ENOTEMPTY) {
        return fail_errno(errno, fmt::format("make {}", path));
    }
    return path;
}

Result<> MadeStubs::make_one(const sys::RootedDir& root, const std::string& path, StubKind kind) {
    if (root.stat(path, sys::Follow::yes)) return {};
    const std::string parent = parent_path(path);
    if (parent != "/") TRY(make_one(root, parent, StubKind::directory));
    const auto before = TRY(root.stat(parent, sys::Follow::yes));
    TRY(make_entry(root, path, kind));
    made_.push_back({path, kind, parent, before.st_atim, before.st_mtim});
    return {};
}

Result<MadeStubs> MadeStubs::make(const sys::RootedDir& root, const std::vector<Stub>& stubs) {
    MadeStubs made;
    for (const Stub& stub : stubs) {
        if (auto one = made.make_one(root, stub.path, stub.kind); !one) {
            made.remove(root);
            return std::move(one).error().with_context(fmt::format("prepare mount point {}", stub.path));
        }
    }
    return made;
}

void MadeStubs::remove(const sys::RootedDir& root) {
    for (auto entry = made_.rbegin(); entry != made_.rend(); ++entry) {
        const auto parent = root.parent_of(entry->path);
        if (!parent) continue;
        if (entry->kind == StubKind::directory) {
            if (::unlinkat(parent->dir.get(), parent->name.c_str(), AT_REMOVEDIR) != 0) continue;
        } else {
            struct stat now{};
            if (::fstatat(parent->dir.get(), parent->name.c_str(), &now, AT_SYMLINK_NOFOLLOW) != 0 ||
                !S_ISREG(now.st_mode) || now.st_size != 0 ||
                ::unlinkat(parent->dir.get(), parent->name.c_str(), 0) != 0) {
                continue;
            }
        }
        const std::array<timespec, 2> times{entry->parent_access, entry->parent_change};
        ::utimensat(AT_FDCWD, fmt::format("/proc/self/fd/{}", parent->dir.get()).c_str(), times.data(), 0);
    }
    made_.clear();
}

}  // namespace cooper::run
