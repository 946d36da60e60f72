// Reading pieces of files of strangers: whole or not at all, nothing is trusted to be there.
#pragma once

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <unistd.h>

namespace cooper::attest::detail {

inline constexpr std::uint64_t kMaxOffset = std::uint64_t{1} << 48U;

inline bool read_whole(int file, std::uint64_t offset, std::span<char> into) {
    std::size_t done = 0;
    while (done < into.size()) {
        const ssize_t got = ::pread(file, into.data() + done, into.size() - done, static_cast<off_t>(offset + done));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        done += static_cast<std::size_t>(got);
    }
    return true;
}

template <class T>
std::optional<T> read_struct(int file, std::uint64_t offset) {
    std::array<char, sizeof(T)> bytes{};
    if (offset > kMaxOffset || !read_whole(file, offset, bytes)) return std::nullopt;
    T value;
    std::memcpy(&value, bytes.data(), sizeof value);
    return value;
}

// Empty when it is not all there.
inline std::string read_text(int file, std::uint64_t offset, std::size_t size) {
    std::string text(size, '\0');
    if (offset > kMaxOffset || !read_whole(file, offset, text)) text.clear();
    return text;
}

inline std::uint64_t read_le(std::string_view bytes, std::size_t size) {
    std::uint64_t value = 0;
    for (std::size_t i = size; i > 0; --i) value = value << 8U | static_cast<unsigned char>(bytes[i - 1]);
    return value;
}

}  // namespace cooper::attest::detail
