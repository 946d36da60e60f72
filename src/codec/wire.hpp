// The protobuf wire format, by hand: a writer that gives what Go's deterministic marshal gives and a
// bounds-checked reader. No library: it costs nothing at start-up and its order is ours to promise.
// Spec: protobuf.dev/programming-guides/encoding. Values, one thread at a time.
#pragma once

#include "base/result.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace cooper::codec {

enum class WireType : std::uint8_t { varint = 0, fixed64 = 1, bytes = 2, group_start = 3, group_end = 4, fixed32 = 5 };

// Appends fields; zero and empty values are left out, as proto3 does. Call in field number order.
class WireWriter {
public:
    void uint(unsigned field, std::uint64_t value) {
        if (value == 0) return;
        tag(field, WireType::varint);
        varint(value);
    }
    // int32, int64 and enums: negative numbers take ten bytes.
    void integer(unsigned field, std::int64_t value) { uint(field, static_cast<std::uint64_t>(value)); }
    void boolean(unsigned field, bool value) { uint(field, value ? 1 : 0); }
    void text(unsigned field, std::string_view value) {
        if (!value.empty()) element(field, value);
    }
    // A member of a repeated field or a present message: written even when empty.
    void element(unsigned field, std::string_view value) {
        head(field, value.size());
        out_.append(value);
    }
    // What precedes the content of such a member, for content that is kept elsewhere.
    void head(unsigned field, std::size_t size_bytes) {
        tag(field, WireType::bytes);
        varint(size_bytes);
    }
    // A oneof member or a repeated number that is written even when zero.
    void present(unsigned field, std::uint64_t value) {
        tag(field, WireType::varint);
        varint(value);
    }
    void varint(std::uint64_t value);
    [[nodiscard]] const std::string& bytes() const { return out_; }
    [[nodiscard]] std::string take() { return std::move(out_); }

private:
    void tag(unsigned field, WireType type) { varint((std::uint64_t{field} << 3U) | static_cast<std::uint64_t>(type)); }
    std::string out_;
};

// One field of a message: `number` for varint and fixed kinds, `bytes` (a view into the input) else.
struct WireField {
    unsigned id = 0;
    WireType type = WireType::varint;
    std::uint64_t number = 0;
    std::string_view bytes;

    [[nodiscard]] bool is_number() const { return type == WireType::varint; }
    [[nodiscard]] bool is_bytes() const { return type == WireType::bytes; }
    [[nodiscard]] std::int64_t int64() const { return static_cast<std::int64_t>(number); }
    [[nodiscard]] std::int32_t int32() const { return static_cast<std::int32_t>(number); }
};

class WireReader {
public:
    explicit WireReader(std::string_view input) : rest_(input) {}
    [[nodiscard]] bool done() const { return rest_.empty(); }
    // Precondition: !done().
    [[nodiscard]] Result<WireField> next();
    [[nodiscard]] Result<std::uint64_t> varint();

private:
    std::string_view rest_;
};

}  // namespace cooper::codec
