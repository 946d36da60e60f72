// Advisory whole-file locks (flock), shared by processes; a lock dies with its holder.
#pragma once

#include "base/result.hpp"
#include "base/stop.hpp"
#include "sys/fd.hpp"

#include <optional>
#include <string>

namespace cooper::sys {

enum class LockMode : std::uint8_t { shared, exclusive };

class FileLock {
public:
    FileLock() = default;
    // Creates the file (0600) when missing; waits.
    [[nodiscard]] static Result<FileLock> acquire(const std::string& path, LockMode mode, const Stop& stop);
    [[nodiscard]] static Result<FileLock> acquire_at(int dir_fd, const std::string& name, LockMode mode,
                                                     const Stop& stop);
    // nullopt when somebody else holds it.
    [[nodiscard]] static Result<std::optional<FileLock>> try_acquire(const std::string& path, LockMode mode);
    [[nodiscard]] static Result<std::optional<FileLock>> try_acquire_at(int dir_fd, const std::string& name,
                                                                        LockMode mode);

    [[nodiscard]] bool held() const { return fd_.valid(); }
    [[nodiscard]] int fd() const { return fd_.get(); }

private:
    explicit FileLock(Fd fd) : fd_(std::move(fd)) {}
    Fd fd_;
};

}  // namespace cooper::sys
