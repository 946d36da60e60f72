#include "engine/entitlements.hpp"

#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>

namespace cooper::engine {
namespace {

using Names = std::vector<std::string>;

run::CdiDevices known_devices() {
    const std::string dir = testing::TempDir() + "/entitlements-cdi";
    std::filesystem::create_directories(dir);
    std::ofstream(dir + "/a.json") << R"({"cdiVersion":"0.6.0","kind":"v.com/c","devices":[
        {"name":"one"},{"name":"two"},
        {"name":"free","annotations":{"org.mobyproject.buildkit.device.autoallow":"1"}}]})";
    run::CdiDevices devices = run::CdiDevices::load({dir});
    std::filesystem::remove_all(dir);
    return devices;
}

Result<Names> devices(const Names& allowed, const std::vector<llb::CdiDevice>& wanted) {
    const Entitlements rights = TRY(Entitlements::parse(allowed));
    return rights.devices(wanted, known_devices(), "RUN x");
}

TEST(Entitlements, RightsAreNamed) {
    EXPECT_TRUE(Entitlements::parse({"network.host", "security.insecure", "device", "device=v.com/c=one,alias=x"}));
    for (const char* bad : {"network", "", "device=a,name=b", "device=a,alias", "device=a,alias="}) {
        EXPECT_FALSE(Entitlements::parse({bad})) << bad;
    }
    const auto near = Entitlements::parse({"network.hosts"});
    ASSERT_FALSE(near);
    EXPECT_NE(near.error().to_string().find("did you mean network.host?"), std::string::npos);
}

TEST(Entitlements, StepsNeedTheirs) {
    const Entitlements none = *Entitlements::parse({});
    const Entitlements host = *Entitlements::parse({"network.host"});
    const Entitlements insecure = *Entitlements::parse({"security.insecure"});
    using llb::NetMode;
    using llb::SecurityMode;
    EXPECT_TRUE(none.check(NetMode::none, SecurityMode::sandbox, "x"));
    EXPECT_FALSE(none.check(NetMode::host, SecurityMode::sandbox, "x"));
    EXPECT_FALSE(none.check(NetMode::unset, SecurityMode::insecure, "x"));
    EXPECT_TRUE(host.check(NetMode::host, SecurityMode::sandbox, "x"));
    EXPECT_FALSE(host.check(NetMode::unset, SecurityMode::insecure, "x"));
    EXPECT_TRUE(insecure.check(NetMode::unset, SecurityMode::insecure, "x"));
    EXPECT_EQ(none.check(NetMode::host, SecurityMode::sandbox, "x").error().code(), Code::permission_denied);
}

TEST(Entitlements, DevicesAreAllowedByNameKindOrAll) {
    const std::vector<llb::CdiDevice> one = {{"v.com/c=one", true}};
    const auto refused = devices({}, one);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Code::permission_denied);
    EXPECT_FALSE(devices({"device=v.com/c=two"}, one));
    EXPECT_EQ(*devices({"device=v.com/c=one"}, one), Names{"v.com/c=one"});
    EXPECT_EQ(*devices({"device"}, one), Names{"v.com/c=one"});
    EXPECT_EQ(*devices({"device=v.com/c=*"}, {{"v.com/c=*", true}}),
              (Names{"v.com/c=free", "v.com/c=one", "v.com/c=two"}));
    EXPECT_FALSE(devices({"device=v.com/c=one"}, {{"v.com/c=*", true}}));
    EXPECT_EQ(*devices({}, {{"v.com/c=free", false}}), Names{"v.com/c=free"});
    EXPECT_EQ(*devices({"device=v.com/c=two,alias=v.com/gpu"}, {{"v.com/gpu", false}}), Names{"v.com/c=two"});
}

TEST(Entitlements, MissingDevicesCountWhenRequired) {
    EXPECT_EQ(*devices({"device"}, {{"v.com/c=none", true}}), Names{});
    const auto missing = devices({"device"}, {{"v.com/c=on", false}});
    ASSERT_FALSE(missing);
    EXPECT_NE(missing.error().to_string().find("required device \"v.com/c=on\" is not registered"), std::string::npos);
    EXPECT_FALSE(devices({"device"}, {{"no device", true}}));
}

}  // namespace
}  // namespace cooper::engine
