// Writes blocks as Go's archive/tar does for FormatPAX: a value that does not fit its field goes into a PAX record (and
// the field becomes 0, or the text cut to ASCII); no prefix field, no GNU extensions.
#include "base/text.hpp"
#include "codec/detail/tar_block.hpp"
#include "codec/tar.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace cooper::codec {

namespace {

using namespace tar;  // NOLINT: field names

constexpr std::size_t kBuffer = 256 << 10;
constexpr std::int64_t kSecond = 1'000'000'000;

using Block = std::array<std::byte, kBlock>;
using Records = std::map<std::string, std::string>;

bool is_ascii(std::string_view text) {
    return std::ranges::all_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

std::string to_ascii(std::string_view text) {
    std::string out;
    for (const char c : text) {
        if (c != '\0' && static_cast<unsigned char>(c) < 0x80) out += c;
    }
    return out;
}

bool fits_in_octal(std::size_t field_size, std::int64_t value) {
    const std::size_t bits = (field_size - 1) * 3;
    return value >= 0 && (field_size >= 22 || value < std::int64_t{1} << bits);
}

void put_text(Block& block, Field field, std::string_view text) {
    auto* to = reinterpret_cast<char*>(block.data()) + field.at;
    std::memcpy(to, text.data(), std::min(text.size(), field.size));
    // Some readers take a cut name that ends in '/' for a directory.
    if (text.size() > field.size && to[field.size - 1] == '/') {
        std::size_t n = field.size - 1;
        while (n > 0 && to[n - 1] == '/') --n;
        to[n] = '\0';
    }
}

void put_octal(Block& block, Field field, std::int64_t value) {
    if (!fits_in_octal(field.size, value)) value = 0;
    auto* to = reinterpret_cast<char*>(block.data()) + field.at;
    auto rest = static_cast<std::uint64_t>(value);
    for (std::size_t i = field.size - 1; i-- > 0; rest >>= 3) to[i] = static_cast<char>('0' + (rest & 7));
    to[field.size - 1] = '\0';
}

void seal(Block& block) {
    put_text(block, kMagic, std::string_view("ustar\00000", 8));
    std::memset(block.data() + kChecksum.at, ' ', kChecksum.size);
    std::int64_t sum = 0;
    for (const std::byte b : block) sum += std::to_integer<int>(b);
    put_octal(block, {kChecksum.at, 7}, sum);
    block[kChecksum.at + 7] = std::byte{' '};
}

std::string pax_record(std::string_view key, std::string_view value) {
    std::size_t size = key.size() + value.size() + 3;
    size += std::to_string(size).size();
    const auto make = [&] { return fmt::format("{} {}={}\n", size, key, value); };
    std::string record = make();
    if (record.size() != size) {
        size = record.size();
        record = make();
    }
    return record;
}

void add_text(Records& records, const char* key, std::string_view text, std::size_t field_size) {
    if (text.size() > field_size || !is_ascii(text)) records[key] = text;
}
void add_number(Records& records, const char* key, std::int64_t value, std::size_t field_size) {
    if (!fits_in_octal(field_size, value)) records[key] = std::to_string(value);
}

bool has_body(TarType type) { return type == TarType::file; }
bool has_link(TarType type) { return type == TarType::hard_link || type == TarType::symlink; }
bool is_device(TarType type) { return type == TarType::char_device || type == TarType::block_device; }

// path.Join(dir, "PaxHeaders.0", file) of path.Split(name).
std::string pax_name(std::string_view name) {
    const std::size_t slash = name.rfind('/');
    const std::string_view file = slash == std::string_view::npos ? name : name.substr(slash + 1);
    std::string out(slash == std::string_view::npos ? std::string_view() : name.substr(0, slash + 1));
    out += "PaxHeaders.0";
    if (!file.empty()) (out += '/') += file;
    out = to_ascii(out);
    if (out.size() > kName.size) out.resize(kName.size);
    while (!out.empty() && out.back() == '/') out.pop_back();
    return out;
}

Result<> check_texts(const TarHeader& header) {
    if (header.name.empty()) return bad_input("tar: an entry needs a name");
    for (const std::string* text : {&header.name, &header.linkname, &header.uname, &header.gname}) {
        if (text->find('\0') != std::string::npos) return bad_input("tar: {} contains a NUL byte", quoted(*text));
    }
    for (const auto& [key, value] : header.xattrs) {
        if (key.empty() || key.find('=') != std::string::npos || key.find('\0') != std::string::npos) {
            return bad_input("tar: extended attribute {} of {} cannot be written", quoted(key), quoted(header.name));
        }
    }
    return {};
}

}  // namespace

TarWriter::TarWriter(ByteSink& sink) : sink_(sink), buffer_(kBuffer) {}

Result<> TarWriter::flush_buffer() {
    if (used_ == 0) return {};
    const std::size_t used = std::exchange(used_, 0);
    return sink_.write(std::span(buffer_).first(used));
}

Result<> TarWriter::flush() {
    if (left_ == 0) TRY(append_zeros(std::exchange(padding_, 0)));
    return flush_buffer();
}

Result<> TarWriter::append(std::span<const std::byte> data) {
    size_ += data.size();
    while (!data.empty()) {
        if (used_ == 0 && data.size() >= kBuffer) return sink_.write(data);
        const std::size_t n = std::min(data.size(), kBuffer - used_);
        std::memcpy(buffer_.data() + used_, data.data(), n);
        used_ += n;
        data = data.subspan(n);
        if (used_ == kBuffer) TRY(flush_buffer());
    }
    return {};
}

Result<> TarWriter::append_zeros(std::size_t count) {
    static constexpr Block kZeros{};
    for (; count > 0; count -= std::min(count, kBlock)) TRY(append(std::span(kZeros).first(std::min(count, kBlock))));
    return {};
}

Result<> TarWriter::write_header(const TarHeader& header) {
    CHECK(left_ == 0);
    TRY(append_zeros(std::exchange(padding_, 0)));
    TRY(check_texts(header));
    std::string name = header.name;
    if (header.type == TarType::directory && name.back() != '/') name += '/';
    const std::string linkname = has_link(header.type) ? header.linkname : std::string();
    const std::uint64_t size = has_body(header.type) ? header.size : 0;
    if (size > INT64_MAX) return bad_input("tar: {} is too big", quoted(name));
    // Go's Truncate(time.Second) rounds towards the past, as the floor of a negative quotient.
    const std::int64_t seconds = header.mtime_ns / kSecond - (header.mtime_ns % kSecond < 0 ? 1 : 0);

    Records records;
    add_text(records, "path", name, kName.size);
    add_text(records, "linkpath", linkname, kLinkname.size);
    add_text(records, "uname", header.uname, kUname.size);
    add_text(records, "gname", header.gname, kGname.size);
    add_number(records, "uid", header.uid, kUid.size);
    add_number(records, "gid", header.gid, kGid.size);
    add_number(records, "size", static_cast<std::int64_t>(size), kSize.size);
    add_number(records, "mtime", seconds, kMtime.size);
    for (const auto& [key, value] : header.xattrs) records["SCHILY.xattr." + key] = value;

    if (!records.empty()) {
        std::string text;
        for (const auto& [key, value] : records) text += pax_record(key, value);
        if (text.size() > kMaxMeta) return bad_input("tar: the attributes of {} are too long", quoted(name));
        Block block{};
        put_text(block, kName, pax_name(name));
        put_octal(block, kMode, 0);
        put_octal(block, kUid, 0);
        put_octal(block, kGid, 0);
        put_octal(block, kSize, static_cast<std::int64_t>(text.size()));
        put_octal(block, kMtime, 0);
        block[kTypeAt] = std::byte{'x'};
        seal(block);
        TRY(append(block));
        TRY(append(as_bytes(text)));
        TRY(append_zeros(padding_of(text.size())));
    }

    Block block{};
    put_text(block, kName, to_ascii(name));
    put_text(block, kLinkname, to_ascii(linkname));
    put_octal(block, kMode, header.mode & 07777);
    put_octal(block, kUid, header.uid);
    put_octal(block, kGid, header.gid);
    put_octal(block, kSize, static_cast<std::int64_t>(size));
    put_octal(block, kMtime, seconds);
    block[kTypeAt] = static_cast<std::byte>(header.type);
    put_text(block, kUname, to_ascii(header.uname));
    put_text(block, kGname, to_ascii(header.gname));
    put_octal(block, kDevmajor, is_device(header.type) ? header.devmajor : 0);
    put_octal(block, kDevminor, is_device(header.type) ? header.devminor : 0);
    seal(block);
    left_ = size;
    padding_ = padding_of(size);
    return append(block);
}

Result<> TarWriter::write_body(std::span<const std::byte> data) {
    CHECK(data.size() <= left_);
    left_ -= data.size();
    return append(data);
}

Result<std::span<std::byte>> TarWriter::body_space(std::size_t wanted) {
    constexpr std::size_t kUsefulSpace = 64 << 10;
    if (kBuffer - used_ < std::min(wanted, kUsefulSpace)) TRY(flush_buffer());
    return std::span(buffer_).subspan(used_, std::min(wanted, kBuffer - used_));
}

Result<> TarWriter::commit_body(std::size_t written) {
    CHECK(written <= left_ && written <= kBuffer - used_);
    left_ -= written;
    used_ += written;
    size_ += written;
    return used_ == kBuffer ? flush_buffer() : Result<>();
}

Result<> TarWriter::finish() {
    CHECK(left_ == 0);
    TRY(append_zeros(std::exchange(padding_, 0)));
    TRY(append_zeros(2 * kBlock));
    return flush_buffer();
}

}  // namespace cooper::codec
