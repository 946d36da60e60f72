#include "sys/xattr.hpp"

#include <cerrno>
#include <sys/xattr.h>

namespace cooper::sys {
namespace {

// Through /proc so that O_PATH descriptors (symbolic links, sockets) work as well.
std::string path_of(int fd) { return fmt::format("/proc/self/fd/{}", fd); }

bool means_none(int errno_value) {
    // ELOOP/EPERM: user.* on symbolic links and special files.
    return errno_value == ENODATA || errno_value == ENOTSUP;
}

}  // namespace

Result<std::optional<std::string>> find_xattr(int fd, const std::string& name) {
    const std::string path = path_of(fd);
    std::string value(256, '\0');
    while (true) {
        const ssize_t n = ::getxattr(path.c_str(), name.c_str(), value.data(), value.size());
        if (n >= 0) {
            value.resize(static_cast<std::size_t>(n));
            return std::optional<std::string>(std::move(value));
        }
        if (means_none(errno)) return std::optional<std::string>();
        if (errno != ERANGE || value.size() >= XATTR_SIZE_MAX)
            return fail_errno(errno, fmt::format("read xattr {}", name));
        value.resize(XATTR_SIZE_MAX);
    }
}

Result<std::map<std::string, std::string>> list_xattrs(int fd) {
    const std::string path = path_of(fd);
    std::string names(1024, '\0');
    ssize_t n = ::listxattr(path.c_str(), names.data(), names.size());
    if (n < 0 && errno == ERANGE) {
        names.resize(XATTR_LIST_MAX);
        n = ::listxattr(path.c_str(), names.data(), names.size());
    }
    std::map<std::string, std::string> xattrs;
    if (n < 0) {
        if (means_none(errno)) return xattrs;
        return fail_errno(errno, "list xattrs");
    }
    names.resize(static_cast<std::size_t>(n));
    for (std::size_t at = 0; at < names.size();) {
        const std::string name(names.c_str() + at);
        at += name.size() + 1;
        if (auto value = TRY(find_xattr(fd, name))) xattrs.emplace(name, std::move(*value));
    }
    return xattrs;
}

Result<> set_xattr(int fd, const std::string& name, std::string_view value) {
    if (::setxattr(path_of(fd).c_str(), name.c_str(), value.data(), value.size(), 0) != 0) {
        return fail_errno(errno, fmt::format("set xattr {}", name));
    }
    return {};
}

Result<> remove_xattr(int fd, const std::string& name) {
    if (::removexattr(path_of(fd).c_str(), name.c_str()) != 0 && !means_none(errno)) {
        return fail_errno(errno, fmt::format("remove xattr {}", name));
    }
    return {};
}

}  // namespace cooper::sys
