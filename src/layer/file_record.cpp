#include "layer/file_record.hpp"

#include "codec/sha256.hpp"

#include <algorithm>
#include <charconv>
#include <sys/sysmacros.h>

namespace cooper::layer {

namespace {

using snapshot::Kind;
using snapshot::Node;
using snapshot::Xattrs;

constexpr std::size_t kReadChunk = 64UL * 1024;
constexpr int kMaxTries = 5;

char type_flag(Kind kind) {
    switch (kind) {
        case Kind::directory:
            return '5';
        case Kind::symlink:
            return '2';
        case Kind::char_device:
            return '3';
        case Kind::block_device:
            return '4';
        case Kind::fifo:
            return '6';
        case Kind::file:
        case Kind::socket:
            return '0';  // BuildKit clears the socket bit first
    }
    UNREACHABLE();
}

void append_number(std::string& out, std::uint64_t value) {
    std::array<char, 24> digits;
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value);
    out.append(digits.data(), end.ptr);
}

bool counts(std::string_view name) {
    return name == "security.capability" ||
           (!name.starts_with("security.") && !name.starts_with("system.") && !name.starts_with("com.apple."));
}

std::string header_text(const Node& node, std::string_view link, const Xattrs& xattrs) {
    const bool device = node.kind == Kind::char_device || node.kind == Kind::block_device;
    const std::uint64_t size = node.kind == Kind::file || node.kind == Kind::socket ? node.size : 0;
    std::string text = "namemode";
    append_number(text, node.kind == Kind::symlink ? 0777 : node.mode);
    text += "uid";
    append_number(text, node.uid);
    text += "gid";
    append_number(text, node.gid);
    text += "size";
    append_number(text, size);
    text += "typeflag";
    text += type_flag(node.kind);
    text += "linkname";
    text += link;
    text += "unamegnamedevmajor";
    append_number(text, device ? gnu_dev_major(node.rdev) : 0);
    text += "devminor";
    append_number(text, device ? gnu_dev_minor(node.rdev) : 0);
    for (const auto& [name, value] : xattrs) {
        if (!counts(name)) continue;
        text += name;
        text += value;
    }
    return text;
}

RawDigest raw(const Digest& digest) {
    RawDigest out{};
    std::copy_n(digest.raw().begin(), out.size(), out.begin());
    return out;
}

Result<RawDigest> digest_file(const snapshot::Directory& dir, const std::string& name, Node& node,
                              std::uint64_t& bytes_read) {
    for (int i = 0; i < kMaxTries; ++i) {
        const sys::Fd fd = TRY(dir.open_file(name, node));
        const Xattrs xattrs = TRY(snapshot::read_xattrs(fd.get()));
        codec::Sha256 hash;
        hash.update(std::string_view(header_text(node, {}, xattrs)));
        std::array<std::byte, kReadChunk> buffer;
        std::uint64_t size = 0;
        while (true) {
            const std::size_t n = TRY_CONTEXT(sys::read_some(fd.get(), buffer), "read {}", name);
            hash.update(std::span<const std::byte>(buffer).first(n));
            size += n;
            if (n == 0 || (n < buffer.size() && size == node.size)) break;
        }
        bytes_read += size;
        struct stat st{};
        if (::fstat(fd.get(), &st) != 0) return fail_errno(errno, name);
        Node now = snapshot::node_from_stat(st);
        if (now.kind != Kind::file) break;
        if (size == node.size && now.size == size && now.mtime_ns == node.mtime_ns && now.ctime_ns == node.ctime_ns &&
            now.inode == node.inode) {
            return raw(hash.finish());
        }
        // It changed since it was looked at: look again, with the owner as the tree shows it.
        now.uid = node.uid;
        now.gid = node.gid;
        now.origin = node.origin;
        node = now;
    }
    return fail(Code::aborted, Blame::user, "file keeps changing while it is read: {}", name);
}

}  // namespace

Result<RawDigest> digest_record(const snapshot::Directory& dir, const std::string& name, Node& node,
                                std::uint64_t& bytes_read) {
    if (node.kind == Kind::file && node.size > 0) return digest_file(dir, name, node, bytes_read);
    const Xattrs xattrs = TRY(dir.xattrs(name, node));
    std::string link;
    if (node.kind == Kind::symlink) link = TRY(dir.read_link(name, node));
    return raw(codec::sha256_of(header_text(node, link, xattrs)));
}

Result<RawDigest> digest_header(const snapshot::Directory& dir, const Node& node) {
    const Xattrs xattrs = TRY(dir.self_xattrs());
    return raw(codec::sha256_of(header_text(node, {}, xattrs)));
}

}  // namespace cooper::layer
