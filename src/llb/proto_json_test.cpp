#include "llb/proto_json.hpp"

#include "codec/wire.hpp"
#include "llb/marshal.hpp"

#include <gtest/gtest.h>

namespace cooper::llb {
namespace {

std::string json_of(std::string_view bytes) {
    codec::GoJson json;
    const auto done = put_proto_json(json, bytes);
    return done ? std::move(json).take() : "error: " + done.error().to_string();
}

TEST(ProtoJson, NumbersEnumerationsAndMaps) {
    Op op;
    SourceOp source;
    source.identifier = "local://context";
    source.attrs = {{"b", "2"}, {"a", "1"}};
    op.body = source;
    EXPECT_EQ(json_of(marshal(op)), R"({"source":{"identifier":"local://context","attrs":{"a":"1","b":"2"}}})");
}

TEST(ProtoJson, ZeroIsLeftOutUnlessChosen) {
    // A user by number 0: field 1 of the owner, field 2 of the user.
    const std::string user = std::string("\x10\x00", 2);
    const std::string owner = "\x0a\x02" + user;
    const std::string mkdir = "\x0a\x02/a\x22\x04" + owner;
    const std::string action = "\x32" + std::string(1, static_cast<char>(mkdir.size())) + mkdir;
    const std::string file = "\x12" + std::string(1, static_cast<char>(action.size())) + action;
    const std::string op = "\x22" + std::string(1, static_cast<char>(file.size())) + file;
    EXPECT_EQ(json_of(op), R"({"file":{"actions":[{"mkdir":{"path":"/a","owner":{"user":{"byID":0}}}}]}})");
}

TEST(ProtoJson, BrokenAndUnknown) {
    EXPECT_EQ(json_of(""), "{}");
    EXPECT_TRUE(json_of("\x12\x7f").starts_with("error: "));
    EXPECT_TRUE(json_of("\x10\x01").starts_with("error: "));  // a number where a message is wanted
    EXPECT_EQ(json_of("\x9a\x06\x01x"), "{}");                // field 99
}

}  // namespace
}  // namespace cooper::llb
