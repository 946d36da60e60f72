#include "cli/build_flags.hpp"

#include <cstdlib>
#include <gtest/gtest.h>

namespace cooper::cli {
namespace {

TEST(BuildFlags, CsvKeepsQuotedCommas) {
    EXPECT_EQ(*parse_csv(R"(a,"b,c",d)"), (std::vector<std::string>{"a", "b,c", "d"}));
    EXPECT_EQ(*parse_csv(R"("say ""hi""")"), (std::vector<std::string>{"say \"hi\""}));
    EXPECT_FALSE(parse_csv(R"("open)"));
}

TEST(BuildFlags, Secrets) {
    EXPECT_EQ(parse_secret("id=a,src=/x")->file, "/x");
    EXPECT_EQ(parse_secret("id=a,env=B")->env, "B");
    EXPECT_EQ(parse_secret("type=env,id=a,src=B")->env, "B");
    ::setenv("COOPER_TEST_SECRET", "1", 1);
    EXPECT_EQ(parse_secret("id=COOPER_TEST_SECRET")->env, "COOPER_TEST_SECRET");
    EXPECT_EQ(parse_secret("id=no_such_variable")->file, "no_such_variable");
    EXPECT_FALSE(parse_secret("src=/x"));
    EXPECT_NE(parse_secret("id=a,scr=b").error().to_string().find("did you mean src"), std::string::npos);
}

TEST(BuildFlags, Exports) {
    EXPECT_EQ(parse_export("out")->type, "local");
    EXPECT_EQ(parse_export("-")->type, "tar");
    EXPECT_EQ(parse_export("type=registry")->attrs.at("push"), "true");
    EXPECT_EQ(parse_export("type=oci,dest=x.tar,compression=zstd")->attrs.at("compression"), "zstd");
    EXPECT_NE(parse_export("type=ocii").error().to_string().find("did you mean oci"), std::string::npos);
    EXPECT_FALSE(parse_export("type=local"));
    EXPECT_NE(parse_export("type=image,name=x,dest=y").error().to_string().find("goes to no file"), std::string::npos);
}

TEST(BuildFlags, ContextsAreRecognised) {
    EXPECT_TRUE(is_git_url("https://example.com/a/b.git#main:sub"));
    EXPECT_TRUE(is_git_url("git@example.com:a/b"));
    EXPECT_TRUE(is_git_url("file:///srv/repo"));
    EXPECT_TRUE(is_git_url("github.com/a/b"));
    EXPECT_FALSE(is_git_url("https://example.com/a.tar.gz"));
    EXPECT_FALSE(is_git_url("./dir"));
    EXPECT_FALSE(is_git_url("dir/a@b:c"));
}

TEST(BuildFlags, HostsAndSizes) {
    EXPECT_EQ(parse_add_host("a:1.2.3.4")->second, "1.2.3.4");
    EXPECT_EQ(parse_add_host("a:::1")->second, "::1");
    EXPECT_EQ(parse_add_host("a=[::1]")->second, "::1");
    EXPECT_FALSE(parse_add_host("a"));
    EXPECT_EQ(*parse_memory("64m"), 64 << 20);
    EXPECT_FALSE(parse_memory("64x"));
    EXPECT_FALSE(parse_memory("99999999999999999999"));
}

TEST(Destinations, NoTwoOutputsGoToOne) {
    const auto both = [](std::string_view one, std::string_view other) {
        return check_destinations({*parse_export(one), *parse_export(other)});
    };
    EXPECT_FALSE(both("type=oci,dest=/a/x.tar", "type=tar,dest=/a/b/../x.tar"));
    EXPECT_FALSE(both("type=oci,dest=x.tar", "type=docker,dest=./x.tar"));
    EXPECT_FALSE(both("type=oci", "type=tar,dest=-"));
    EXPECT_FALSE(both("type=local,dest=out", "type=oci,tar=false,dest=out/"));
    EXPECT_TRUE(both("type=local,dest=out", "type=local,dest=out"));
    EXPECT_TRUE(both("type=oci,dest=/x.tar", "type=tar,dest=x.tar"));
    EXPECT_TRUE(both("type=image,name=a", "type=image,name=b"));
}

}  // namespace
}  // namespace cooper::cli
