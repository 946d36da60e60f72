#include "sys/terminal.hpp"

#include <cerrno>
#include <sys/ioctl.h>
#include <unistd.h>

namespace cooper::sys {

std::optional<WindowSize> window_size(int fd) {
    winsize size{};
    if (::ioctl(fd, TIOCGWINSZ, &size) != 0) return std::nullopt;
    return WindowSize{size.ws_row, size.ws_col};
}

Result<> set_window_size(int fd, WindowSize size) {
    winsize raw{};
    raw.ws_row = size.rows;
    raw.ws_col = size.columns;
    if (::ioctl(fd, TIOCSWINSZ, &raw) != 0) return fail_errno(errno, "set window size");
    return {};
}

bool is_terminal(int fd) { return ::isatty(fd) == 1; }

Result<RawMode> RawMode::enter(int fd) {
    termios saved{};
    if (::tcgetattr(fd, &saved) != 0) return fail_errno(errno, "read terminal settings");
    termios raw = saved;
    ::cfmakeraw(&raw);
    if (::tcsetattr(fd, TCSADRAIN, &raw) != 0) return fail_errno(errno, "set terminal to raw mode");
    return RawMode(fd, saved);
}

RawMode::~RawMode() {
    if (fd_ >= 0) ::tcsetattr(fd_, TCSADRAIN, &saved_);
}

}  // namespace cooper::sys
