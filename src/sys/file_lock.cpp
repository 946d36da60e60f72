#include "sys/file_lock.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <fcntl.h>
#include <mutex>
#include <sys/file.h>

namespace cooper::sys {
namespace {

Result<Fd> open_lock_file(int dir_fd, const std::string& name) {
    Fd fd(::openat(dir_fd, name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd.valid()) return fail_errno(errno, fmt::format("open lock {}", name));
    return fd;
}

Result<bool> try_lock(int fd, LockMode mode) {
    const int operation = (mode == LockMode::shared ? LOCK_SH : LOCK_EX) | LOCK_NB;
    while (::flock(fd, operation) != 0) {
        if (errno == EWOULDBLOCK) return false;
        if (errno != EINTR) return fail_errno(errno, "lock");
    }
    return true;
}

// flock cannot be waited for together with a Stop, so it is tried with growing pauses; the pause
// itself ends at once when stopped.
Result<> lock_patiently(int fd, LockMode mode, const Stop& stop) {
    std::mutex mutex;
    std::condition_variable_any never;
    auto pause = std::chrono::microseconds(200);
    while (!TRY(try_lock(fd, mode))) {
        std::unique_lock lock(mutex);
        never.wait_for(lock, stop, pause, [] { return false; });
        TRY(check_stop(stop));
        pause = std::min(pause * 2, std::chrono::microseconds(50'000));
    }
    return {};
}

}  // namespace

Result<FileLock> FileLock::acquire_at(int dir_fd, const std::string& name, LockMode mode, const Stop& stop) {
    Fd fd = TRY(open_lock_file(dir_fd, name));
    TRY_CONTEXT(lock_patiently(fd.get(), mode, stop), "lock {}", name);
    return FileLock(std::move(fd));
}

Result<FileLock> FileLock::acquire(const std::string& path, LockMode mode, const Stop& stop) {
    return acquire_at(AT_FDCWD, path, mode, stop);
}

Result<std::optional<FileLock>> FileLock::try_acquire_at(int dir_fd, const std::string& name, LockMode mode) {
    Fd fd = TRY(open_lock_file(dir_fd, name));
    if (!TRY(try_lock(fd.get(), mode))) return std::optional<FileLock>();
    return std::optional<FileLock>(FileLock(std::move(fd)));
}

Result<std::optional<FileLock>> FileLock::try_acquire(const std::string& path, LockMode mode) {
    return try_acquire_at(AT_FDCWD, path, mode);
}

}  // namespace cooper::sys
