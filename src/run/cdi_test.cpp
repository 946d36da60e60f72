#include "run/cdi.hpp"

#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>

namespace cooper::run {
namespace {

using Names = std::vector<std::string>;

class CdiTest : public testing::Test {
protected:
    void SetUp() override {
        dir_ = testing::TempDir() + "/cdi-" + testing::UnitTest::GetInstance()->current_test_info()->name();
        std::filesystem::remove_all(dir_);
        for (const char* name : {"/low", "/high"}) std::filesystem::create_directories(dir_ + name);
    }
    void TearDown() override { std::filesystem::remove_all(dir_); }

    void write(const std::string& name, const std::string& text) const { std::ofstream(dir_ + "/" + name) << text; }
    [[nodiscard]] CdiDevices load() const { return CdiDevices::load({dir_ + "/low", dir_ + "/high", dir_ + "/none"}); }

    std::string dir_;
};

std::string spec(const std::string& devices, const std::string& more = "") {
    return R"({"cdiVersion":"0.6.0","kind":"vendor.com/class")" + more + R"(,"devices":[)" + devices + "]}";
}

TEST_F(CdiTest, NamesGroupsAndKinds) {
    write("low/a.json", spec(R"({"name":"b","annotations":{"org.mobyproject.buildkit.device.class":"fast"}},
                                {"name":"a"},
                                {"name":"c","annotations":{"org.mobyproject.buildkit.device.class":"fast",
                                            "org.mobyproject.buildkit.device.autoallow":"true"}})"));
    const CdiDevices devices = load();
    EXPECT_EQ(devices.names(), (Names{"vendor.com/class=a", "vendor.com/class=b", "vendor.com/class=c"}));
    EXPECT_EQ(*devices.find("vendor.com/class=b"), Names{"vendor.com/class=b"});
    EXPECT_EQ(*devices.find("vendor.com/class"), Names{"vendor.com/class=a"});
    EXPECT_EQ(devices.find("vendor.com/class=*")->size(), 3U);
    EXPECT_EQ(*devices.find("vendor.com/class=fast"), (Names{"vendor.com/class=b", "vendor.com/class=c"}));
    EXPECT_TRUE(devices.find("vendor.com/class=d")->empty());
    EXPECT_TRUE(devices.find("other.com/class")->empty());
    EXPECT_FALSE(devices.find("class=a"));
    EXPECT_FALSE(devices.find("-/class=a"));
    EXPECT_FALSE(devices.find(""));
    EXPECT_FALSE(devices.allows_itself("vendor.com/class=a"));
    EXPECT_TRUE(devices.allows_itself("vendor.com/class=c"));
}

TEST_F(CdiTest, EditsOfTheFileComeOnceAndFirst) {
    write("low/a.json", spec(R"({"name":"a","containerEdits":{"env":["A=1"],
              "deviceNodes":[{"path":"/dev/mine","hostPath":"/dev/null"},
                             {"path":"/dev/made","type":"b","major":7,"minor":3,"permissions":"r","fileMode":416,
                              "uid":5,"gid":6}],
              "mounts":[{"hostPath":"/usr","containerPath":"/opt/usr","options":["ro","nosuid","bind"]}],
              "hooks":[{"hookName":"createContainer","path":"/bin/x","args":["x","y"],"env":["H=1"],"timeout":3}],
              "additionalGids":[44]}},
            {"name":"b","containerEdits":{"env":["B=1"]}})",
                             R"(,"containerEdits":{"env":["ALL=1"]})"));
    const auto edits = load().edits({"vendor.com/class=a", "vendor.com/class=b"});
    ASSERT_TRUE(edits) << edits.error().to_string();
    EXPECT_EQ(edits->env, (Names{"ALL=1", "A=1", "B=1"}));
    ASSERT_EQ(edits->nodes.size(), 2U);
    EXPECT_EQ(edits->nodes[0], (DeviceNode{.path = "/dev/mine", .type = 'c', .major = 1, .minor = 3, .access = "rwm"}));
    EXPECT_EQ(edits->nodes[1], (DeviceNode{.path = "/dev/made",
                                           .type = 'b',
                                           .major = 7,
                                           .minor = 3,
                                           .access = "r",
                                           .mode = 0640,
                                           .uid = 5,
                                           .gid = 6}));
    EXPECT_EQ(
        edits->mounts,
        (std::vector<CdiMount>{{.host_path = "/usr", .target = "/opt/usr", .read_only = true, .options = {"nosuid"}}}));
    EXPECT_EQ(
        edits->hooks,
        (std::vector<Hook>{
            {.stage = "createContainer", .program = "/bin/x", .args = {"x", "y"}, .env = {"H=1"}, .timeout_s = 3}}));
    EXPECT_EQ(edits->groups, std::vector<gid_t>{44});
}

TEST_F(CdiTest, LaterDirectoriesWinAndTwinsDoNot) {
    write("low/a.json", spec(R"({"name":"a","containerEdits":{"env":["FROM=low"]}},{"name":"b"})"));
    write("high/a.json", spec(R"({"name":"a","containerEdits":{"env":["FROM=high"]}})"));
    write("low/b.json", spec(R"({"name":"b"})"));
    const CdiDevices devices = load();
    EXPECT_EQ(devices.edits({"vendor.com/class=a"})->env, Names{"FROM=high"});
    const auto twin = devices.edits({"vendor.com/class=b"});
    ASSERT_FALSE(twin);
    EXPECT_NE(twin.error().to_string().find("twice"), std::string::npos);
}

TEST_F(CdiTest, WrongFilesAreLeftOutAndSaidSo) {
    write("low/list.json", "[]");
    write("low/cut.json", spec("").substr(0, 20));
    write("low/kind.json", R"({"cdiVersion":"0.6.0","kind":"class","devices":[{"name":"x"}]})");
    write("low/version.json", R"({"kind":"vendor.com/class","devices":[{"name":"x"}]})");
    write("low/name.json", spec(R"({"name":"../x"})"));
    write("low/devices.json", R"({"cdiVersion":"0.6.0","kind":"vendor.com/class","devices":{}})");
    write("low/vendor.yaml", "cdiVersion: 0.6.0\n");
    write("low/notes.txt", "nothing");
    std::filesystem::create_directories(dir_ + "/low/dir.json");
    write("low/good.json", spec(R"({"name":"good"})"));
    const CdiDevices devices = load();
    EXPECT_EQ(devices.names(), Names{"vendor.com/class=good"});
    EXPECT_EQ(devices.problems().size(), 8U);
}

TEST_F(CdiTest, WrongEditsAreErrors) {
    for (const char* edits :
         {R"({"deviceNodes":[{"path":"/etc/x"}]})", R"({"deviceNodes":[{"path":"/dev/../etc"}]})",
          R"({"deviceNodes":[{"path":"/dev/cooper-has-none"}]})",
          R"({"deviceNodes":[{"path":"/dev/x","hostPath":"/etc/passwd"}]})",
          R"({"deviceNodes":[{"path":"/dev/x","type":"c","major":-1}]})",
          R"({"deviceNodes":[{"path":"/dev/x","type":"z","major":1}]})",
          R"({"deviceNodes":[{"path":"/dev/null","permissions":"rx"}]})", R"({"deviceNodes":[1]})",
          R"({"mounts":[{"hostPath":"a","containerPath":"/b"}]})",
          R"({"mounts":[{"hostPath":"/a","containerPath":"/b","type":"tmpfs"}]})",
          R"({"hooks":[{"hookName":"later","path":"/bin/x"}]})", R"({"hooks":[{"hookName":"prestart","path":"x"}]})",
          R"({"env":["A"]})", R"({"env":[1]})", R"({"additionalGids":[-1]})", "[]"}) {
        write("low/a.json", spec(R"({"name":"a","containerEdits":)" + std::string(edits) + "}"));
        const auto parsed = load().edits({"vendor.com/class=a"});
        ASSERT_FALSE(parsed) << edits;
        EXPECT_NE(parsed.error().to_string().find("a.json"), std::string::npos) << edits;
    }
}

}  // namespace
}  // namespace cooper::run
