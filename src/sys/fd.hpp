// Fd: an owned file descriptor, always close-on-exec. Movable; not thread-safe by itself.
#pragma once

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "base/stop.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <sys/stat.h>
#include <utility>

namespace cooper::sys {

class Fd {
public:
    Fd() = default;
    explicit Fd(int fd) : fd_(fd) {}
    Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Fd& operator=(Fd&& other) noexcept;
    Fd(const Fd&) = delete;
    Fd& operator=(const Fd&) = delete;
    ~Fd();

    [[nodiscard]] int get() const { return fd_; }
    [[nodiscard]] bool valid() const { return fd_ >= 0; }
    [[nodiscard]] int release() { return std::exchange(fd_, -1); }
    // Closes now and reports what close() says (delayed write errors).
    Result<> close() &&;
    [[nodiscard]] Result<Fd> duplicate() const;

private:
    int fd_ = -1;
};

struct Pipe {
    Fd read_end;
    Fd write_end;
};
[[nodiscard]] Result<Pipe> make_pipe();

// Loops over short writes and EINTR.
[[nodiscard]] Result<> write_all(int fd, std::span<const std::byte> data);
[[nodiscard]] Result<> write_all(int fd, std::string_view text);
// One read() with EINTR retried; 0 = end.
[[nodiscard]] Result<std::size_t> read_some(int fd, std::span<std::byte> buffer);
[[nodiscard]] Result<std::string> read_to_end(int fd, std::size_t limit_bytes);

// Blocks until fd can be read (or hung up); an Error with Code::cancelled when stopped first.
[[nodiscard]] Result<> wait_readable(int fd, const Stop& stop);

class FdSource final : public ByteSource {
public:
    explicit FdSource(Fd fd) : fd_(std::move(fd)) {}
    Result<std::size_t> read(std::span<std::byte> buffer) override { return read_some(fd_.get(), buffer); }

private:
    Fd fd_;
};

class FdSink final : public ByteSink {
public:
    explicit FdSink(Fd fd) : fd_(std::move(fd)) {}
    Result<> write(std::span<const std::byte> data) override { return write_all(fd_.get(), data); }
    [[nodiscard]] Fd& fd() { return fd_; }

private:
    Fd fd_;
};

}  // namespace cooper::sys
