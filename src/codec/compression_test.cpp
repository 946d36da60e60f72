#include "codec/compression.hpp"

#include "codec/base64.hpp"
#include "codec/pipeline.hpp"
#include "codec/sha256.hpp"

#include <gtest/gtest.h>

namespace cooper::codec {
namespace {

// Compressible, but not trivially.
std::string sample(std::size_t size) {
    std::string text;
    std::uint32_t state = 1;
    while (text.size() < size) {
        state = state * 1664525 + 1013904223;
        text += "line " + std::to_string(state >> 20) + " of text\n";
    }
    text.resize(size);
    return text;
}

std::string compress(std::string_view text, Compression kind, std::size_t threads, std::size_t cut) {
    StringSink out;
    auto compressor = std::move(*make_compressor(out, kind, kDefaultLevel, threads));
    for (std::size_t at = 0; at < text.size(); at += cut)
        EXPECT_TRUE(compressor->write(as_bytes(text.substr(at, cut))));
    EXPECT_TRUE(compressor->finish());
    return out.text;
}

// Gives a few bytes at a time, to try every border.
class DripSource final : public ByteSource {
public:
    DripSource(std::string text, std::size_t step) : inner_(std::move(text)), step_(step) {}
    Result<std::size_t> read(std::span<std::byte> buffer) override {
        return inner_.read(buffer.first(std::min(buffer.size(), step_)));
    }

private:
    StringSource inner_;
    std::size_t step_;
};

Result<std::string> expand(std::string text, Compression kind, std::size_t step = 1 << 16) {
    auto source = TRY(make_decompressor(std::make_unique<DripSource>(std::move(text), step), kind));
    return read_all(*source, 64 << 20);
}

class Formats : public ::testing::TestWithParam<Compression> {};

TEST_P(Formats, RoundTripsAndDoesNotDependOnThreadsOrCuts) {
    const std::string text = sample(5'300'000);
    const std::string packed = compress(text, GetParam(), 1, 1000);
    EXPECT_LT(packed.size(), text.size() / 2);
    EXPECT_EQ(packed, compress(text, GetParam(), 3, 777'777));
    EXPECT_EQ(detect_compression(as_bytes(packed)), GetParam());
    EXPECT_TRUE(*expand(packed, GetParam()) == text);
}

TEST_P(Formats, EmptyAndTiny) {
    for (const std::string& text : {std::string(), std::string("x"), sample(1 << 20)}) {
        const std::string packed = compress(text, GetParam(), 2, 1 << 20);
        EXPECT_FALSE(packed.empty());
        EXPECT_EQ(*expand(packed, GetParam(), 1), text);
    }
}

TEST_P(Formats, EveryTruncationFails) {
    const std::string packed = compress(sample(3000), GetParam(), 1, 3000);
    for (std::size_t n = 0; n < packed.size(); n += 7) {
        EXPECT_EQ(expand(packed.substr(0, n), GetParam()).error().code(), Code::data_loss) << n;
    }
}

TEST_P(Formats, SeveralStreamsAreOne) {
    const std::string packed = compress("one ", GetParam(), 1, 10) + compress("two", GetParam(), 1, 10);
    for (const std::size_t step : {1U, 5U, 1000U}) EXPECT_EQ(*expand(packed, GetParam(), step), "one two") << step;
}

TEST_P(Formats, DamageAndGarbageFail) {
    std::string packed = compress(sample(20'000), GetParam(), 1, 20'000);
    EXPECT_EQ(expand(packed + "garbage", GetParam()).error().code(), Code::data_loss);
    packed[packed.size() / 2] = static_cast<char>(packed[packed.size() / 2] ^ 0x55);
    EXPECT_EQ(expand(packed, GetParam()).error().code(), Code::data_loss);
}

INSTANTIATE_TEST_SUITE_P(All, Formats, ::testing::Values(Compression::gzip, Compression::zstd),
                         [](const auto& each) { return std::string(compression_name(each.param)); });

// Every field a header can have, in pieces, and two members.
TEST(Gzip, HeadersInPieces) {
    const std::string member =
        *base64_decode("H4sIHjkwAAAAAwUAZXh0cmFjYWNoZS50YXIAYSBjb21tZW50AD77y0jNyclXyBgliSABwUhCWSwBAAA=");
    std::string want;
    for (int i = 0; i < 50; ++i) want += "hello ";
    for (const std::size_t step : {1U, 2U, 3U, 7U, 10U, 11U, 20U, 1000U}) {
        const auto got = expand(member + member, Compression::gzip, step);
        ASSERT_TRUE(got) << step << ": " << got.error().to_string();
        EXPECT_EQ(*got, want + want);
    }
    EXPECT_FALSE(
        expand(*base64_decode("H4sIHjgwAAAAAwUAZXh0cmFjYWNoZS50YXIAYSBjb21tZW50AD77y0jNyclXyBgliSABwUhCWSwBAAA="),
               Compression::gzip));
    for (std::size_t size = 0; size < member.size(); ++size)
        EXPECT_FALSE(expand(member.substr(0, size), Compression::gzip)) << size;
    EXPECT_FALSE(expand(member + "x", Compression::gzip));
}

TEST(Gzip, ReadsWhatGzipWrites) {
    // printf hello | gzip -n
    EXPECT_EQ(*expand(*base64_decode("H4sIAAAAAAAAA8tIzcnJBwCGphA2BQAAAA=="), Compression::gzip), "hello");
    EXPECT_EQ(expand(*base64_decode("H4sIAAAAAAAAA8tIzcnJBwCGphA3BQAAAA=="), Compression::gzip).error().code(),
              Code::data_loss);
}

TEST(OldFormats, Bzip2AndXz) {
    const std::string bz = *base64_decode("QlpoOTFBWSZTWRkxZT0AAACBAAJEoAAhmmgzTQczi7kinChIDJiynoA=");
    const std::string xz =
        *base64_decode("/Td6WFoAAATm1rRGAgAhARYAAAB0L+WjAQAEaGVsbG8AAAAAsTe52+XaHpsAAR0FuC2Arx+2830BAAAAAARZWg==");
    EXPECT_EQ(detect_compression(as_bytes(bz)), Compression::bzip2);
    EXPECT_EQ(detect_compression(as_bytes(xz)), Compression::xz);
    for (const std::size_t step : {1U, 100U}) {
        EXPECT_EQ(*expand(bz, Compression::bzip2, step), "hello");
        EXPECT_EQ(*expand(bz + bz, Compression::bzip2, step), "hellohello");
        EXPECT_EQ(*expand(xz, Compression::xz, step), "hello");
    }
    EXPECT_FALSE(expand(bz.substr(0, 20), Compression::bzip2));
    EXPECT_FALSE(expand(xz.substr(0, 40), Compression::xz));
    EXPECT_FALSE(expand("", Compression::bzip2));
    EXPECT_FALSE(expand("", Compression::xz));
}

TEST(Detect, PlainTextIsNone) {
    EXPECT_EQ(detect_compression(as_bytes("")), Compression::none);
    EXPECT_EQ(detect_compression(as_bytes("BZhello wo")), Compression::none);
    auto opened = decompress_any(std::make_unique<StringSource>("abc"));
    EXPECT_EQ(opened->compression, Compression::none);
    EXPECT_EQ(*read_all(*opened->source, 10), "abc");
}

TEST(Compressors, BadChoicesAreBadInput) {
    StringSink out;
    EXPECT_EQ(make_compressor(out, Compression::xz, kDefaultLevel, 1).error().code(), Code::invalid_argument);
    EXPECT_EQ(make_compressor(out, Compression::gzip, 99, 1).error().code(), Code::invalid_argument);
    EXPECT_EQ(make_compressor(out, Compression::zstd, 99, 1).error().code(), Code::invalid_argument);
}

class FailingSink final : public ByteSink {
public:
    Result<> write(std::span<const std::byte> /*data*/) override {
        return fail(Code::resource_exhausted, Blame::world, "disk full");
    }
};

TEST(Pipeline, GivesBothDigests) {
    const std::string text = sample(3'000'000);
    for (const auto kind : {Compression::none, Compression::gzip, Compression::zstd}) {
        StringSink out;
        auto pipeline = std::move(*BlobPipeline::create(out, kind, kDefaultLevel, 2));
        ASSERT_TRUE(pipeline->write(as_bytes(text)));
        const auto facts = *pipeline->finish();
        EXPECT_EQ(facts.diff_id, sha256_of(text));
        EXPECT_EQ(facts.uncompressed_size, text.size());
        EXPECT_EQ(facts.digest, sha256_of(out.text));
        EXPECT_EQ(facts.size, out.text.size());
        EXPECT_TRUE(*expand(out.text, kind) == text);
    }
}

TEST(Pipeline, ErrorsOfTheSinkComeBack) {
    const std::string text = sample(9'000'000);
    for (const auto kind : {Compression::none, Compression::gzip, Compression::zstd}) {
        FailingSink out;
        auto pipeline = std::move(*BlobPipeline::create(out, kind, kDefaultLevel, 2));
        auto written = pipeline->write(as_bytes(text));
        if (!written) {
            EXPECT_EQ(written.error().message(), "disk full");
        }
        EXPECT_EQ(pipeline->finish().error().message(), "disk full");
    }
    FailingSink out;
    auto dropped = std::move(*BlobPipeline::create(out, Compression::gzip, kDefaultLevel, 2));
    static_cast<void>(dropped->write(as_bytes(text)));
}

TEST(ReadAhead, SameBytesAndErrors) {
    const std::string text = sample(3'000'000);
    auto source = read_ahead(std::make_unique<DripSource>(text, 70'000));
    EXPECT_TRUE(*read_all(*source, 10 << 20) == text);
    auto broken = read_ahead(std::move(*make_decompressor(std::make_unique<StringSource>("junk"), Compression::gzip)));
    EXPECT_EQ(read_all(*broken, 100).error().code(), Code::data_loss);
    const auto unread = read_ahead(std::make_unique<StringSource>(text));
}

}  // namespace
}  // namespace cooper::codec
