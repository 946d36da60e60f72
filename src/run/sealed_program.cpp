#include "run/sealed_program.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

namespace cooper::run {
namespace {

constexpr off_t kMaxBytes = 64 << 20;
constexpr unsigned kExecutable = 0x10;  // MFD_EXEC, Linux 6.3
// Exactly these: runtimes compare.
constexpr int kSeals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

// The kernel could not give a script's interpreter a descriptor that is closed by then.
bool is_elf(int fd) {
    std::array<char, 4> magic{};
    return ::pread(fd, magic.data(), magic.size(), 0) == 4 && std::memcmp(magic.data(), "\177ELF", 4) == 0;
}

sys::Fd make_memory() {
    constexpr unsigned kFlags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    sys::Fd fd(::memfd_create("runtime", kFlags | kExecutable));
    if (!fd.valid() && errno == EINVAL) fd = sys::Fd(::memfd_create("runtime", kFlags));
    return fd;
}

}  // namespace

std::optional<sys::Fd> sealed_copy(const std::string& program) {
    const sys::Fd file(::open(program.c_str(), O_RDONLY | O_CLOEXEC));
    struct stat info{};
    if (!file.valid() || ::fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode)) return std::nullopt;
    if (info.st_size > kMaxBytes || !is_elf(file.get())) return std::nullopt;
    sys::Fd copy = make_memory();
    if (!copy.valid()) return std::nullopt;
    off_t at = 0;
    while (at < info.st_size) {
        const ssize_t n = ::sendfile(copy.get(), file.get(), &at, static_cast<std::size_t>(info.st_size - at));
        if (n <= 0) return std::nullopt;
    }
    if (::fchmod(copy.get(), 0755) != 0 || ::fcntl(copy.get(), F_ADD_SEALS, kSeals) != 0) return std::nullopt;
    // What mounts and security modules say of it the kernel tells best itself.
    if (::access(("/proc/self/fd/" + std::to_string(copy.get())).c_str(), X_OK) != 0) return std::nullopt;
    return copy;
}

}  // namespace cooper::run
