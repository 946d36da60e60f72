#include "codec/tar.hpp"

#include <algorithm>
#include <gtest/gtest.h>

namespace cooper::codec {
namespace {

using namespace std::literals;

std::string write_one(const TarHeader& header, std::string_view body) {
    StringSink out;
    TarWriter tar(out);
    EXPECT_TRUE(tar.write_header(header));
    EXPECT_TRUE(tar.write_body(as_bytes(body)));
    EXPECT_TRUE(tar.finish());
    EXPECT_EQ(tar.size(), out.text.size());
    return out.text;
}

struct Entry {
    TarHeader header;
    std::string body;
};

Result<std::vector<Entry>> read_tar(const std::string& text) {
    StringSource source(text);
    TarReader tar(source);
    std::vector<Entry> entries;
    for (;;) {
        const TarHeader* header = TRY(tar.next());
        if (header == nullptr) return entries;
        Entry entry{.header = *header, .body = {}};
        Bytes buffer(777);
        for (;;) {
            const std::size_t got = TRY(tar.read(buffer));
            if (got == 0) break;
            entry.body += as_text(std::span(buffer).first(got));
            if (entry.body.size() > (1 << 20)) return bad_input("too long");
        }
        entries.push_back(std::move(entry));
    }
}

void put(std::string& block, std::size_t at, std::string_view text) { block.replace(at, text.size(), text); }

void seal(std::string& block) {
    put(block, 148, "        ");
    unsigned sum = 0;
    for (const char c : block.substr(0, 512)) sum += static_cast<unsigned char>(c);
    put(block, 148, fmt::format("{:06o}", sum) + "\0 "s);
}

// A ustar block as other programs write it.
std::string raw_block(std::string_view name, char type, std::size_t size, std::string_view magic = "ustar\00000"sv) {
    std::string block(512, '\0');
    put(block, 0, name);
    put(block, 100, "0000644\0"s);
    put(block, 108, "0001750\0"s);
    put(block, 116, "0001750\0"s);
    put(block, 124, fmt::format("{:011o}", size) + "\0"s);
    put(block, 136, "00000000007\0"s);
    block[156] = type;
    put(block, 257, magic);
    seal(block);
    return block;
}
std::string padded(std::string text) {
    text.resize((text.size() + 511) / 512 * 512);
    return text;
}
std::string pax(std::string_view records) {
    return raw_block("pax", 'x', records.size()) + padded(std::string(records));
}
std::string record(std::string_view key, std::string_view value) {
    for (std::size_t size = key.size() + value.size() + 4;; ++size) {
        std::string text = fmt::format("{} {}={}\n", size, key, value);
        if (text.size() == size) return text;
    }
}

TEST(TarWriter, GoldenPlainFile) {
    TarHeader header{.name = "etc/hosts"};
    header.mode = 0644;
    header.uid = 1000;
    header.gid = 100;
    header.size = 6;
    header.mtime_ns = 1'700'000'000'999'999'999;
    const std::string out = write_one(header, "hello\n");
    ASSERT_EQ(out.size(), 512U + 512 + 1024);
    std::string expected(512, '\0');
    put(expected, 0, "etc/hosts");
    put(expected, 100, "0000644\0000001750\0000000144\00000000000006\00014524770400\0"s);
    expected[156] = '0';
    put(expected, 257, "ustar\00000"s);
    put(expected, 329, "0000000\0000000000\0"s);
    seal(expected);
    EXPECT_EQ(out.substr(0, 512), expected);
    EXPECT_EQ(out.substr(512, 512), padded("hello\n"));
    EXPECT_EQ(out.substr(1024), std::string(1024, '\0'));
}

TEST(TarWriter, GoldenPaxHeader) {
    TarHeader header{.name = "d\xC3\xA4r/sub"};
    header.type = TarType::directory;
    header.mode = 01777;
    header.xattrs["user.a"] = "x\0y"s;
    header.mtime_ns = -1'500'000'000;
    const std::string out = write_one(header, "");
    ASSERT_EQ(out.size(), 3U * 512 + 1024);
    EXPECT_EQ(out.substr(0, 22), "dr/sub/PaxHeaders.0\0\0\0"s);
    EXPECT_EQ(out[156], 'x');
    EXPECT_EQ(out.substr(512, 512), padded("27 SCHILY.xattr.user.a=x\0y\n12 mtime=-2\n18 path=d\xC3\xA4r/sub/\n"s));
    EXPECT_EQ(out.substr(1024, 9), "dr/sub/\0\0"s);
    EXPECT_EQ(out.substr(1024 + 136, 12), "00000000000\0"s);
    EXPECT_EQ(out[1024 + 156], '5');
}

TEST(TarWriter, WhatDoesNotFitGoesIntoPax) {
    TarHeader header{.name = std::string(60, 'a') + "/" + std::string(60, 'b')};
    header.linkname = std::string(101, 'l');
    header.type = TarType::symlink;
    header.uid = 2097152;
    header.gid = 2097151;
    const auto entries = *read_tar(write_one(header, ""));
    ASSERT_EQ(entries.size(), 1U);
    EXPECT_EQ(entries[0].header.name, header.name);
    EXPECT_EQ(entries[0].header.linkname, header.linkname);
    EXPECT_EQ(entries[0].header.uid, 2097152U);
    // Exactly 100 bytes still fit the block.
    header = {.name = std::string(100, 'n')};
    EXPECT_EQ(write_one(header, "").size(), 512U + 1024);
}

TEST(TarWriter, RefusesNulAndNamelessEntries) {
    StringSink out;
    TarWriter tar(out);
    EXPECT_FALSE(tar.write_header({.name = "a\0b"s}));
    EXPECT_FALSE(tar.write_header({.name = ""}));
    EXPECT_TRUE(out.text.empty());
}

TEST(TarRoundTrip, KeepsWhatLayersHold) {
    StringSink out;
    TarWriter tar(out);
    TarHeader device{.name = "dev/null"};
    device.type = TarType::char_device;
    device.devmajor = 1;
    device.devminor = 3;
    ASSERT_TRUE(tar.write_header(device));
    TarHeader big{.name = "big"};
    big.size = 600'000;
    big.mode = 04755;
    big.xattrs["security.capability"] = "\1\0\0\2"s;
    ASSERT_TRUE(tar.write_header(big));
    for (std::size_t left = big.size; left > 0;) {
        const auto space = *tar.body_space(left);
        ASSERT_FALSE(space.empty());
        std::ranges::fill(space, std::byte{'z'});
        ASSERT_TRUE(tar.commit_body(space.size()));
        left -= space.size();
    }
    ASSERT_TRUE(tar.finish());
    const auto entries = *read_tar(out.text);
    ASSERT_EQ(entries.size(), 2U);
    EXPECT_EQ(entries[0].header.devminor, 3U);
    EXPECT_EQ(entries[0].header.type, TarType::char_device);
    EXPECT_EQ(entries[1].header.mode, 04755U);
    EXPECT_EQ(entries[1].header.xattrs, big.xattrs);
    EXPECT_TRUE(entries[1].body == std::string(big.size, 'z'));
}

TEST(TarReader, GnuAndUstarLongNames) {
    const std::string name(300, 'n');
    std::string text = raw_block("././@LongLink", 'L', 301, "ustar  \0"s) + padded(name + "\0"s);
    text += raw_block("cut", '0', 1, "ustar  \0"s) + padded("x");
    std::string prefixed = raw_block("file", '0', 0);
    put(prefixed, 345, "some/prefix");
    seal(prefixed);
    const auto entries = *read_tar(text + prefixed + std::string(1024, '\0'));
    ASSERT_EQ(entries.size(), 2U);
    EXPECT_EQ(entries[0].header.name, name);
    EXPECT_EQ(entries[0].body, "x");
    EXPECT_EQ(entries[1].header.name, "some/prefix/file");
    EXPECT_EQ(entries[1].header.uid, 1000U);
    EXPECT_EQ(entries[1].header.mtime_ns, 7'000'000'000);
}

TEST(TarReader, PaxOverridesAndGlobalsAreIgnored) {
    std::string text = raw_block("g", 'g', record("path", "global").size()) + padded(record("path", "global"));
    text += pax(record("path", "long") + record("mtime", "1.25") + record("uid", "70000") + record("size", "3"));
    text += raw_block("short", '0', 0) + padded("abc");
    text += raw_block("next", '0', 0);
    const auto entries = *read_tar(text);  // no end marker: fine at a block
    ASSERT_EQ(entries.size(), 2U);
    EXPECT_EQ(entries[0].header.name, "long");
    EXPECT_EQ(entries[0].header.mtime_ns, 1'250'000'000);
    EXPECT_EQ(entries[0].header.uid, 70000U);
    EXPECT_EQ(entries[0].body, "abc");
    EXPECT_EQ(entries[1].header.name, "next");
}

TEST(TarReader, ExtendedAttributesOfBothSpellings) {
    const std::string plain = record("SCHILY.xattr.user.both", "plain");
    const std::string packed = record("LIBARCHIVE.xattr.user.both", "cGFja2Vk");
    std::string text = pax(record("LIBARCHIVE.xattr.user.a%3Db%25", "AAFi") +
                           record("LIBARCHIVE.xattr.user.one", "MQ") + record("LIBARCHIVE.xattr.user.none", ""));
    text += raw_block("a", '0', 0) + pax(plain + packed) + raw_block("b", '0', 0);
    text += pax(packed + plain) + raw_block("c", '0', 0);
    const auto entries = *read_tar(text);
    ASSERT_EQ(entries.size(), 3U);
    const std::map<std::string, std::string> expected{{"user.a=b%", "\0\1b"s}, {"user.one", "1"}, {"user.none", ""}};
    EXPECT_EQ(entries[0].header.xattrs, expected);
    EXPECT_EQ(entries[1].header.xattrs.at("user.both"), "plain");
    EXPECT_EQ(entries[2].header.xattrs.at("user.both"), "plain");
    for (const char* bad : {"user.%", "user.%4", "user.%zz", "user.%00"}) {
        EXPECT_FALSE(read_tar(pax(record(fmt::format("LIBARCHIVE.xattr.{}", bad), "MQ")) + raw_block("a", '0', 0)));
    }
    EXPECT_FALSE(read_tar(pax(record("LIBARCHIVE.xattr.user.a", "?")) + raw_block("a", '0', 0)));
}

TEST(TarReader, AllSparseFormats) {
    const std::string expanded = std::string(512, '\0') + "AAAA" + std::string(100, '\0') + "BB" + std::string(6, '\0');
    std::string old = raw_block("s", 'S', 6, "ustar  \0"s);
    put(old, 386, "00000001000\00000000000004\00000000001150\00000000000002\0"s);
    put(old, 483, fmt::format("{:011o}", expanded.size()) + "\0"s);
    seal(old);
    old += padded("AAAABB");
    const std::string size = std::to_string(expanded.size());
    const std::string v00 = pax(record("GNU.sparse.size", size) + record("GNU.sparse.numblocks", "2") +
                                record("GNU.sparse.offset", "512") + record("GNU.sparse.numbytes", "4") +
                                record("GNU.sparse.offset", "616") + record("GNU.sparse.numbytes", "2")) +
                            raw_block("s", '0', 6) + padded("AAAABB");
    const std::string v01 = pax(record("GNU.sparse.size", size) + record("GNU.sparse.numblocks", "2") +
                                record("GNU.sparse.map", "512,4,616,2") + record("GNU.sparse.name", "s")) +
                            raw_block("GNUSparseFile.0/s", '0', 6) + padded("AAAABB");
    const std::string v10 = pax(record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") +
                                record("GNU.sparse.name", "s") + record("GNU.sparse.realsize", size)) +
                            raw_block("GNUSparseFile.0/s", '0', 518) + padded("2\n512\n4\n616\n2\n") + padded("AAAABB");
    for (const auto& text : {old, v00, v01, v10}) {
        const auto entries = read_tar(text + raw_block("next", '0', 1) + padded("n") + std::string(1024, '\0'));
        ASSERT_TRUE(entries) << entries.error().to_string();
        ASSERT_EQ(entries->size(), 2U);
        EXPECT_EQ((*entries)[0].header.name, "s");
        EXPECT_TRUE((*entries)[0].header.sparse);
        EXPECT_EQ((*entries)[0].body, expanded);
        EXPECT_EQ((*entries)[1].body, "n");
    }
    // A map that overlaps, leaves the file, or does not account for the data.
    for (const char* map :
         {"512,4,510,2", "512,4,622,4", "512,4,616,1", "512,-4,616,10", "512,4,9223372036854775807,2"}) {
        const std::string bad = pax(record("GNU.sparse.size", size) + record("GNU.sparse.map", map));
        EXPECT_FALSE(read_tar(bad + raw_block("s", '0', 6) + padded("AAAABB"))) << map;
    }
}

TEST(TarReader, RefusesBrokenArchives) {
    const std::string good = raw_block("a", '0', 3) + padded("abc");
    EXPECT_TRUE(read_tar(good + std::string(512, '\0')));
    EXPECT_FALSE(read_tar(good + std::string(512, '\0') + good));  // data after one zero block
    EXPECT_FALSE(read_tar(good.substr(0, 700)));
    EXPECT_FALSE(read_tar(good.substr(0, 500)));
    EXPECT_FALSE(read_tar(good + "tail"));
    EXPECT_FALSE(read_tar("text " + std::string(2000, 'x')));
    std::string flipped = good;
    flipped[0] = 'b';
    EXPECT_FALSE(read_tar(flipped));
    EXPECT_FALSE(read_tar(raw_block("a", 'Q', 0)));         // unknown type
    EXPECT_FALSE(read_tar(raw_block("x", 'x', 4 << 20)));   // PAX header too long
    EXPECT_FALSE(read_tar(pax(record("path", "p"))));       // nothing follows
    EXPECT_FALSE(read_tar(pax("9 path=abcdef\n") + good));  // lies about its length
    EXPECT_FALSE(read_tar(pax("999 path=a\n") + good));
    EXPECT_FALSE(read_tar(pax(record("path", "a\0b"s)) + good));
    EXPECT_FALSE(read_tar(pax(record("size", "-1")) + good));
    EXPECT_FALSE(read_tar(pax(record("size", "99999999999999999999")) + good));
    EXPECT_FALSE(read_tar(pax(record("uid", "4294967296")) + good));
    std::string metas;
    for (int i = 0; i < 100; ++i) metas += pax(record("path", "p"));
    EXPECT_FALSE(read_tar(metas + good));
    EXPECT_EQ(read_tar(flipped).error().code(), Code::invalid_argument);
}

TEST(TarReader, BaseTwoFiftySixNumbers) {
    std::string block = raw_block("a", '0', 0, "ustar  \0"s);
    put(block, 136, "\x80\0\0\0\0\0\0\1\0\0\0\0"s);
    put(block, 108, "\x80\0\0\0\0\1\0\0"s);
    seal(block);
    auto entries = *read_tar(block);
    EXPECT_EQ(entries[0].header.mtime_ns, 4'294'967'296'000'000'000);
    EXPECT_EQ(entries[0].header.uid, 65536U);
    put(block, 136, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe"s);
    seal(block);
    EXPECT_EQ((*read_tar(block))[0].header.mtime_ns, -2'000'000'000);
    put(block, 124, "\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"s);
    seal(block);
    EXPECT_FALSE(read_tar(block));
}

TEST(TarReader, LimitsEntries) {
    std::string text;
    for (int i = 0; i < 5; ++i) text += raw_block("a", '0', 0);
    StringSource source(text);
    TarReader tar(source, TarLimits{.max_entries = 3});
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(tar.next());
    EXPECT_EQ(tar.next().error().code(), Code::resource_exhausted);
}

}  // namespace
}  // namespace cooper::codec
