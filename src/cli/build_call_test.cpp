#include "cli/build_call.hpp"

#include <gtest/gtest.h>

namespace cooper::cli {
namespace {

TEST(BuildCall, NamesAndFields) {
    EXPECT_EQ(parse_call("build")->request, "");
    EXPECT_EQ(parse_call("check")->request, "frontend.lint");
    EXPECT_EQ(parse_call("lint")->request, "frontend.lint");
    EXPECT_EQ(parse_call("subrequests.describe")->request, "frontend.subrequests.describe");
    const auto outline = parse_call("outline,format=json");
    ASSERT_TRUE(outline);
    EXPECT_EQ(outline->request, "frontend.outline");
    EXPECT_EQ(outline->format, CallFormat::json);
    EXPECT_TRUE(parse_call("format=json,check,ignorestatus=true")->ignore_status);
    EXPECT_EQ(parse_call("check,format=sarif")->format, CallFormat::sarif);
}

TEST(BuildCall, Refusals) {
    const auto message = [](std::string_view flag) {
        const auto call = parse_call(flag);
        return call ? std::string() : call.error().to_string() + " | " + call.error().hint();
    };
    EXPECT_NE(message("chekc").find("did you mean check?"), std::string::npos);
    EXPECT_NE(message("").find("--call"), std::string::npos);
    EXPECT_NE(message("format=json").find("names nothing"), std::string::npos);
    EXPECT_NE(message("check,outline").find("two names"), std::string::npos);
    EXPECT_NE(message("check,format=xml").find("want text, json or sarif"), std::string::npos);
    EXPECT_NE(message("check,colour=red").find("colour=red"), std::string::npos);
    EXPECT_NE(message("check,ignorestatus=maybe").find("want true or false"), std::string::npos);
    EXPECT_NE(message("outline,format=sarif").find("only for check"), std::string::npos);
}

}  // namespace
}  // namespace cooper::cli
