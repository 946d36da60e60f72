#include "session/local_session.hpp"
#include "session/socket_forward.hpp"
#include "sys/process.hpp"

#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

namespace cooper::session {
namespace {

class SessionTest : public ::testing::Test {
protected:
    void SetUp() override { dir_ = std::move(*sys::TempDir::create(::testing::TempDir(), "session-")); }
    std::string write(const std::string& name, std::string_view text) {
        const sys::Fd file = std::move(*dir_.dir().open(name, O_WRONLY | O_CREAT, sys::Follow::no, 0600));
        EXPECT_TRUE(sys::write_all(file.get(), text));
        return dir_.path() + "/" + name;
    }
    sys::TempDir dir_;
};

TEST_F(SessionTest, SecretsComeFromFilesAndVariables) {
    ::setenv("COOPER_SESSION_TEST", "from env", 1);
    const std::map<std::string, LocalSecret> secrets = {
        {"f", {write("s", "from file"), ""}}, {"e", {"", "COOPER_SESSION_TEST"}}, {"unset", {"", "COOPER_NO_SUCH"}}};
    const std::unique_ptr<Session> session =
        std::move(*LocalSession::create({.secrets = secrets, .scratch_dir = dir_.path()}));
    EXPECT_EQ((*session->find_secret("f", {}))->reveal(), "from file");
    EXPECT_EQ((*session->find_secret("e", {}))->reveal(), "from env");
    EXPECT_FALSE(*session->find_secret("unset", {}));
    EXPECT_FALSE(*session->find_secret("other", {}));
}

TEST_F(SessionTest, MissingAndHugeSecretsAreRefusedAtOnce) {
    EXPECT_EQ(LocalSession::create({.secrets = {{"x", {dir_.path() + "/no", ""}}}, .scratch_dir = dir_.path()})
                  .error()
                  .code(),
              Code::not_found);
    const std::string huge = write("huge", std::string((512U << 10U) + 1, 'x'));
    EXPECT_FALSE(LocalSession::create({.secrets = {{"x", {huge, ""}}}, .scratch_dir = dir_.path()}));
}

TEST_F(SessionTest, ForwardedSocketTalksToItsTarget) {
    const std::string target = dir_.path() + "/target";
    const sys::Fd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, target.c_str());
    ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ASSERT_EQ(::listen(listener.get(), 1), 0);
    const std::string near = dir_.path() + "/near";
    const auto forward = std::move(*SocketForward::start(near, target));
    std::strcpy(address.sun_path, near.c_str());
    const sys::Fd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    const sys::Fd served(::accept(listener.get(), nullptr, nullptr));
    ASSERT_TRUE(sys::write_all(client.get(), "ping"));
    std::array<std::byte, 16> buffer;
    EXPECT_EQ(*sys::read_some(served.get(), buffer), 4U);
    ASSERT_TRUE(sys::write_all(served.get(), "pong!"));
    EXPECT_EQ(*sys::read_some(client.get(), buffer), 5U);
}

TEST_F(SessionTest, KeysAreServedByAnAgentOfOurOwn) {
    if (!sys::find_program("ssh-keygen")) GTEST_SKIP() << "no ssh-keygen";
    sys::SpawnSpec keygen;
    keygen.program = *sys::find_program("ssh-keygen");
    keygen.args = {"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", dir_.path() + "/key"};
    ASSERT_EQ(sys::run_captured(keygen, "", 1000, {})->status.code, 0);
    const std::unique_ptr<Session> session =
        std::move(*LocalSession::create({.ssh = {{"default", {dir_.path() + "/key"}}}, .scratch_dir = dir_.path()}));
    EXPECT_EQ(*session->open_ssh("other", {}, {}), nullptr);
    const auto socket = std::move(*session->open_ssh("default", {.uid = 0, .gid = 0, .mode = 0640}, {}));
    struct stat st{};
    ASSERT_EQ(::stat(socket->host_path().c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 07777U, 0640U);
    sys::SpawnSpec list;
    list.program = *sys::find_program("ssh-add");
    list.args = {"ssh-add", "-l"};
    list.env = std::vector<std::string>{"SSH_AUTH_SOCK=" + socket->host_path()};
    const auto listed = sys::run_captured(list, "", 1000, {});
    EXPECT_EQ(listed->status.code, 0) << listed->err;
    EXPECT_NE(listed->out.find("ED25519"), std::string::npos);
}

}  // namespace
}  // namespace cooper::session
