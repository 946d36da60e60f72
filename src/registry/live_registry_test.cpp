// Against a real registry (distribution's docker-registry) on loopback; skipped when it is not installed.
#include "base/text.hpp"
#include "codec/sha256.hpp"
#include "http/client.hpp"
#include "oci/manifest.hpp"
#include "oci/media_type.hpp"
#include "registry/registry.hpp"
#include "sys/fd.hpp"

#include <arpa/inet.h>
#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

extern char** environ;

namespace cooper::registry {
namespace {

constexpr const char* kProgram = "/usr/bin/docker-registry";
// bcrypt of "secret", cost 4
constexpr const char* kHtpasswd = "me:$2y$04$EFet/ywjN86IE.YXHUJSC.AKas/LWRt32sU5XC2i9D/BEwXJk6oZO\n";

std::uint16_t free_port() {
    const sys::Fd probe(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(bind(probe.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    socklen_t length = sizeof address;
    CHECK(getsockname(probe.get(), reinterpret_cast<sockaddr*>(&address), &length) == 0);
    return ntohs(address.sin_port);
}

class LiveRegistry {
public:
    enum class Auth { none, basic };
    LiveRegistry(http::Client& client, Auth auth) : port_(free_port()) {
        dir_ = ::testing::TempDir() + "liveXXXXXX";
        CHECK(mkdtemp(dir_.data()) != nullptr);
        std::ofstream config(dir_ + "/config.yml");
        config << "version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: " << dir_
               << "/data}, delete: {enabled: true}}\nhttp: {addr: '" << host() << "'}\n";
        if (auth == Auth::basic) {
            std::ofstream(dir_ + "/htpasswd") << kHtpasswd;
            config << "auth: {htpasswd: {realm: test, path: " << dir_ << "/htpasswd}}\n";
        }
        config.close();
        start(client);
    }
    ~LiveRegistry() {
        if (pid_ > 0) {
            kill(pid_, SIGKILL);
            waitpid(pid_, nullptr, 0);
        }
        std::filesystem::remove_all(dir_);
    }
    [[nodiscard]] std::string host() const { return fmt::format("127.0.0.1:{}", port_); }

private:
    void start(http::Client& client) {
        const std::string log = dir_ + "/log";
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
        posix_spawn_file_actions_adddup2(&actions, 1, 2);
        std::string arg0 = kProgram;
        std::string arg1 = "serve";
        std::string arg2 = dir_ + "/config.yml";
        char* argv[] = {arg0.data(), arg1.data(), arg2.data(), nullptr};
        CHECK(posix_spawn(&pid_, kProgram, &actions, nullptr, argv, environ) == 0);
        posix_spawn_file_actions_destroy(&actions);
        const http::RetryPolicy patient{
            .attempts = 100, .first_delay = std::chrono::milliseconds(50), .max_delay = std::chrono::milliseconds(200)};
        CHECK(client.send_with_retry(http::Request{.url = "http://" + host() + "/v2/"}, patient, Stop()).has_value());
    }
    std::string dir_;
    std::uint16_t port_;
    pid_t pid_ = -1;
};

class OneUser final : public CredentialSource {
public:
    Result<Credential> find(const std::string& /*host*/, const Stop& /*stop*/) override { return credential; }
    Credential credential;
};

class LiveTest : public ::testing::Test {
protected:
    void SetUp() override {
        if (access(kProgram, X_OK) != 0) GTEST_SKIP() << kProgram << " is not installed";
    }
    static PushBlob blob_of(const std::string& text) {
        return PushBlob{
            .blob = {.media_type = std::string(oci::kOciLayer), .digest = codec::sha256_of(text), .size = text.size()},
            .open = [text]() -> Result<std::unique_ptr<ByteSource>> { return std::make_unique<StringSource>(text); }};
    }
    http::Client client_{http::ClientOptions{.user_agent = "cooper-test"}};
    OneUser user_;
    http::RetryPolicy retry_{.attempts = 3, .first_delay = std::chrono::milliseconds(10)};
    Stop stop_;
};

TEST_F(LiveTest, PushesAndPulls) {
    LiveRegistry live(client_, LiveRegistry::Auth::none);
    Registry registry(RegistryConfig{}, user_, client_, retry_);
    const auto reference = *oci::Reference::parse_normalized(live.host() + "/team/app:v1");
    EXPECT_EQ(registry.resolve(reference, stop_).error().code(), Code::not_found);

    const std::string config = R"({"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}})";
    std::string large(40u << 20, 'q');  // more than one chunk
    for (std::size_t i = 0; i < large.size(); i += 4096) large[i] = static_cast<char>(i >> 12);
    std::uint64_t sent = 0;
    PushBlob push = blob_of(large);
    push.on_progress = [&](std::uint64_t n) { sent = n; };
    EXPECT_FALSE(registry.blob_exists(reference, push.blob.digest, stop_).value());
    const auto first = registry.push_blob(reference, push, stop_);
    ASSERT_TRUE(first) << first.error().to_string();
    EXPECT_EQ(*first, Pushed::uploaded);
    EXPECT_EQ(sent, large.size());
    EXPECT_EQ(registry.push_blob(reference, push, stop_).value(), Pushed::existed);
    EXPECT_EQ(registry.push_blob(reference, blob_of(config), stop_).value(), Pushed::uploaded);
    EXPECT_EQ(registry.push_blob(reference, blob_of(""), stop_).value(), Pushed::uploaded);

    // A client without memory asks and finds it.
    Registry other(RegistryConfig{}, user_, client_, retry_);
    EXPECT_EQ(other.push_blob(reference, push, stop_).value(), Pushed::existed);
    PushBlob mounted = push;
    mounted.mount_from = {"no/such", "team/app"};
    mounted.open = []() -> Result<std::unique_ptr<ByteSource>> { return cancelled(); };
    const auto elsewhere = *oci::Reference::parse_normalized(live.host() + "/team/second:v1");
    EXPECT_EQ(other.push_blob(elsewhere, mounted, stop_).value(), Pushed::mounted);

    oci::Manifest manifest;
    manifest.media_type = oci::kOciManifest;
    manifest.config = blob_of(config).blob;
    manifest.config.media_type = oci::kOciConfig;
    manifest.layers = {push.blob};
    const std::string bytes = oci::marshal_manifest(manifest);
    const auto digest = registry.push_manifest(reference, manifest.media_type, bytes, stop_);
    ASSERT_TRUE(digest) << digest.error().to_string();
    EXPECT_EQ(registry.push_manifest(reference, manifest.media_type, bytes, stop_).value(), *digest);
    const auto resolved = registry.resolve(reference, stop_);
    ASSERT_TRUE(resolved);
    EXPECT_EQ(resolved->digest, *digest);
    EXPECT_EQ(registry.fetch_manifest(reference, *digest, stop_).value(), bytes);
    auto source = registry.fetch_blob_verified(reference, push.blob, stop_);
    ASSERT_TRUE(source);
    EXPECT_TRUE(read_all(**source, 64u << 20).value() == large);
    auto rest = registry.fetch_blob(reference, push.blob, large.size() - 7, stop_);
    ASSERT_TRUE(rest);
    EXPECT_EQ(read_all(**rest, 100).value(), large.substr(large.size() - 7));
    EXPECT_EQ(registry.fetch_blob_text(reference, blob_of(config).blob, 1u << 20, stop_).value(), config);
    EXPECT_TRUE(registry.referrers(reference, *digest, stop_).value().empty());
    EXPECT_FALSE(registry.push_manifest(reference, manifest.media_type, "{}", stop_));
    EXPECT_EQ(registry.fetch_manifest(reference, codec::sha256_of("x"), stop_).error().code(), Code::not_found);
}

TEST_F(LiveTest, WrongBytesAreRefusedByTheRegistry) {
    LiveRegistry live(client_, LiveRegistry::Auth::none);
    Registry registry(RegistryConfig{}, user_, client_, retry_);
    const auto reference = *oci::Reference::parse_normalized(live.host() + "/a:1");
    PushBlob lie = blob_of("truth");
    lie.blob.digest = codec::sha256_of("lie!!");
    const auto pushed = registry.push_blob(reference, lie, stop_);
    ASSERT_FALSE(pushed);
    EXPECT_NE(pushed.error().to_string().find("digest"), std::string::npos);
    PushBlob thin = blob_of("thin");
    thin.blob.size = 400;
    const auto broken = registry.push_blob(reference, thin, stop_);
    ASSERT_FALSE(broken);
    EXPECT_EQ(broken.error().code(), Code::data_loss);
}

TEST_F(LiveTest, BasicAuthentication) {
    LiveRegistry live(client_, LiveRegistry::Auth::basic);
    Registry registry(RegistryConfig{}, user_, client_, retry_);
    const auto reference = *oci::Reference::parse_normalized(live.host() + "/private:1");
    const auto anonymous = registry.push_blob(reference, blob_of("x"), stop_);
    ASSERT_FALSE(anonymous);
    EXPECT_EQ(anonymous.error().code(), Code::unauthenticated);
    EXPECT_NE(anonymous.error().hint().find("cooper login " + live.host()), std::string::npos);
    EXPECT_FALSE(registry.check_login(live.host(), Credential{.username = "me", .password = "wrong"}, stop_));
    user_.credential = Credential{.username = "me", .password = "secret"};
    EXPECT_TRUE(registry.check_login(live.host(), user_.credential, stop_));
    const auto pushed = registry.push_blob(reference, blob_of("x"), stop_);
    ASSERT_TRUE(pushed) << pushed.error().to_string();
    EXPECT_EQ(*pushed, Pushed::uploaded);
    EXPECT_EQ(registry.resolve(reference, stop_).error().code(), Code::not_found);
}

}  // namespace
}  // namespace cooper::registry
