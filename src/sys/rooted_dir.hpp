// RootedDir: a directory descriptor that is a root. No path given to it can leave it: symbolic links
// and ".." are resolved inside (openat2 with RESOLVE_IN_ROOT), in the kernel, atomically.
// Paths may start with '/' (meaning the root itself). Safe to use from several threads.
#pragma once

#include "sys/fd.hpp"

#include <fcntl.h>
#include <string>
#include <string_view>
#include <sys/stat.h>
#include <vector>

namespace cooper::sys {

enum class Follow : std::uint8_t { no, yes };  // whether the last component may be a symbolic link

class RootedDir {
public:
    RootedDir() = default;
    explicit RootedDir(Fd dir) : dir_(std::move(dir)) {}
    // Opens a host path as a root. The only place where a host path is trusted.
    static Result<RootedDir> open_host(const std::string& host_path);

    [[nodiscard]] int fd() const { return dir_.get(); }
    [[nodiscard]] bool valid() const { return dir_.valid(); }

    // open(2) flags; O_CLOEXEC is added. With Follow::no a final symbolic link gives ELOOP (or is
    // opened itself with O_PATH).
    [[nodiscard]] Result<Fd> open(std::string_view path, int flags, Follow follow, mode_t mode) const;
    [[nodiscard]] Result<RootedDir> open_dir(std::string_view path) const;
    [[nodiscard]] Result<struct stat> stat(std::string_view path, Follow follow) const;
    [[nodiscard]] Result<std::string> read_link(std::string_view path) const;
    [[nodiscard]] Result<std::string> read_file(std::string_view path, std::size_t limit_bytes) const;

    // The directory that holds the last component (resolved inside the root) and that component's
    // name, for *at() calls that must not follow it. "/" and "" are refused.
    struct Parent {
        Fd dir;
        std::string name;
    };
    [[nodiscard]] Result<Parent> parent_of(std::string_view path) const;
    // mkdir -p inside the root; new directories get mode (umask not applied).
    [[nodiscard]] Result<> make_dirs(std::string_view path, mode_t mode) const;
    // rm -rf of one entry, never following links. Missing is not an error.
    [[nodiscard]] Result<> remove_all(std::string_view path) const;

private:
    Fd dir_;
};

// Names in a directory without "." and "..", unsorted.
struct DirEntry {
    std::string name;
    unsigned char type;  // DT_*
};
[[nodiscard]] Result<std::vector<DirEntry>> list_dir(int dir_fd);
// rm -rf of name below dir_fd, by descriptors.
[[nodiscard]] Result<> remove_tree_at(int dir_fd, const std::string& name);

}  // namespace cooper::sys
