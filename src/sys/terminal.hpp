// Terminals: raw mode and window sizes.
#pragma once

#include "base/result.hpp"

#include <cstdint>
#include <optional>
#include <termios.h>
#include <utility>

namespace cooper::sys {

struct WindowSize {
    std::uint16_t rows = 0;
    std::uint16_t columns = 0;
    bool operator==(const WindowSize&) const = default;
};
// nullopt when fd is no terminal.
[[nodiscard]] std::optional<WindowSize> window_size(int fd);
[[nodiscard]] Result<> set_window_size(int fd, WindowSize size);
[[nodiscard]] bool is_terminal(int fd);

// Puts a terminal into raw mode; the destructor restores what was.
class RawMode {
public:
    [[nodiscard]] static Result<RawMode> enter(int fd);
    RawMode(RawMode&& other) noexcept : fd_(std::exchange(other.fd_, -1)), saved_(other.saved_) {}
    RawMode& operator=(RawMode&&) = delete;
    ~RawMode();

private:
    RawMode(int fd, termios saved) : fd_(fd), saved_(saved) {}
    int fd_;
    termios saved_;
};

}  // namespace cooper::sys
