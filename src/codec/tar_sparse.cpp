// The four ways tar archives describe holes: GNU's old header fields and PAX "GNU.sparse" versions 0.0, 0.1 and 1.0.
#include "base/text.hpp"
#include "codec/detail/tar_block.hpp"
#include "codec/detail/tar_meta.hpp"
#include "codec/tar.hpp"

#include <algorithm>
#include <array>

namespace cooper::codec {

namespace {

using namespace tar;  // NOLINT: field names

Error broken_map() { return bad_input("malformed tar archive: bad map of a sparse file"); }

Result<std::uint64_t> parse_size(std::string_view text) {
    const auto value = parse_int(text);
    if (!value || *value < 0) return broken_map();
    return static_cast<std::uint64_t>(*value);
}

}  // namespace

// Segments must be in order, apart, inside the file, and account for every stored byte.
Result<> TarReader::check_segments(std::uint64_t stored) {
    std::uint64_t at = 0;
    std::uint64_t sum = 0;
    for (const TarSegment& segment : header_.segments) {
        if (segment.offset < at || segment.offset > header_.size || segment.length > header_.size - segment.offset) {
            return broken_map();
        }
        at = segment.offset + segment.length;
        sum += segment.length;
    }
    if (sum != stored || header_.size > static_cast<std::uint64_t>(INT64_MAX)) return broken_map();
    header_.sparse = true;
    return {};
}

Result<> TarReader::read_old_sparse(std::span<const std::byte> raw) {
    const std::uint64_t stored = left_;
    const auto real_size = number_of(field_of(raw, kRealSize));
    if (!real_size || *real_size < 0) return broken_map();
    header_.size = static_cast<std::uint64_t>(*real_size);
    std::array<std::byte, kBlock> extension{};
    std::span<const std::byte> block_now = raw;
    std::size_t at = kSparseAt;
    std::size_t count = kSparseEntries;
    bool more = raw[kSparseExtendedAt] != std::byte{};
    for (;;) {
        for (std::size_t i = 0; i < count; ++i) {
            const Field offset{at + 24 * i, 12};
            const Field length{at + 24 * i + 12, 12};
            if (block_now[offset.at] == std::byte{}) break;
            const auto from = number_of(field_of(block_now, offset));
            const auto size = number_of(field_of(block_now, length));
            if (!from || !size || *from < 0 || *size < 0) return broken_map();
            header_.segments.push_back({static_cast<std::uint64_t>(*from), static_cast<std::uint64_t>(*size)});
        }
        if (!more) break;
        if (header_.segments.size() > limits_.max_segments) return broken_map();
        const std::byte* next_block = TRY(block());
        if (next_block == nullptr) return broken_map();
        std::copy_n(next_block, kBlock, extension.begin());
        block_now = extension;
        at = 0;
        count = kExtensionEntries;
        more = extension[kExtensionMoreAt] != std::byte{};
        // An extension without entries would let a chain of them go on for ever.
        if (extension[0] == std::byte{}) return broken_map();
    }
    return check_segments(stored);
}

Result<> TarReader::read_pax_sparse(const Meta& meta) {
    const std::string* major = meta.find("GNU.sparse.major");
    const std::string* minor = meta.find("GNU.sparse.minor");
    const std::string* map = meta.find("GNU.sparse.map");
    const std::string* count = meta.find("GNU.sparse.numblocks");
    const bool in_data = major != nullptr && minor != nullptr && *major == "1" && *minor == "0";
    if (!in_data && map == nullptr && count == nullptr) return {};

    const std::string* name = meta.find("GNU.sparse.name");
    const std::string* size = meta.find("GNU.sparse.realsize");
    if (size == nullptr) size = meta.find("GNU.sparse.size");
    if (name != nullptr && !name->empty() && name->find('\0') == std::string::npos) header_.name = *name;
    if (size != nullptr) header_.size = TRY(parse_size(*size));
    if (in_data) {
        TRY(read_sparse_data_map());
    } else if (map != nullptr) {
        const auto numbers = split(*map, ',');
        if (numbers.size() % 2 != 0 && !map->empty()) return broken_map();
        for (std::size_t i = 0; i + 1 < numbers.size(); i += 2) {
            const std::uint64_t offset = TRY(parse_size(numbers[i]));
            const std::uint64_t length = TRY(parse_size(numbers[i + 1]));
            header_.segments.push_back({offset, length});
        }
    } else {
        for (const auto& [key, value] : meta.pax) {
            if (key == "GNU.sparse.offset") {
                const std::uint64_t offset = TRY(parse_size(value));
                header_.segments.push_back({offset, 0});
            }
            if (key == "GNU.sparse.numbytes") {
                if (header_.segments.empty()) return broken_map();
                header_.segments.back().length = TRY(parse_size(value));
            }
        }
    }
    if (header_.segments.size() > limits_.max_segments) return broken_map();
    return check_segments(left_);
}

// Version 1.0: decimal numbers, each on a line, in front of the data, padded to a block.
Result<> TarReader::read_sparse_data_map() {
    std::string line;
    std::size_t used = 0;
    const std::byte* data = nullptr;
    const auto next_number = [&]() -> Result<std::uint64_t> {
        line.clear();
        for (;;) {
            if (data == nullptr || used == kBlock) {
                if (left_ < kBlock) return broken_map();
                data = TRY(block());
                if (data == nullptr) return broken_map();
                left_ -= kBlock;
                used = 0;
            }
            const char c = static_cast<char>(data[used++]);
            if (c == '\n') return TRY(parse_size(line));
            line += c;
            if (line.size() > 20) return broken_map();
        }
    };
    const std::uint64_t count = TRY(next_number());
    if (count > limits_.max_segments) return broken_map();
    for (std::uint64_t i = 0; i < count; ++i) {
        const std::uint64_t offset = TRY(next_number());
        const std::uint64_t length = TRY(next_number());
        header_.segments.push_back({offset, length});
    }
    return {};
}

}  // namespace cooper::codec
