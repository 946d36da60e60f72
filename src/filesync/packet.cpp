#include "filesync/packet.hpp"

#include "codec/wire.hpp"

namespace cooper::filesync {

namespace {

using codec::WireField;
using codec::WireReader;
using codec::WireWriter;
using snapshot::Kind;

constexpr std::uint32_t kTypeBits =
    go_mode::directory | go_mode::symlink | go_mode::device | go_mode::fifo | go_mode::socket | go_mode::char_device;
constexpr std::uint32_t kKnownBits = kTypeBits | go_mode::setuid | go_mode::setgid | go_mode::sticky | 0777U;

Error wrong_type(const char* message, unsigned field) {
    return bad_input("malformed {} message: field {} has the wrong type", message, field);
}

Result<std::pair<std::string, std::string>> parse_xattr(std::string_view bytes) {
    std::pair<std::string, std::string> xattr;
    WireReader in(bytes);
    while (!in.done()) {
        const WireField field = TRY(in.next());
        if (field.id != 1 && field.id != 2) continue;
        if (!field.is_bytes()) return wrong_type("Stat", 10);
        (field.id == 1 ? xattr.first : xattr.second) = field.bytes;
    }
    return xattr;
}

std::string packet(PacketType type, std::uint32_t id, std::string_view data) {
    WireWriter out;
    out.uint(1, static_cast<std::uint64_t>(type));
    out.uint(3, id);
    out.text(4, data);
    return out.take();
}

}  // namespace

std::uint32_t to_go_mode(Kind kind, std::uint32_t permissions) {
    std::uint32_t mode = permissions & 0777U;
    if ((permissions & 04000U) != 0) mode |= go_mode::setuid;
    if ((permissions & 02000U) != 0) mode |= go_mode::setgid;
    if ((permissions & 01000U) != 0) mode |= go_mode::sticky;
    switch (kind) {
        case Kind::file:
            return mode;
        case Kind::directory:
            return mode | go_mode::directory;
        case Kind::symlink:
            return mode | go_mode::symlink;
        case Kind::char_device:
            return mode | go_mode::device | go_mode::char_device;
        case Kind::block_device:
            return mode | go_mode::device;
        case Kind::fifo:
            return mode | go_mode::fifo;
        case Kind::socket:
            return mode | go_mode::socket;
    }
    UNREACHABLE();
}

Result<Kind> kind_of_mode(std::uint32_t mode) {
    if ((mode & ~kKnownBits) != 0) return bad_input("unknown file mode {:#x}", mode);
    switch (mode & kTypeBits) {
        case 0:
            return Kind::file;
        case go_mode::directory:
            return Kind::directory;
        case go_mode::symlink:
            return Kind::symlink;
        case go_mode::device | go_mode::char_device:
            return Kind::char_device;
        case go_mode::device:
            return Kind::block_device;
        case go_mode::fifo:
            return Kind::fifo;
        case go_mode::socket:
            return Kind::socket;
        default:
            return bad_input("unknown file mode {:#x}", mode);
    }
}

std::uint32_t permissions_of_mode(std::uint32_t mode) {
    std::uint32_t permissions = mode & 0777U;
    if ((mode & go_mode::setuid) != 0) permissions |= 04000U;
    if ((mode & go_mode::setgid) != 0) permissions |= 02000U;
    if ((mode & go_mode::sticky) != 0) permissions |= 01000U;
    return permissions;
}

Result<Stat> parse_stat(std::string_view message) {
    Stat stat;
    WireReader in(message);
    while (!in.done()) {
        const WireField field = TRY(in.next());
        if (field.id == 0 || field.id > 10) continue;
        const bool is_text = field.id == 1 || field.id == 7 || field.id == 10;
        if (is_text ? !field.is_bytes() : !field.is_number()) return wrong_type("Stat", field.id);
        switch (field.id) {
            case 1:
                stat.path = field.bytes;
                break;
            case 2:
                stat.mode = static_cast<std::uint32_t>(field.number);
                break;
            case 3:
                stat.uid = static_cast<std::uint32_t>(field.number);
                break;
            case 4:
                stat.gid = static_cast<std::uint32_t>(field.number);
                break;
            case 5:
                stat.size = field.int64();
                break;
            case 6:
                stat.mtime_ns = field.int64();
                break;
            case 7:
                stat.linkname = field.bytes;
                break;
            case 8:
                stat.devmajor = field.int64();
                break;
            case 9:
                stat.devminor = field.int64();
                break;
            default:
                stat.xattrs.push_back(TRY(parse_xattr(field.bytes)));
        }
    }
    return stat;
}

std::string stat_bytes(const Stat& stat) {
    WireWriter out;
    out.text(1, stat.path);
    out.uint(2, stat.mode);
    out.uint(3, stat.uid);
    out.uint(4, stat.gid);
    out.integer(5, stat.size);
    out.integer(6, stat.mtime_ns);
    out.text(7, stat.linkname);
    out.integer(8, stat.devmajor);
    out.integer(9, stat.devminor);
    for (const auto& [name, value] : stat.xattrs) {
        WireWriter entry;
        entry.element(1, name);
        entry.element(2, value);
        out.element(10, entry.bytes());
    }
    return out.take();
}

Result<Packet> parse_packet(std::string_view message) {
    Packet packet;
    WireReader in(message);
    while (!in.done()) {
        const WireField field = TRY(in.next());
        switch (field.id) {
            case 1:
                if (!field.is_number()) return wrong_type("Packet", 1);
                if (field.number > static_cast<std::uint64_t>(PacketType::error)) {
                    return bad_input("malformed Packet message: unknown type {}", field.number);
                }
                packet.type = static_cast<PacketType>(field.number);
                break;
            case 2:
                if (!field.is_bytes()) return wrong_type("Packet", 2);
                packet.stat = TRY(parse_stat(field.bytes));
                break;
            case 3:
                if (!field.is_number()) return wrong_type("Packet", 3);
                packet.id = static_cast<std::uint32_t>(field.number);
                break;
            case 4:
                if (!field.is_bytes()) return wrong_type("Packet", 4);
                packet.data = field.bytes;
                break;
            default:
                break;
        }
    }
    return packet;
}

std::string stat_packet(const Stat& stat) {
    WireWriter out;
    out.element(2, stat_bytes(stat));
    return out.take();
}
std::string end_of_stats_packet() { return {}; }
std::string request_packet(std::uint32_t id) { return packet(PacketType::request, id, {}); }
std::string data_packet(std::uint32_t id, std::string_view data) { return packet(PacketType::data, id, data); }
std::string fin_packet() { return packet(PacketType::fin, 0, {}); }
std::string error_packet(std::string_view text) { return packet(PacketType::error, 0, text); }

}  // namespace cooper::filesync
