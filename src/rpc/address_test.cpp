#include "rpc/address.hpp"

#include <gtest/gtest.h>

namespace cooper::rpc {

TEST(Address, EveryFormIsReadAndPrinted) {
    for (const char* text : {"unix:///run/cooper/cooperd.sock", "tcp://0.0.0.0:1234", "tcp://[::1]:1234",
                             "tcp://builder.example:0", "fd://4"}) {
        const auto address = parse_address(text);
        ASSERT_TRUE(address) << text << ": " << address.error().to_string();
        EXPECT_EQ(to_string(*address), text);
    }
    EXPECT_EQ(parse_address("fd://")->fd, 3);
    EXPECT_EQ(parse_address("tcp://[::1]:80")->host, "::1");
    EXPECT_EQ(parse_address("tcp://:80")->host, "");
}

TEST(Address, WhatIsNoAddressIsRefusedByName) {
    const std::string long_path = "unix:///" + std::string(107, 'x');
    for (const std::string& text :
         {std::string("/run/x.sock"), std::string("unix://relative"), std::string("unix://"), long_path,
          std::string("tcp://host"), std::string("tcp://host:70000"), std::string("tcp://::1:80"),
          std::string("tcp://a/b:80"), std::string("tcp://h:-1"), std::string("fd://2"), std::string("fd://x"),
          std::string("npipe://x"), std::string("")}) {
        const auto address = parse_address(text);
        ASSERT_FALSE(address) << text;
        EXPECT_NE(address.error().to_string().find(text.substr(0, 20)), std::string::npos);
    }
}

}  // namespace cooper::rpc
