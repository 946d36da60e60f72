#include "codec/base64.hpp"
#include "codec/go_json.hpp"
#include "codec/rfc3339.hpp"
#include "codec/sha256.hpp"

#include <gtest/gtest.h>

namespace cooper::codec {
namespace {

using namespace std::string_literals;

TEST(Sha256, KnownAnswers) {
    EXPECT_EQ(sha256_of("").hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    EXPECT_EQ(sha256_of("abc").hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    Sha256 hash;
    for (int i = 0; i < 1000; ++i) hash.update(std::string(1000, 'a'));
    EXPECT_EQ(hash.finish().hex(), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    hash.update("abc");  // as new after finish
    EXPECT_EQ(hash.finish(), sha256_of("abc"));
}

TEST(Sha256, VerifyingSourceRefusesOtherBytes) {
    const std::string text = "hello";
    const auto check = [&](const Digest& digest, std::uint64_t size) {
        StringSource inner(text);
        VerifyingSource source(inner, digest, size);
        return read_all(source, 100);
    };
    EXPECT_EQ(*check(sha256_of(text), 5), text);
    EXPECT_EQ(*check(sha256_of(text), VerifyingSource::kAnySize), text);
    EXPECT_EQ(check(sha256_of("other"), 5).error().code(), Code::data_loss);
    EXPECT_EQ(check(sha256_of(text), 4).error().code(), Code::data_loss);
    EXPECT_EQ(check(sha256_of(text), 6).error().code(), Code::data_loss);
}

TEST(Base64, RoundTripsAndRefuses) {
    EXPECT_EQ(base64_encode("f"), "Zg==");
    EXPECT_EQ(base64_encode("fo"), "Zm8=");
    EXPECT_EQ(base64_encode("foo"), "Zm9v");
    EXPECT_EQ(base64url_encode("\xfb\xff"), "-_8");
    EXPECT_EQ(*base64url_decode("-_8="), "\xfb\xff");
    EXPECT_EQ(*base64_decode("Zm9v\nYg=="), "foob");
    for (const char* bad : {"Z", "Zg", "Zg=", "Zg===", "Zg==Zg==", "Z*==", "-_8="}) {
        EXPECT_FALSE(base64_decode(bad)) << bad;
    }
    std::string all;
    for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
    EXPECT_EQ(*base64_decode(base64_encode(all)), all);
}

TEST(GoJson, EscapesAsGo) {
    std::string out;
    append_go_json_string(out, "a\"\\/\b\f\n\r\t\x01<>&\x7f \xE2\x80\xA8\xE2\x80\xA9 \xC3\xA4 \xFF\xED\xA0\x80"s);
    EXPECT_EQ(out,
              "\"a\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u003c\\u003e\\u0026\x7f \\u2028\\u2029 \xC3\xA4 "
              "\\ufffd\\ufffd\\ufffd\\ufffd\"");
}

TEST(GoJson, CompactAndIndented) {
    const auto write = [](GoJson json) {
        json.begin_object().field("b", "x").key("a").begin_array().integer(-1).boolean(true).null().end_array();
        json.key("e").begin_object().end_object().key("m").map({{"z", "1"}, {"y", "2"}});
        json.key("n").bytes("\x01\x02").end_object();
        return std::move(json).take();
    };
    EXPECT_EQ(write(GoJson()), R"({"b":"x","a":[-1,true,null],"e":{},"m":{"y":"2","z":"1"},"n":"AQI="})");
    EXPECT_EQ(write(GoJson("  ")),
              "{\n  \"b\": \"x\",\n  \"a\": [\n    -1,\n    true,\n    null\n  ],\n  \"e\": {},\n  \"m\": {\n"
              "    \"y\": \"2\",\n    \"z\": \"1\"\n  },\n  \"n\": \"AQI=\"\n}");
}

TEST(GoJson, Numbers) {
    const auto text = [](double value) { return GoJson().number(value).text(); };
    EXPECT_EQ(text(0.1), "0.1");
    EXPECT_EQ(text(100), "100");
    EXPECT_EQ(text(1e20), "100000000000000000000");
    EXPECT_EQ(text(1e21), "1e+21");
    EXPECT_EQ(text(1e-6), "0.000001");
    EXPECT_EQ(text(1e-7), "1e-7");
    EXPECT_EQ(GoJson().unsigned_integer(UINT64_MAX).text(), "18446744073709551615");
}

TEST(Sha256, HmacOfRfc4231) {
    EXPECT_EQ(hmac_sha256("Jefe", "what do ya want for nothing?").hex(),
              "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    EXPECT_EQ(hmac_sha256(std::string(131, '\xaa'), "Test Using Larger Than Block-Size Key - Hash Key First").hex(),
              "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

}  // namespace
TEST(Rfc3339, Parses) {
    EXPECT_EQ(format_rfc3339(*parse_rfc3339("2024-02-29T03:04:05.5+02:30")), "2024-02-29T00:34:05.5Z");
    for (const char* bad :
         {"", "2024", "2024-02-30T00:00:00Z", "2024-02-01T00:00:00", "2024-02-01T00:00:00.", "9999-01-01T00:00:00Z",
          "2024-02-01 00:00:00Z", "2024-02-01T00:00:00+2:00", "2024-02-01T25:00:00Z"}) {
        EXPECT_FALSE(parse_rfc3339(bad)) << bad;
    }
}

}  // namespace cooper::codec
