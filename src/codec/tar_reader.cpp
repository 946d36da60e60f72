#include "base/text.hpp"
#include "codec/base64.hpp"
#include "codec/detail/tar_block.hpp"
#include "codec/detail/tar_meta.hpp"
#include "codec/tar.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace cooper::codec {

namespace tar {

std::string_view text_of(std::span<const std::byte> block, Field field) {
    const std::string_view raw = field_of(block, field);
    return raw.substr(0, std::min(raw.find('\0'), raw.size()));
}

std::optional<std::int64_t> number_of(std::string_view field) {
    if (!field.empty() && (static_cast<unsigned char>(field[0]) & 0x80U) != 0) {
        // Base-256, two's complement without the topmost bit.
        const bool negative = (static_cast<unsigned char>(field[0]) & 0x40U) != 0;
        std::uint64_t value = negative ? ~std::uint64_t{0} : 0;
        for (std::size_t i = 0; i < field.size(); ++i) {
            auto digit = static_cast<std::uint64_t>(static_cast<unsigned char>(field[i]));
            if (i == 0) digit = negative ? digit | 0x80U : digit & 0x7FU;
            const std::uint64_t top = value >> 55;  // what would be shifted out, and the sign
            if (i > 0 && top != 0 && top != 0x1FF) return std::nullopt;
            value = i == 0 ? (negative ? ~std::uint64_t{0xFF} | digit : digit) : value << 8 | digit;
        }
        return static_cast<std::int64_t>(value);
    }
    const auto blank = [](char c) { return c == ' ' || c == '\0'; };
    while (!field.empty() && blank(field.front())) field.remove_prefix(1);
    field = field.substr(0, std::min(field.find('\0'), field.size()));
    while (!field.empty() && blank(field.back())) field.remove_suffix(1);
    if (field.empty()) return 0;
    const auto value = parse_octal(field);
    if (!value || *value > static_cast<std::uint64_t>(INT64_MAX)) return std::nullopt;
    return static_cast<std::int64_t>(*value);
}

}  // namespace tar

namespace {

using namespace tar;  // NOLINT: field names

constexpr std::size_t kBuffer = 512 << 10;
constexpr std::int64_t kSecond = 1'000'000'000;
constexpr int kMaxMetaHeaders = 64;  // of one entry
constexpr std::string_view kXattrPrefix = "SCHILY.xattr.";
constexpr std::string_view kLibarchiveXattrPrefix = "LIBARCHIVE.xattr.";

Error broken(std::string_view what) { return bad_input("malformed tar archive: {}", what); }

bool is_zero(std::span<const std::byte> block) {
    return std::ranges::all_of(block, [](std::byte b) { return b == std::byte{}; });
}

bool checksum_matches(std::span<const std::byte> block) {
    const auto stored = number_of(field_of(block, kChecksum));
    std::int64_t plain = 0;
    std::int64_t with_sign = 0;  // what some ancient programs wrote
    for (std::size_t i = 0; i < kBlock; ++i) {
        const bool blank = i >= kChecksum.at && i < kChecksum.at + kChecksum.size;
        const auto byte = blank ? std::uint8_t{' '} : std::to_integer<std::uint8_t>(block[i]);
        plain += byte;
        with_sign += static_cast<std::int8_t>(byte);
    }
    return stored && (*stored == plain || *stored == with_sign);
}

Result<std::int64_t> field_number(std::span<const std::byte> block, Field field, std::string_view what) {
    const auto value = number_of(field_of(block, field));
    if (!value) return broken(fmt::format("{} is no number", what));
    return *value;
}

Result<std::uint32_t> to_id(std::int64_t value, std::string_view what) {
    if (value < 0 || value > UINT32_MAX) return broken(fmt::format("{} {} is out of range", what, value));
    return static_cast<std::uint32_t>(value);
}

Result<std::uint32_t> field_id(std::span<const std::byte> block, Field field, std::string_view what) {
    const std::int64_t value = TRY(field_number(block, field, what));
    return to_id(value, what);
}

std::int64_t to_nanoseconds(std::int64_t seconds) {
    constexpr std::int64_t kMost = INT64_MAX / kSecond - 1;
    return std::clamp(seconds, -kMost, kMost) * kSecond;
}

// "[-]seconds[.fraction]"
std::optional<std::int64_t> parse_pax_time(std::string_view text) {
    const auto [whole, fraction] = cut(text, '.');
    const auto seconds = parse_int(whole);
    if (!seconds) return std::nullopt;
    std::int64_t nanoseconds = 0;
    std::int64_t unit = kSecond;
    for (const char c : fraction.value_or("")) {
        if (c < '0' || c > '9') return std::nullopt;
        unit /= 10;
        nanoseconds += unit * (c - '0');
    }
    const bool negative = whole.starts_with('-');
    return to_nanoseconds(*seconds) + (negative ? -nanoseconds : nanoseconds);
}

// "<length> <key>=<value>\n" …
Result<> parse_pax(std::string_view text, std::vector<std::pair<std::string, std::string>>& records) {
    while (!text.empty()) {
        const std::size_t space = text.find(' ');
        if (space == std::string_view::npos || space > 10) return broken("bad PAX record");
        const auto length = parse_int(text.substr(0, space));
        if (!length || *length < 5 || static_cast<std::uint64_t>(*length) > text.size() ||
            static_cast<std::size_t>(*length) < space + 3) {
            return broken("bad PAX record length");
        }
        const std::string_view record = text.substr(space + 1, static_cast<std::size_t>(*length) - space - 1);
        text.remove_prefix(static_cast<std::size_t>(*length));
        const std::size_t equals = record.find('=');
        if (record.back() != '\n' || equals == std::string_view::npos || equals == 0) return broken("bad PAX record");
        const std::string_view key = record.substr(0, equals);
        const std::string_view value = record.substr(equals + 1, record.size() - equals - 2);
        const bool text_only = key == "path" || key == "linkpath" || key == "uname" || key == "gname";
        if (key.find('\0') != std::string_view::npos || (text_only && value.find('\0') != std::string_view::npos)) {
            return broken("NUL in a PAX record");
        }
        records.emplace_back(key, value);
    }
    return {};
}

// libarchive's attributes: names with %41 for what may not stand in a key, values in base64 without padding.
Result<std::pair<std::string, std::string>> libarchive_xattr(std::string_view key, std::string value) {
    std::string name;
    for (std::size_t i = 0; i < key.size(); ++i) {
        if (key[i] != '%') {
            name += key[i];
            continue;
        }
        const auto digit = [&](std::size_t at) {
            constexpr std::string_view kDigits = "0123456789abcdef0123456789ABCDEF";
            const std::size_t found = at < key.size() ? kDigits.find(key[at]) : kDigits.npos;
            return found == kDigits.npos ? -1 : static_cast<int>(found % 16);
        };
        const int high = digit(i + 1);
        const int low = digit(i + 2);
        if (high < 0 || low < 0 || high + low == 0) return broken("bad name of an extended attribute");
        name += static_cast<char>(high * 16 + low);
        i += 2;
    }
    while (value.ends_with('=')) value.pop_back();
    value.append((4 - value.size() % 4) % 4, '=');
    auto decoded = codec::base64_decode(value);
    if (!decoded) return broken("an extended attribute is no base64");
    return std::pair(std::move(name), std::move(*decoded));
}

}  // namespace

TarReader::TarReader(ByteSource& source, TarLimits limits) : source_(source), limits_(limits), buffer_(kBuffer) {}

// Makes at least wanted bytes available unless the source ends before; false then.
Result<bool> TarReader::fill(std::size_t wanted) {
    if (end_ - begin_ >= wanted) return true;
    if (begin_ > 0) {
        std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
        end_ -= begin_;
        begin_ = 0;
    }
    while (end_ < wanted && !source_ended_) {
        const std::size_t got = TRY(source_.read(std::span(buffer_).subspan(end_)));
        if (got == 0) source_ended_ = true;
        end_ += got;
    }
    return end_ >= wanted;
}

// The next block, consumed; null at a clean end of the source.
Result<const std::byte*> TarReader::block() {
    const bool whole = TRY(fill(kBlock));
    if (!whole) {
        if (end_ != begin_) return broken("it is truncated");
        return nullptr;
    }
    const std::byte* data = buffer_.data() + begin_;
    begin_ += kBlock;
    return data;
}

Result<std::string> TarReader::meta_body(std::uint64_t size) {
    if (size > limits_.max_meta_bytes) return broken("an extended header is too long");
    std::string text;
    text.reserve(static_cast<std::size_t>(size));
    std::uint64_t left = size + padding_of(size);
    while (left > 0) {
        const std::byte* data = TRY(block());
        if (data == nullptr) return broken("it is truncated");
        text += as_text({data, kBlock});
        left -= kBlock;
    }
    text.resize(static_cast<std::size_t>(size));
    return text;
}

Result<> TarReader::skip_body() {
    left_ += std::exchange(padding_, 0);
    while (left_ > 0) {
        const bool more = TRY(fill(1));
        if (!more) return broken("it is truncated");
        const auto n = std::min<std::uint64_t>(left_, end_ - begin_);
        begin_ += static_cast<std::size_t>(n);
        left_ -= n;
    }
    return {};
}

Result<const TarHeader*> TarReader::next() {
    if (ended_) return nullptr;
    TRY(skip_body());
    header_ = {};
    pending_ = {};
    segment_ = 0;
    segment_done_ = 0;
    position_ = 0;
    Meta meta;
    for (int metas = 0;; ++metas) {
        const std::byte* at = TRY(block());
        if (at == nullptr && metas > 0) return broken("it is truncated");
        if (at == nullptr) return ended_ = true, nullptr;
        const std::span<const std::byte> raw(at, kBlock);
        if (is_zero(raw)) {
            const std::byte* second = TRY(block());
            if (second != nullptr && !is_zero({second, kBlock})) return broken("data after a zero block");
            if (metas > 0) return broken("it ends after an extended header");
            return ended_ = true, nullptr;
        }
        if (!checksum_matches(raw)) return broken("wrong header checksum");
        const char type = static_cast<char>(raw[kTypeAt]);
        const std::int64_t size = TRY(field_number(raw, kSize, "size"));
        if (size < 0) return broken("negative size");
        if (type == 'x' || type == 'g' || type == 'L' || type == 'K') {
            if (metas >= kMaxMetaHeaders) return broken("too many extended headers");
            const std::string text = TRY(meta_body(static_cast<std::uint64_t>(size)));
            if (type == 'x') {
                meta.pax.clear();
                TRY(parse_pax(text, meta.pax));
            } else if (type == 'L' || type == 'K') {
                (type == 'L' ? meta.long_name : meta.long_link) = text.substr(0, text.find('\0'));
            }
            continue;
        }
        if (++entries_ > limits_.max_entries) {
            return fail(Code::resource_exhausted, Blame::user, "tar archive has more than {} entries",
                        limits_.max_entries);
        }
        // Copied: later reads move the buffer.
        std::array<std::byte, kBlock> copy{};
        std::ranges::copy(raw, copy.begin());
        TRY(read_entry(copy, meta));
        return &header_;
    }
}

Result<> TarReader::read_entry(std::span<const std::byte> raw, const Meta& meta) {
    const std::string_view magic = field_of(raw, kMagic);
    header_.name = text_of(raw, kName);
    header_.linkname = text_of(raw, kLinkname);
    header_.mode = static_cast<std::uint32_t>(TRY(field_number(raw, kMode, "mode")) & 07777);
    header_.uid = TRY(field_id(raw, kUid, "uid"));
    header_.gid = TRY(field_id(raw, kGid, "gid"));
    const std::int64_t stored_size = TRY(field_number(raw, kSize, "size"));
    header_.size = static_cast<std::uint64_t>(stored_size);
    header_.mtime_ns = to_nanoseconds(TRY(field_number(raw, kMtime, "time")));
    char type = static_cast<char>(raw[kTypeAt]);
    if (magic.starts_with("ustar")) {
        header_.uname = text_of(raw, kUname);
        header_.gname = text_of(raw, kGname);
        if (type == '3' || type == '4') {
            header_.devmajor = TRY(field_id(raw, kDevmajor, "device"));
            header_.devminor = TRY(field_id(raw, kDevminor, "device"));
        }
    }
    if (magic.starts_with(std::string_view("ustar\0", 6))) {
        const bool star = field_of(raw, kStarTrailer) == std::string_view("tar\0", 4);
        const std::string_view prefix = text_of(raw, star ? kStarPrefix : kPrefix);
        if (!prefix.empty()) header_.name = fmt::format("{}/{}", prefix, header_.name);
    }
    if (!meta.long_name.empty()) header_.name = meta.long_name;
    if (!meta.long_link.empty()) header_.linkname = meta.long_link;
    TRY(apply_pax(meta));

    if (type == '\0' || type == '7') type = '0';
    if (type == '0' && header_.name.ends_with('/')) type = '5';
    const bool old_sparse = type == 'S';
    if (old_sparse) type = '0';
    if (type < '0' || type > '6') {
        return bad_input("tar entry {} has the unknown type '{}'", quoted(header_.name),
                         quoted(std::string_view(&type, 1)));
    }
    header_.type = static_cast<TarType>(type);
    if (header_.type != TarType::file) header_.size = 0;
    left_ = header_.size;
    if (left_ > static_cast<std::uint64_t>(INT64_MAX) - kBlock) return broken("size is out of range");
    padding_ = padding_of(left_);
    if (old_sparse) return read_old_sparse(raw);
    if (header_.type == TarType::file) return read_pax_sparse(meta);
    return {};
}

Result<> TarReader::apply_pax(const Meta& meta) {
    for (const auto& [key, value] : meta.pax) {
        if (key.starts_with(kXattrPrefix)) {
            header_.xattrs[key.substr(kXattrPrefix.size())] = value;
            continue;
        }
        if (key.starts_with(kLibarchiveXattrPrefix)) {
            // Writers that know both give the value twice; what is written plainly counts.
            auto [name, decoded] = TRY(libarchive_xattr(key.substr(kLibarchiveXattrPrefix.size()), value));
            header_.xattrs.try_emplace(std::move(name), std::move(decoded));
            continue;
        }
        if (value.empty()) continue;  // as in Go: keeps the value of the block
        if (key == "path") {
            header_.name = value;
        } else if (key == "linkpath") {
            header_.linkname = value;
        } else if (key == "uname") {
            header_.uname = value;
        } else if (key == "gname") {
            header_.gname = value;
        } else if (key == "uid" || key == "gid") {
            const auto id = parse_int(value);
            if (!id) return broken("bad owner in a PAX record");
            (key == "uid" ? header_.uid : header_.gid) = TRY(to_id(*id, key));
        } else if (key == "size") {
            const auto size = parse_int(value);
            if (!size || *size < 0) return broken("bad size in a PAX record");
            header_.size = static_cast<std::uint64_t>(*size);
        } else if (key == "mtime") {
            const auto time = parse_pax_time(value);
            if (!time) return broken("bad time in a PAX record");
            header_.mtime_ns = *time;
        } else {
            header_.pax[key] = value;
        }
    }
    return {};
}

Result<std::span<const std::byte>> TarReader::chunk() {
    if (left_ == 0) return std::span<const std::byte>();
    if (end_ == begin_) {
        const bool more = TRY(fill(1));
        if (!more) return broken("it is truncated");
    }
    const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(left_, end_ - begin_));
    const std::span<const std::byte> data = std::span(buffer_).subspan(begin_, n);
    begin_ += n;
    left_ -= n;
    return data;
}

Result<std::size_t> TarReader::read(std::span<std::byte> buffer) {
    if (buffer.empty() || position_ == header_.size) return 0;
    // How far the next zeros reach, or how much of a segment is left.
    std::uint64_t zeros = 0;
    std::uint64_t stored = header_.size - position_;
    if (header_.sparse) {
        while (segment_ < header_.segments.size() && segment_done_ == header_.segments[segment_].length) {
            ++segment_;
            segment_done_ = 0;
        }
        const bool any = segment_ < header_.segments.size();
        const std::uint64_t start = any ? header_.segments[segment_].offset + segment_done_ : header_.size;
        zeros = start - position_;
        stored = any ? header_.segments[segment_].length - segment_done_ : 0;
    }
    if (zeros > 0) {
        const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(zeros, buffer.size()));
        std::memset(buffer.data(), 0, n);
        position_ += n;
        return n;
    }
    if (pending_.empty()) pending_ = TRY(chunk());
    if (pending_.empty()) return broken("it is truncated");
    const auto n =
        static_cast<std::size_t>(std::min({std::uint64_t{pending_.size()}, std::uint64_t{buffer.size()}, stored}));
    std::memcpy(buffer.data(), pending_.data(), n);
    pending_ = pending_.subspan(n);
    position_ += n;
    segment_done_ += n;
    return n;
}

Result<> TarReader::drain() {
    begin_ = end_ = 0;
    while (!source_ended_) {
        const std::size_t got = TRY(source_.read(buffer_));
        if (got == 0) source_ended_ = true;
    }
    return {};
}

}  // namespace cooper::codec
