#include "codec/estargz.hpp"

#include "base/bytes.hpp"
#include "codec/sha256.hpp"
#include "codec/tar.hpp"

#include <algorithm>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace cooper::codec {
namespace {

std::string noise(std::size_t size) {
    std::string text(size, '\0');
    std::uint32_t state = 1;
    for (char& c : text) {
        state = state * 1664525 + 1013904223;
        c = static_cast<char>(state >> 24);
    }
    return text;
}

std::string make_tar(const std::vector<std::pair<TarHeader, std::string>>& entries) {
    StringSink sink;
    TarWriter writer(sink);
    for (auto [header, body] : entries) {
        header.size = body.size();
        EXPECT_TRUE(writer.write_header(header));
        EXPECT_TRUE(writer.write_body(as_bytes(body)));
    }
    EXPECT_TRUE(writer.finish());
    return sink.text;
}

std::string unzip(std::string_view packed) {
    auto source = decompress_any(std::make_unique<StringSource>(std::string(packed)));
    EXPECT_TRUE(source);
    std::string text;
    std::vector<std::byte> buffer(1 << 16);
    for (;;) {
        const auto got = source->source->read(buffer);
        if (!got || *got == 0) {
            EXPECT_TRUE(got) << got.error().to_string();
            return text;
        }
        text.append(reinterpret_cast<const char*>(buffer.data()), *got);
    }
}

struct Packed {
    std::string bytes;
    EstargzFacts facts;
};
Packed pack(const std::string& tar, std::size_t threads) {
    StringSource source(tar);
    StringSink sink;
    auto facts = write_estargz(source, sink, kDefaultLevel, threads, Stop{});
    EXPECT_TRUE(facts) << facts.error().to_string();
    return {sink.text, *facts};
}

// As a lazy reader does: the footer says where the table is, the table where the files are.
nlohmann::json toc_of(const std::string& packed) {
    const std::string footer = packed.substr(packed.size() - 51);
    EXPECT_EQ(footer.substr(12, 4), std::string("SG\x16\0", 4));
    EXPECT_EQ(footer.substr(32, 6), "STARGZ");
    const std::size_t at = std::stoull(footer.substr(16, 16), nullptr, 16);
    const std::string tar = unzip(std::string_view(packed).substr(at));
    StringSource source(tar);
    TarReader reader(source);
    const auto header = reader.next();
    EXPECT_TRUE(header && *header != nullptr && (*header)->name == "stargz.index.json");
    std::string text((*header)->size, '\0');
    std::size_t have = 0;
    while (have < text.size()) {
        have += *reader.read(std::as_writable_bytes(std::span(text)).subspan(have));
    }
    return nlohmann::json::parse(text);
}

TEST(Estargz, IsReadFileByFileAndAsPlainGzip) {
    TarHeader directory{.name = "d/",
                        .linkname = {},
                        .type = TarType::directory,
                        .mode = 0755,
                        .uname = {},
                        .gname = {},
                        .xattrs = {},
                        .pax = {},
                        .segments = {}};
    TarHeader file = directory;
    file.type = TarType::file;
    file.mode = 04755;
    file.uid = 7;
    file.mtime_ns = 1'700'000'000'900'000'000;
    file.name = "d/big";
    file.xattrs["user.a"] = "b";
    TarHeader small = file;
    small.name = std::string(200, 'n');
    TarHeader link = directory;
    link.type = TarType::symlink;
    link.name = "l";
    link.linkname = "d/big";
    const std::string big = noise((9 << 20) + 5);
    const std::string tar = make_tar({{directory, ""}, {file, big}, {link, ""}, {small, "hello"}});
    const Packed one = pack(tar, 1);
    EXPECT_EQ(one.bytes, pack(tar, 4).bytes);
    EXPECT_EQ(one.facts.blob.digest, sha256_of(one.bytes));
    EXPECT_EQ(one.facts.blob.size, one.bytes.size());
    const std::string plain = unzip(one.bytes);
    EXPECT_EQ(one.facts.blob.diff_id, sha256_of(plain));
    EXPECT_EQ(one.facts.blob.uncompressed_size, plain.size());

    const nlohmann::json toc = toc_of(one.bytes);
    EXPECT_EQ(toc["version"], 1);
    std::string read;
    std::vector<std::string> names;
    for (const auto& entry : toc["entries"]) {
        names.push_back(entry["name"]);
        if (!entry.contains("offset")) continue;
        const std::string inside = unzip(std::string_view(one.bytes).substr(entry["offset"], one.bytes.size()));
        std::size_t size = entry.value("chunkSize", std::size_t{0});
        if (size == 0 && entry["name"] == "d/big") size = big.size() - (8 << 20);
        if (entry["name"] == small.name) size = 5;
        if (entry["name"] == ".no.prefetch.landmark") size = 1;
        const std::string content = inside.substr(0, size);
        EXPECT_EQ(entry["chunkDigest"], sha256_of(content).to_string()) << entry.dump();
        if (entry["name"] == "d/big") read += content;
    }
    EXPECT_EQ(read, big);
    EXPECT_EQ(names,
              (std::vector<std::string>{".no.prefetch.landmark", "d/", "d/big", "d/big", "d/big", "l", small.name}));
    EXPECT_EQ(toc["entries"][2]["digest"], sha256_of(big).to_string());
    EXPECT_EQ(toc["entries"][2]["modtime"], "2023-11-14T22:13:20Z");
    EXPECT_EQ(toc["entries"][2]["mode"], 04755);
    EXPECT_EQ(toc["entries"][2]["xattrs"]["user.a"], "Yg==");
    EXPECT_EQ(toc["entries"][5]["linkName"], "d/big");

    // Of what is of this form already the same is made.
    EXPECT_EQ(pack(plain, 2).bytes, one.bytes);
}

TEST(Estargz, EmptyArchiveAndBrokenOnes) {
    EXPECT_EQ(toc_of(pack(make_tar({}), 1).bytes)["entries"].size(), 1U);
    StringSource broken(std::string(700, 'x'));
    StringSink sink;
    EXPECT_FALSE(write_estargz(broken, sink, kDefaultLevel, 1, Stop{}));
}

}  // namespace
}  // namespace cooper::codec
