// Streams of bytes: ByteSource (pull) and ByteSink (push). One thread at a time per object.
#pragma once

#include "base/result.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cooper {

using Bytes = std::vector<std::byte>;

[[nodiscard]] inline std::span<const std::byte> as_bytes(std::string_view text) {
    return std::as_bytes(std::span(text.data(), text.size()));
}
[[nodiscard]] inline std::string_view as_text(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

class ByteSource {
public:
    virtual ~ByteSource() = default;
    // Fills at least one byte unless the stream has ended; 0 means end. Blocks.
    virtual Result<std::size_t> read(std::span<std::byte> buffer) = 0;
};

class ByteSink {
public:
    virtual ~ByteSink() = default;
    // Takes all of data or fails. Blocks.
    virtual Result<> write(std::span<const std::byte> data) = 0;
};

class StringSource final : public ByteSource {
public:
    explicit StringSource(std::string text) : text_(std::move(text)) {}
    Result<std::size_t> read(std::span<std::byte> buffer) override;

private:
    std::string text_;
    std::size_t at_ = 0;
};

class StringSink final : public ByteSink {
public:
    Result<> write(std::span<const std::byte> data) override;
    std::string text;
};

// Reads to the end; more than limit_bytes is resource_exhausted.
[[nodiscard]] Result<std::string> read_all(ByteSource& source, std::size_t limit_bytes);
// Copies to the end; returns the number of bytes.
[[nodiscard]] Result<std::uint64_t> copy_all(ByteSource& source, ByteSink& sink);

}  // namespace cooper
