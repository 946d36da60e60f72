#include "codec/wire.hpp"

namespace cooper::codec {

namespace {

Error malformed(std::string_view what) { return bad_input("malformed protobuf message: {}", what); }

constexpr std::uint64_t kMaxFieldNumber = (1U << 29U) - 1;

}  // namespace

void WireWriter::varint(std::uint64_t value) {
    while (value >= 0x80) {
        out_.push_back(static_cast<char>((value & 0x7FU) | 0x80U));
        value >>= 7U;
    }
    out_.push_back(static_cast<char>(value));
}

Result<std::uint64_t> WireReader::varint() {
    std::uint64_t value = 0;
    for (unsigned i = 0; i < 10; ++i) {
        if (i >= rest_.size()) return malformed("number is cut off");
        const auto byte = static_cast<unsigned char>(rest_[i]);
        if (i == 9 && byte > 1) return malformed("number is too large");
        value |= std::uint64_t{byte & 0x7FU} << (7 * i);
        if ((byte & 0x80U) == 0) {
            rest_.remove_prefix(i + 1);
            return value;
        }
    }
    return malformed("number is too long");
}

Result<WireField> WireReader::next() {
    const std::uint64_t tag = TRY(varint());
    WireField field;
    const std::uint64_t id = tag >> 3U;
    if (id == 0 || id > kMaxFieldNumber) return malformed("field number out of range");
    field.id = static_cast<unsigned>(id);
    field.type = static_cast<WireType>(tag & 7U);
    switch (field.type) {
        case WireType::varint:
            field.number = TRY(varint());
            return field;
        case WireType::bytes: {
            const std::uint64_t size = TRY(varint());
            if (size > rest_.size()) return malformed("field is cut off");
            field.bytes = rest_.substr(0, size);
            rest_.remove_prefix(size);
            return field;
        }
        case WireType::fixed64:
        case WireType::fixed32: {
            const std::size_t size = field.type == WireType::fixed64 ? 8 : 4;
            if (size > rest_.size()) return malformed("field is cut off");
            for (std::size_t i = 0; i < size; ++i) {
                field.number |= std::uint64_t{static_cast<unsigned char>(rest_[i])} << (8 * i);
            }
            rest_.remove_prefix(size);
            return field;
        }
        case WireType::group_start:
        case WireType::group_end:
            break;
    }
    return malformed("unknown kind of field");
}

}  // namespace cooper::codec
