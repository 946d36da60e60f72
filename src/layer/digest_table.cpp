#include "layer/digest_table.hpp"

#include "codec/sha256.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

namespace cooper::layer {

namespace {

constexpr std::array<char, 8> kMagic{'c', 'o', 'o', 'p', 'd', 'g', 't', '1'};
constexpr std::size_t kMaxFileBytes = 1UL << 30U;

struct Header {
    std::array<char, 8> magic = kMagic;
    RawDigest key{};
    RawDigest checksum{};  // of everything after the header
    std::int64_t scanned_ns = 0;
    std::uint64_t dirs = 0;
    std::uint64_t entries = 0;
    std::uint64_t string_bytes = 0;
};

static_assert(sizeof(DigestTable::Entry) == 88 && sizeof(DigestTable::Dir) == 56);
static_assert(std::is_trivially_copyable_v<DigestTable::Entry> && std::is_trivially_copyable_v<DigestTable::Dir>);

RawDigest raw(const Digest& digest) {
    RawDigest out{};
    std::copy_n(digest.raw().begin(), out.size(), out.begin());
    return out;
}

RawDigest checksum_of(const DigestTable& table) {
    codec::Sha256 hash;
    hash.update(std::as_bytes(std::span(table.dirs)));
    hash.update(std::as_bytes(std::span(table.entries)));
    hash.update(std::string_view(table.strings));
    return raw(hash.finish());
}

bool read_exactly(int fd, void* out, std::size_t size) {
    auto* at = static_cast<std::byte*>(out);
    while (size > 0) {
        const auto n = sys::read_some(fd, {at, size});
        if (!n || *n == 0) return false;
        at += *n;
        size -= *n;
    }
    return true;
}

bool consistent(const DigestTable& table) {
    const auto within = [&](std::uint64_t offset, std::uint64_t length) {
        return offset + length <= table.strings.size();
    };
    for (const auto& dir : table.dirs) {
        if (!within(dir.path_offset, dir.path_length)) return false;
        if (std::uint64_t{dir.first} + dir.count > table.entries.size() || dir.count == 0) return false;
    }
    return std::all_of(table.entries.begin(), table.entries.end(),
                       [&](const auto& entry) { return within(entry.name_offset, entry.name_length); });
}

}  // namespace

const DigestTable::Dir* DigestTable::find_dir(std::string_view path) const {
    const auto at = std::lower_bound(dirs.begin(), dirs.end(), path,
                                     [&](const Dir& dir, std::string_view wanted) { return path_of(dir) < wanted; });
    return at != dirs.end() && path_of(*at) == path ? &*at : nullptr;
}

std::span<const DigestTable::Entry> DigestTable::entries_of(const Dir& dir) const {
    return std::span(entries).subspan(dir.first, dir.count);
}

std::string_view DigestTable::name_of(const Entry& entry) const {
    return std::string_view(strings).substr(entry.name_offset, entry.name_length);
}

std::string_view DigestTable::path_of(const Dir& dir) const {
    return std::string_view(strings).substr(dir.path_offset, dir.path_length);
}

DigestTable DigestTable::load(const std::string& file, std::string_view key) {
    const sys::Fd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    struct stat st{};
    Header header;
    if (!fd.valid() || ::fstat(fd.get(), &st) != 0 || !S_ISREG(st.st_mode)) return {};
    if (!read_exactly(fd.get(), &header, sizeof header)) return {};
    if (header.magic != kMagic || header.key != raw(codec::sha256_of(key))) return {};
    const auto size = static_cast<std::uint64_t>(st.st_size);
    if (size > kMaxFileBytes || header.dirs > size || header.entries > size || header.string_bytes > size) return {};
    if (sizeof header + header.dirs * sizeof(Dir) + header.entries * sizeof(Entry) + header.string_bytes != size)
        return {};
    DigestTable table;
    table.scanned_ns = header.scanned_ns;
    table.dirs.resize(header.dirs);
    table.entries.resize(header.entries);
    table.strings.resize(header.string_bytes);
    if (!read_exactly(fd.get(), table.dirs.data(), table.dirs.size() * sizeof(Dir)) ||
        !read_exactly(fd.get(), table.entries.data(), table.entries.size() * sizeof(Entry)) ||
        !read_exactly(fd.get(), table.strings.data(), table.strings.size())) {
        return {};
    }
    if (checksum_of(table) != header.checksum || !consistent(table)) return {};
    return table;
}

Result<> DigestTable::save(const std::string& file, std::string_view key) const {
    const Header header{.key = raw(codec::sha256_of(key)),
                        .checksum = checksum_of(*this),
                        .scanned_ns = scanned_ns,
                        .dirs = dirs.size(),
                        .entries = entries.size(),
                        .string_bytes = strings.size()};
    std::string temporary = file + ".XXXXXX";
    sys::Fd fd(::mkostemp(temporary.data(), O_CLOEXEC));
    if (!fd.valid()) return fail_errno(errno, temporary);
    auto written = sys::write_all(fd.get(), std::as_bytes(std::span(&header, 1)));
    if (written) written = sys::write_all(fd.get(), std::as_bytes(std::span(dirs)));
    if (written) written = sys::write_all(fd.get(), std::as_bytes(std::span(entries)));
    if (written) written = sys::write_all(fd.get(), std::string_view(strings));
    if (written) written = std::move(fd).close();
    if (written && ::rename(temporary.c_str(), file.c_str()) != 0) written = fail_errno(errno, file);
    if (!written) ::unlink(temporary.c_str());
    return written;
}

}  // namespace cooper::layer
