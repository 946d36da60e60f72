// RPM databases: headers, and two of the files that hold them.
#include "attest/packages.hpp"
#include "base/text.hpp"

#include <cstring>
#include <memory>
#include <sqlite3.h>

namespace cooper::attest {

namespace {

constexpr std::size_t kMaxEntries = 65'536;
constexpr std::size_t kMaxHeader = std::size_t{64} << 20U;

std::optional<std::uint32_t> read_be32(std::string_view bytes, std::size_t at) {
    if (at > bytes.size() || bytes.size() - at < 4) return std::nullopt;
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < 4; ++i) value = value << 8U | static_cast<unsigned char>(bytes[at + i]);
    return value;
}

std::optional<std::uint32_t> read_le32(std::string_view bytes, std::size_t at) {
    if (at > bytes.size() || bytes.size() - at < 4) return std::nullopt;
    std::uint32_t value = 0;
    for (std::size_t i = 4; i > 0; --i) value = value << 8U | static_cast<unsigned char>(bytes[at + i - 1]);
    return value;
}

}  // namespace

// Two counts, an index of tags (tag, type, offset, count), the data; all big-endian.
std::optional<Package> parse_rpm_header(std::string_view blob, const OsRelease& os) {
    enum Tag : std::uint32_t { name = 1000, version = 1001, release = 1002, epoch = 1003, license = 1014, arch = 1022 };
    constexpr std::uint32_t kInt32 = 4;
    constexpr std::uint32_t kString = 6;
    constexpr std::uint32_t kI18nString = 9;
    const auto entries = read_be32(blob, 0);
    const auto size = read_be32(blob, 4);
    if (!entries || !size || *entries > kMaxEntries) return std::nullopt;
    const std::size_t start = 8 + std::size_t{*entries} * 16;
    if (start > blob.size() || blob.size() - start < *size) return std::nullopt;
    const std::string_view data = blob.substr(start, *size);
    const auto text_at = [&](std::uint32_t offset) {
        if (offset >= data.size()) return std::string();
        const std::string_view rest = data.substr(offset, kMaxField);
        return std::string(rest.substr(0, rest.find('\0')));
    };
    Package package{.type = "rpm",
                    .space = os.id,
                    .name = {},
                    .version = {},
                    .architecture = {},
                    .license = {},
                    .distro = os.version.empty() ? os.id : os.id + "-" + os.version,
                    .path = {},
                    .layer = {}};
    std::string released;
    std::optional<std::uint32_t> epoch_number;
    for (std::size_t i = 0; i < *entries; ++i) {
        const std::size_t at = 8 + i * 16;
        const std::uint32_t tag = *read_be32(blob, at);
        const std::uint32_t type = *read_be32(blob, at + 4);
        const std::uint32_t offset = *read_be32(blob, at + 8);
        const bool text = type == kString || type == kI18nString;
        if (tag == Tag::name && text) package.name = text_at(offset);
        if (tag == Tag::version && text) package.version = text_at(offset);
        if (tag == Tag::release && text) released = text_at(offset);
        if (tag == Tag::license && text) package.license = text_at(offset);
        if (tag == Tag::arch && text) package.architecture = text_at(offset);
        if (tag == Tag::epoch && type == kInt32) epoch_number = read_be32(data, offset);
    }
    if (package.name.empty() || package.name == "gpg-pubkey") return std::nullopt;
    if (!released.empty()) package.version += "-" + released;
    if (epoch_number && *epoch_number != 0) package.version = fmt::format("{}:{}", *epoch_number, package.version);
    return package;
}

// A page-aligned list of slots, and blobs in blocks of 16 bytes; all little-endian.
std::vector<Package> parse_rpm_ndb(std::string_view file, const OsRelease& os) {
    constexpr std::uint32_t kMagic = 0x506d7052;  // "RpmP"
    constexpr std::uint32_t kSlot = 0x746f6c53;   // "Slot"
    constexpr std::uint32_t kBlob = 0x53626c42;   // "BlbS"
    constexpr std::size_t kPage = 4096;
    std::vector<Package> out;
    if (read_le32(file, 0) != kMagic) return out;
    const auto pages = read_le32(file, 12);
    if (!pages || *pages > file.size() / kPage) return out;
    for (std::size_t at = 32; at + 16 <= *pages * kPage && out.size() < kMaxPackages; at += 16) {
        if (read_le32(file, at) != kSlot) continue;
        const auto number = read_le32(file, at + 4);
        const auto block = read_le32(file, at + 8);
        if (!number || *number == 0 || !block) continue;
        const std::size_t blob = std::size_t{*block} * 16;
        const auto size = read_le32(file, blob + 12);
        if (read_le32(file, blob) != kBlob || read_le32(file, blob + 4) != number || !size) continue;
        if (*size > kMaxHeader || blob + 16 > file.size() || file.size() - blob - 16 < *size) continue;
        if (auto package = parse_rpm_header(file.substr(blob + 16, *size), os)) out.push_back(std::move(*package));
    }
    return out;
}

std::vector<Package> parse_rpm_sqlite(std::string_view file, const OsRelease& os) {
    std::vector<Package> out;
    static constexpr std::string_view kMagic = "SQLite format 3";
    if (!file.starts_with(kMagic)) return out;
    sqlite3* opened = nullptr;
    if (::sqlite3_open_v2(":memory:", &opened, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr) != SQLITE_OK) {
        ::sqlite3_close(opened);
        return out;
    }
    const std::unique_ptr<sqlite3, int (*)(sqlite3*)> database(opened, ::sqlite3_close);
    // A file of a stranger: no schema of its may call anything, and no statement runs on.
    ::sqlite3_db_config(opened, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
    ::sqlite3_db_config(opened, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
    ::sqlite3_db_config(opened, SQLITE_DBCONFIG_ENABLE_VIEW, 0, nullptr);
    ::sqlite3_db_config(opened, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, nullptr);
    ::sqlite3_limit(opened, SQLITE_LIMIT_LENGTH, static_cast<int>(kMaxHeader));
    int budget = 1'000'000;
    ::sqlite3_progress_handler(
        opened, 1000, [](void* left) { return --*static_cast<int*>(left) < 0 ? 1 : 0; }, &budget);
    auto* copy = static_cast<unsigned char*>(::sqlite3_malloc64(file.size()));
    if (copy == nullptr) return out;
    std::memcpy(copy, file.data(), file.size());
    // The database has a write-ahead log no more: as if it never had one.
    if (file.size() > 20) copy[18] = copy[19] = 1;
    if (::sqlite3_deserialize(opened, "main", copy, static_cast<sqlite3_int64>(file.size()),
                              static_cast<sqlite3_int64>(file.size()),
                              SQLITE_DESERIALIZE_FREEONCLOSE | SQLITE_DESERIALIZE_READONLY) != SQLITE_OK) {
        return out;
    }
    sqlite3_stmt* prepared = nullptr;
    if (::sqlite3_prepare_v2(opened, "SELECT blob FROM Packages ORDER BY hnum", -1, &prepared, nullptr) != SQLITE_OK)
        return out;
    const std::unique_ptr<sqlite3_stmt, int (*)(sqlite3_stmt*)> statement(prepared, ::sqlite3_finalize);
    while (out.size() < kMaxPackages && ::sqlite3_step(prepared) == SQLITE_ROW) {
        const void* blob = ::sqlite3_column_blob(prepared, 0);
        const auto size = static_cast<std::size_t>(::sqlite3_column_bytes(prepared, 0));
        if (blob == nullptr) continue;
        if (auto package = parse_rpm_header({static_cast<const char*>(blob), size}, os))
            out.push_back(std::move(*package));
    }
    return out;
}

}  // namespace cooper::attest
