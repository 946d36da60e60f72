#include "sys/fd.hpp"

#include <array>
#include <cerrno>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace cooper::sys {

Fd& Fd::operator=(Fd&& other) noexcept {
    if (this != &other) {
        if (fd_ >= 0) ::close(fd_);
        fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
}

Fd::~Fd() {
    if (fd_ >= 0) ::close(fd_);
}

Result<> Fd::close() && {
    const int fd = release();
    if (fd >= 0 && ::close(fd) != 0 && errno != EINTR) return fail_errno(errno, "close");
    return {};
}

Result<Fd> Fd::duplicate() const {
    const int copy = ::fcntl(fd_, F_DUPFD_CLOEXEC, 3);
    if (copy < 0) return fail_errno(errno, "duplicate descriptor");
    return Fd(copy);
}

Result<Pipe> make_pipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno(errno, "pipe");
    Pipe pipe;
    pipe.read_end = Fd(ends[0]);
    pipe.write_end = Fd(ends[1]);
    return pipe;
}

Result<> write_all(int fd, std::span<const std::byte> data) {
    while (!data.empty()) {
        const ssize_t n = ::write(fd, data.data(), data.size());
        if (n < 0) {
            if (errno == EINTR) continue;
            return fail_errno(errno, "write");
        }
        data = data.subspan(static_cast<std::size_t>(n));
    }
    return {};
}

Result<> write_all(int fd, std::string_view text) { return write_all(fd, as_bytes(text)); }

Result<std::size_t> read_some(int fd, std::span<std::byte> buffer) {
    while (true) {
        const ssize_t n = ::read(fd, buffer.data(), buffer.size());
        if (n >= 0) return static_cast<std::size_t>(n);
        if (errno != EINTR) return fail_errno(errno, "read");
    }
}

Result<std::string> read_to_end(int fd, std::size_t limit_bytes) {
    std::string text;
    std::array<std::byte, 16384> buffer;
    while (true) {
        const std::size_t n = TRY(read_some(fd, buffer));
        if (n == 0) return text;
        if (text.size() + n > limit_bytes) {
            return fail(Code::resource_exhausted, Blame::user, "file is larger than the limit of {} bytes",
                        limit_bytes);
        }
        text.append(as_text(std::span(buffer).first(n)));
    }
}

Result<> wait_readable(int fd, const Stop& stop) {
    Fd wake(::eventfd(0, EFD_CLOEXEC));
    if (!wake.valid()) return fail_errno(errno, "eventfd");
    const std::stop_callback callback(stop, [&wake] {
        const std::uint64_t one = 1;
        [[maybe_unused]] const ssize_t n = ::write(wake.get(), &one, sizeof one);
    });
    while (true) {
        std::array<pollfd, 2> fds{{{fd, POLLIN, 0}, {wake.get(), POLLIN, 0}}};
        if (::poll(fds.data(), fds.size(), -1) < 0) {
            if (errno == EINTR) continue;
            return fail_errno(errno, "poll");
        }
        if (fds[1].revents != 0) return cancelled();
        if (fds[0].revents != 0) return {};
    }
}

}  // namespace cooper::sys
