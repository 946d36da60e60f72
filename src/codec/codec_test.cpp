#include "codec/base64.hpp"
#include "codec/sha256.hpp"

#include <gtest/gtest.h>

namespace cooper::codec {
namespace {

TEST(Sha256, KnownAnswersAndCopies) {
    EXPECT_EQ(sha256_of("").hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    EXPECT_EQ(sha256_of("abc").hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    Sha256 hash;
    hash.update("a");
    const Sha256 copy = hash;
    hash.update("bc");
    EXPECT_EQ(hash.finish(), sha256_of("abc"));
    EXPECT_EQ(copy.finish(), sha256_of("a"));
    EXPECT_EQ(hash.finish(), sha256_of("abc"));
}

TEST(VerifyingSource, FindsWhatIsWrong) {
    const auto read = [](std::string text, std::string_view promised, std::uint64_t size) {
        VerifyingSource source(std::make_unique<StringSource>(std::move(text)), sha256_of(promised), size);
        return read_all(source, 1000);
    };
    EXPECT_EQ(*read("abc", "abc", 3), "abc");
    EXPECT_EQ(read("abd", "abc", 3).error().code(), Code::data_loss);
    EXPECT_EQ(read("ab", "abc", 3).error().code(), Code::data_loss);
    EXPECT_EQ(read("abcd", "abc", 3).error().code(), Code::data_loss);
}

TEST(Base64, BothWays) {
    for (const std::string text : {"", "f", "fo", "foo", "foob", "fooba", "foobar"}) {
        EXPECT_EQ(*base64_decode(base64_encode(text)), text);
    }
    EXPECT_EQ(base64_encode("foobar"), "Zm9vYmFy");
    EXPECT_EQ(*base64_decode("Zm9v\nYg==\n"), "foob");
    for (const char* bad : {"Z", "Zm9", "Zm=v", "Z===", "Zg==Zg==", "Zm9*"}) EXPECT_FALSE(base64_decode(bad)) << bad;
}

}  // namespace
}  // namespace cooper::codec
