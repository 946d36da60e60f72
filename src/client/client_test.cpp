#include "client/connection.hpp"

#include <gtest/gtest.h>

namespace cooper::client {
namespace {

using Words = std::vector<std::string>;

TEST(ProxyCommand, RunsDialStdioWhereTheDaemonIs) {
    EXPECT_EQ(proxy_command("docker-container://builder").value(),
              (Words{"docker", "exec", "-i", "builder", "buildctl", "dial-stdio"}));
    EXPECT_EQ(proxy_command("docker-container://builder?context=far").value(),
              (Words{"docker", "--context=far", "exec", "-i", "builder", "buildctl", "dial-stdio"}));
    EXPECT_EQ(proxy_command("kube-pod://pod-1?namespace=ci&container=main").value(),
              (Words{"kubectl", "--namespace=ci", "exec", "--container=main", "-i", "pod-1", "--", "buildctl",
                     "dial-stdio"}));
    EXPECT_EQ(proxy_command("ssh://me@host:2222/run/d.sock").value(),
              (Words{"ssh", "-o", "ConnectTimeout=30", "-T", "-p", "2222", "me@host", "--", "buildctl",
                     "--addr=unix:///run/d.sock", "dial-stdio"}));
    EXPECT_TRUE(proxy_command("unix:///run/d.sock").value().empty());
}

TEST(ProxyCommand, NamesAreNoOptions) {
    EXPECT_FALSE(proxy_command("docker-container://-v"));
    EXPECT_FALSE(proxy_command("docker-container://"));
    EXPECT_FALSE(proxy_command("ssh://-oProxyCommand=evil"));
}

TEST(Connection, NobodyThereIsUnavailableWithTheAddress) {
    const auto connection = Connection::open({.address = "unix:///nowhere/d.sock"}, Stop());
    ASSERT_FALSE(connection);
    EXPECT_NE(connection.error().to_string().find("unix:///nowhere/d.sock"), std::string::npos);
    EXPECT_FALSE(Connection::open({.address = "tcp://127.0.0.1:1"}, Stop()));
    EXPECT_FALSE(Connection::open({.address = "fd://3"}, Stop()));
    EXPECT_FALSE(Connection::open({.address = "nonsense"}, Stop()));
}

}  // namespace
}  // namespace cooper::client
