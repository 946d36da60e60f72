#include "daemon/filter.hpp"

#include <gtest/gtest.h>
#include <map>

namespace cooper::daemon {
namespace {

bool matches(std::string_view text, const std::map<std::string, std::string>& fields) {
    const auto filter = Filter::parse(text);
    EXPECT_TRUE(filter) << filter.error().to_string();
    const auto result = filter->matches({.find = [&](const Filter::Path& path) -> std::optional<std::string> {
                                             std::string name = path[0];
                                             for (std::size_t i = 1; i < path.size(); ++i) name += "|" + path[i];
                                             const auto at = fields.find(name);
                                             if (at == fields.end()) return std::nullopt;
                                             return at->second;
                                         },
                                         .compare = {}});
    return result && *result;
}

TEST(Filter, ComparesFields) {
    const std::map<std::string, std::string> fields = {{"type", "regular"}, {"labels|a.b", "x,y"}};
    EXPECT_TRUE(matches("type==regular", fields));
    EXPECT_FALSE(matches("type!=regular", fields));
    EXPECT_TRUE(matches("type~=^reg", fields));
    EXPECT_TRUE(matches("type", fields));
    EXPECT_FALSE(matches("id", fields));
    EXPECT_TRUE(matches("id!=x", fields));
    EXPECT_TRUE(matches(R"(labels."a.b"=="x,y",type==regular)", fields));
    EXPECT_FALSE(matches(R"(labels."a.b"=="x,y",type==other)", fields));
    EXPECT_TRUE(matches("type~=/^reg.*r$/", fields));
}

TEST(Filter, SaysWhereItIsWrong) {
    for (const char* text : {"=x", "type==\"x", "type,,", "type~=(", "type=x", "a b"}) {
        const auto filter = Filter::parse(text);
        ASSERT_FALSE(filter) << text;
        EXPECT_EQ(filter.error().code(), Code::invalid_argument);
    }
    const auto order =
        Filter::parse("size>1")->matches({.find = [](const auto&) { return std::nullopt; }, .compare = {}});
    ASSERT_FALSE(order);
}

}  // namespace
}  // namespace cooper::daemon
