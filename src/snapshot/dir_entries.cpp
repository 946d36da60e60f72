#include "snapshot/dir_entries.hpp"

#include "sys/fd.hpp"

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace cooper::snapshot {

Result<> for_each_name(int dir_fd, const std::function<void(std::string_view, unsigned char)>& visit) {
    // A descriptor of its own: threads may share dir_fd, and its position with it.
    const sys::Fd fd(::openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd.valid()) return fail_errno(errno, "open directory");
    // struct linux_dirent64: ino 8, off 8, reclen 2, type 1, name.
    constexpr std::size_t kLengthAt = 16;
    constexpr std::size_t kTypeAt = 18;
    constexpr std::size_t kNameAt = 19;
    std::array<char, 32768> buffer;
    while (true) {
        const auto size = ::syscall(SYS_getdents64, fd.get(), buffer.data(), buffer.size());
        if (size < 0) return fail_errno(errno, "read directory");
        if (size == 0) return {};
        for (std::size_t at = 0; at < static_cast<std::size_t>(size);) {
            std::uint16_t length = 0;
            std::memcpy(&length, buffer.data() + at + kLengthAt, sizeof length);
            const std::string_view name(buffer.data() + at + kNameAt);
            if (name != "." && name != "..") visit(name, static_cast<unsigned char>(buffer[at + kTypeAt]));
            at += length;
        }
    }
}

}  // namespace cooper::snapshot
