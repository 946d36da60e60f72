// The protocol against a server we control: authentication, errors, retries, resuming, mirrors.
#include "registry/registry.hpp"

#include "base/text.hpp"
#include "codec/base64.hpp"
#include "codec/sha256.hpp"
#include "http/fake_server.hpp"
#include "oci/media_type.hpp"
#include "registry/auth_challenge.hpp"

#include <atomic>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

namespace cooper::registry {
namespace {

constexpr http::RetryPolicy kQuick{.attempts = 4, .first_delay = std::chrono::milliseconds(1)};
const std::string kManifest =
    R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"digest":"sha256:)" +
    std::string(64, 'a') + R"(","size":1},"layers":[]})";

class FixedCredentials final : public CredentialSource {
public:
    Result<Credential> find(const std::string& host, const Stop& /*stop*/) override {
        asked.push_back(host);
        return credential;
    }
    Credential credential;
    std::vector<std::string> asked;
};

http::FakeResponse manifest_response() {
    http::FakeResponse response{.body = kManifest};
    response.headers.add("Content-Type", std::string(oci::kOciManifest));
    response.headers.add("Docker-Content-Digest", codec::sha256_of(kManifest).to_string());
    return response;
}

oci::Reference reference_on(const http::FakeServer& server, const std::string& rest) {
    return *oci::Reference::parse_normalized(server.host() + "/" + rest);
}

class RegistryTest : public ::testing::Test {
protected:
    Registry make(RegistryConfig config = {}) { return Registry(std::move(config), credentials_, client_, kQuick); }
    http::Client client_{http::ClientOptions{}};
    FixedCredentials credentials_;
    Stop stop_;
};

TEST(AuthChallenge, Parses) {
    const auto all = parse_challenges(
        R"(Basic realm="a, b", Bearer realm="https://x/t?q=\"1\"",service=reg , scope="repository:a:pull,push" error=x)");
    ASSERT_EQ(all.size(), 2u);
    EXPECT_EQ(all[0].scheme, "basic");
    EXPECT_EQ(all[0].param("realm"), "a, b");
    EXPECT_EQ(all[1].scheme, "bearer");
    EXPECT_EQ(all[1].param("realm"), "https://x/t?q=\"1\"");
    EXPECT_EQ(all[1].param("service"), "reg");
    EXPECT_EQ(all[1].param("scope"), "repository:a:pull,push");
    EXPECT_EQ(all[1].param("error"), "x");
    EXPECT_TRUE(parse_challenges("").empty());
    EXPECT_TRUE(parse_challenges(",,==;;\"").empty());
    EXPECT_EQ(parse_challenges("Negotiate").at(0).scheme, "negotiate");
    EXPECT_EQ(parse_challenges("Bearer realm=\"unterminated").at(0).param("realm"), "unterminated");
}

TEST(Config, KnowsLoopback) {
    for (const char* host :
         {"localhost", "localhost:5000", "127.0.0.1", "127.8.8.8:1", "[::1]:5000", "a.localhost:1"}) {
        EXPECT_TRUE(is_loopback(host)) << host;
    }
    for (const char* host : {"example.com", "127.evil.com", "127.0.0.1.evil.com", "10.0.0.1", "localhost.evil.com"}) {
        EXPECT_FALSE(is_loopback(host)) << host;
    }
    EXPECT_EQ(endpoint_host("docker.io"), "registry-1.docker.io");
}

TEST_F(RegistryTest, ResolvesWithOneHead) {
    http::FakeServer server([](const http::FakeRequest&) { return manifest_response(); });
    Registry registry = make();
    const auto found = registry.resolve(reference_on(server, "a/b:1"), stop_);
    ASSERT_TRUE(found) << found.error().to_string();
    EXPECT_EQ(found->digest, codec::sha256_of(kManifest));
    EXPECT_EQ(found->size, kManifest.size());
    EXPECT_EQ(server.requests().size(), 1u);
    EXPECT_EQ(server.requests()[0].target, "/v2/a/b/manifests/1");
}

TEST_F(RegistryTest, ResolvesWhereHeadSaysTooLittle) {
    http::FakeServer server([](const http::FakeRequest& request) {
        if (request.method == "HEAD") return http::FakeResponse{.status = 405};
        return http::FakeResponse{.body = kManifest};
    });
    Registry registry = make();
    const auto found = registry.resolve(reference_on(server, "a/b:1"), stop_);
    ASSERT_TRUE(found) << found.error().to_string();
    EXPECT_EQ(found->media_type, oci::kOciManifest);
    EXPECT_EQ(found->digest, codec::sha256_of(kManifest));
}

TEST_F(RegistryTest, RefusesManifestsThatLie) {
    http::FakeServer server([](const http::FakeRequest&) {
        http::FakeResponse response = manifest_response();
        response.body += " ";
        return response;
    });
    Registry registry = make();
    const auto reference = reference_on(server, "a/b:1");
    const auto got = registry.fetch_manifest(reference, codec::sha256_of(kManifest), stop_);
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().code(), Code::data_loss);
    const auto other = registry.resolve(reference.with_digest(codec::sha256_of("other")), stop_);
    ASSERT_FALSE(other);
    EXPECT_EQ(other.error().code(), Code::data_loss);
}

TEST_F(RegistryTest, RefusesSchema1) {
    http::FakeServer server([](const http::FakeRequest&) {
        http::FakeResponse response{.body = R"({"schemaVersion":1,"fsLayers":[]})"};
        response.headers.add("Content-Type", std::string(oci::kDockerSchema1Signed));
        return response;
    });
    Registry registry = make();
    const auto got = registry.resolve(reference_on(server, "a/b:1"), stop_);
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().code(), Code::failed_precondition);
    EXPECT_NE(got.error().to_string().find("schema 1"), std::string::npos);
}

TEST_F(RegistryTest, ErrorsSayWhatToDo) {
    std::atomic<int> status = 0;
    http::FakeServer server([&](const http::FakeRequest&) {
        return http::FakeResponse{.status = status,
                                  .body = R"({"errors":[{"code":"DENIED","message":"not\nfor you"}]})"};
    });
    Registry registry = make();
    const std::vector<std::pair<int, Code>> cases{{401, Code::unauthenticated},
                                                  {403, Code::permission_denied},
                                                  {404, Code::not_found},
                                                  {429, Code::resource_exhausted},
                                                  {500, Code::unavailable}};
    for (const auto& [number, code] : cases) {
        status = number;
        const auto got = registry.fetch_manifest(reference_on(server, "a/b:1"), codec::sha256_of("x"), stop_);
        ASSERT_FALSE(got);
        EXPECT_EQ(got.error().code(), code) << number;
        EXPECT_NE(got.error().to_string().find("denied: not for you"), std::string::npos);
        EXPECT_FALSE(got.error().hint().empty());
        EXPECT_EQ(got.error().find_detail<HttpStatus>()->status, number);
    }
    // 4 attempts for each of 429 and 500, one for the rest.
    EXPECT_EQ(server.requests().size(), 11u);
}

// A token server and a registry in one; grants what the account may do.
class TokenServer {
public:
    http::FakeResponse operator()(const http::FakeRequest& request) {
        if (request.target.starts_with("/token")) return token(request);
        if (request.headers.find("Authorization") == "Bearer good-" + scope_wanted) return manifest_response();
        http::FakeResponse response{.status = 401};
        response.headers.add("WWW-Authenticate", "Bearer realm=\"" + realm + "\",service=\"svc\"");
        return response;
    }
    http::FakeResponse token(const http::FakeRequest& request) {
        ++tokens;
        if (request.method == "POST") {
            if (!request.body.contains("refresh_token=refresh%2Fme")) return http::FakeResponse{.status = 401};
        } else if (request.headers.find("Authorization") != wanted_auth) {
            return http::FakeResponse{.status = 401, .body = R"({"details":"incorrect username or password"})"};
        }
        return http::FakeResponse{.body = R"({"token":"good-)" + scope_wanted + R"(","expires_in":300})"};
    }
    std::string realm;
    std::string scope_wanted = "x";
    std::optional<std::string> wanted_auth;
    std::atomic<int> tokens = 0;
};

TEST_F(RegistryTest, GetsBearerTokensAndKeepsThem) {
    TokenServer tokens;
    http::FakeServer server([&](const http::FakeRequest& request) { return tokens(request); });
    tokens.realm = server.url() + "/token";
    Registry registry = make();
    const auto reference = reference_on(server, "a/b:1");
    ASSERT_TRUE(registry.resolve(reference, stop_));
    ASSERT_TRUE(registry.resolve(reference, stop_));
    EXPECT_EQ(tokens.tokens, 1);
    EXPECT_EQ(server.count("GET", "/token?service=svc&scope=repository%3Aa%2Fb%3Apull"), 1u);
    EXPECT_EQ(server.count("HEAD", "/v2/a/b/manifests/1"), 3u);
}

TEST_F(RegistryTest, SendsPasswordsAndIdentityTokensToTheTokenServer) {
    TokenServer tokens;
    http::FakeServer server([&](const http::FakeRequest& request) { return tokens(request); });
    tokens.realm = server.url() + "/token";
    tokens.wanted_auth = "Basic " + codec::base64_encode("me:pass");
    credentials_.credential = Credential{.username = "me", .password = "pass"};
    {
        Registry registry = make();
        EXPECT_TRUE(registry.resolve(reference_on(server, "a/b:1"), stop_));
        EXPECT_EQ(credentials_.asked, std::vector<std::string>{server.host()});
    }
    credentials_.credential = Credential{.identity_token = "refresh/me"};
    {
        Registry registry = make();
        EXPECT_TRUE(registry.resolve(reference_on(server, "a/b:1"), stop_));
    }
    credentials_.credential = Credential{.username = "me", .password = "wrong"};
    Registry registry = make();
    const auto refused = registry.resolve(reference_on(server, "a/b:1"), stop_);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Code::unauthenticated);
    EXPECT_NE(refused.error().to_string().find("incorrect username"), std::string::npos);
    EXPECT_TRUE(registry.check_login(server.host(), Credential{.username = "me", .password = "pass"}, stop_));
    EXPECT_FALSE(registry.check_login(server.host(), Credential{.username = "me", .password = "no"}, stop_));
}

TEST_F(RegistryTest, ResumesBrokenBlobs) {
    std::string blob(300'000, 'z');
    for (std::size_t i = 0; i < blob.size(); ++i) blob[i] = static_cast<char>(i * 31 % 251);
    std::vector<std::string> ranges;
    bool honours_ranges = true;
    http::FakeServer server([&](const http::FakeRequest& request) {
        const std::string range = request.headers.find("Range").value_or("");
        ranges.push_back(range);
        std::size_t from = 0;
        http::FakeResponse response;
        if (!range.empty() && honours_ranges) {
            from = static_cast<std::size_t>(*parse_int(std::string_view(range).substr(6, range.size() - 7)));
            response.status = 206;
            response.headers.add("Content-Range", fmt::format("bytes {}-{}/{}", from, blob.size() - 1, blob.size()));
        }
        response.body = blob.substr(from);
        if (ranges.size() < 3) response.cut_after = 100'000;
        return response;
    });
    const oci::Descriptor descriptor{.digest = codec::sha256_of(blob), .size = blob.size()};
    const auto reference = reference_on(server, "a/b:1");
    for (const bool honours : {true, false}) {
        honours_ranges = honours;
        ranges.clear();
        Registry registry = make();
        auto source = registry.fetch_blob_verified(reference, descriptor, stop_);
        ASSERT_TRUE(source) << source.error().to_string();
        const auto text = read_all(**source, 1u << 20);
        ASSERT_TRUE(text) << text.error().to_string();
        EXPECT_EQ(*text, blob);
        ASSERT_EQ(ranges.size(), 3u);
        EXPECT_EQ(ranges[1], "bytes=100000-");
    }
    Registry registry = make();
    auto tail = registry.fetch_blob(reference, descriptor, 299'990, stop_);
    ASSERT_TRUE(tail);
    EXPECT_EQ(read_all(**tail, 100).value(), blob.substr(299'990));
    oci::Descriptor wrong = descriptor;
    wrong.digest = codec::sha256_of("other");
    auto bad = registry.fetch_blob_verified(reference, wrong, stop_);
    ASSERT_TRUE(bad);
    const auto text = read_all(**bad, 1u << 20);
    ASSERT_FALSE(text);
    EXPECT_EQ(text.error().code(), Code::data_loss);
}

TEST_F(RegistryTest, AsksMirrorsFirstAndFallsBack) {
    std::atomic<bool> mirror_works = true;
    http::FakeServer mirror([&](const http::FakeRequest&) {
        return mirror_works ? manifest_response() : http::FakeResponse{.status = 500};
    });
    http::FakeServer origin([](const http::FakeRequest&) { return manifest_response(); });
    RegistryConfig config;
    config.hosts[origin.host()].mirrors = {mirror.host() + "/cache"};
    Registry registry = make(config);
    const auto reference = reference_on(origin, "a/b:1");
    ASSERT_TRUE(registry.resolve(reference, stop_));
    EXPECT_EQ(origin.requests().size(), 0u);
    EXPECT_TRUE(mirror.requests().at(0).target.starts_with("/v2/cache/a/b/manifests/1?ns="));
    mirror_works = false;
    ASSERT_TRUE(registry.resolve(reference, stop_));
    EXPECT_EQ(origin.requests().size(), 1u);
}

TEST_F(RegistryTest, StopEndsAWaitBetweenRetries) {
    StopSource source;
    http::FakeServer server([&](const http::FakeRequest&) {
        source.request_stop();
        return http::FakeResponse{.status = 503};
    });
    Registry registry(
        RegistryConfig{}, credentials_, client_,
        http::RetryPolicy{.attempts = 9, .first_delay = std::chrono::hours(1), .max_delay = std::chrono::hours(1)});
    const auto got = registry.resolve(reference_on(server, "a/b:1"), source.get_token());
    ASSERT_FALSE(got);
    EXPECT_TRUE(got.error().is_cancelled());
}

class DockerConfigTest : public ::testing::Test {
protected:
    void SetUp() override {
        dir_ = ::testing::TempDir() + "dockerXXXXXX";
        ASSERT_NE(mkdtemp(dir_.data()), nullptr);
    }
    void TearDown() override { std::filesystem::remove_all(dir_); }
    void write(const std::string& name, const std::string& text) const { std::ofstream(dir_ + "/" + name) << text; }
    [[nodiscard]] std::string read(const std::string& name) const {
        std::ifstream in(dir_ + "/" + name);
        return {std::istreambuf_iterator<char>(in), {}};
    }
    std::string dir_;
    Stop stop_;
};

TEST_F(DockerConfigTest, ReadsAuthsUnderAllTheirNames) {
    write("config.json", R"({"auths":{"https://index.docker.io/v1/":{"auth":"bWU6cGE6c3M="},)"
                         R"("https://quay.io/v2/":{"auth":"dTpw","identitytoken":"tok"},"x:5000":{"auth":"!!"}}})");
    DockerConfig config(dir_);
    const auto hub = config.find("docker.io", stop_);
    ASSERT_TRUE(hub);
    EXPECT_EQ(hub->username, "me");
    EXPECT_EQ(hub->password, "pa:ss");
    EXPECT_EQ(config.find("quay.io", stop_)->identity_token, "tok");
    EXPECT_TRUE(config.find("x", stop_)->anonymous());
    const auto broken = config.find("x:5000", stop_);
    ASSERT_FALSE(broken);
    EXPECT_NE(broken.error().to_string().find("x:5000"), std::string::npos);
}

TEST_F(DockerConfigTest, StoresAndErasesKeepingTheRest) {
    write("config.json", R"({"HttpHeaders":{"a":"b"},"auths":{"h":{"auth":"dTpw"}}})");
    DockerConfig config(dir_);
    ASSERT_TRUE(config.store("docker.io", Credential{.username = "me", .password = "pw"}, stop_));
    EXPECT_EQ(config.find("docker.io", stop_)->password, "pw");
    EXPECT_EQ(config.find("h", stop_)->username, "u");
    EXPECT_NE(read("config.json").find("HttpHeaders"), std::string::npos);
    EXPECT_NE(read("config.json").find("https://index.docker.io/v1/"), std::string::npos);
    struct stat info{};
    ASSERT_EQ(stat((dir_ + "/config.json").c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777u, 0600u);
    EXPECT_TRUE(config.erase("docker.io", stop_).value());
    EXPECT_FALSE(config.erase("docker.io", stop_).value());
    EXPECT_TRUE(config.find("docker.io", stop_)->anonymous());
    EXPECT_EQ(config.find("h", stop_)->username, "u");

    DockerConfig fresh(dir_ + "/new/deep");
    ASSERT_TRUE(fresh.store("h", Credential{.username = "a", .password = "b"}, stop_));
    EXPECT_EQ(fresh.find("h", stop_)->password, "b");
    write("config.json", "{broken");
    EXPECT_FALSE(config.find("h", stop_));
}

TEST_F(DockerConfigTest, AsksHelpers) {
    write("docker-credential-fake",
          "#!/bin/sh\ncase $1 in get) read -r s\n"
          "if [ \"$s\" = known.io ]; then echo '{\"Username\":\"u\",\"Secret\":\"s\"}'\n"
          "elif [ \"$s\" = token.io ]; then echo '{\"Username\":\"<token>\",\"Secret\":\"t\"}'\n"
          "elif [ \"$s\" = sick.io ]; then echo 'out of order'; exit 1\n"
          "else echo 'credentials not found in native keychain'; exit 1; fi;;\n"
          "store) cat > '" +
              dir_ + "/stored';;\nerase) cat > '" + dir_ + "/erased';; esac\n");
    chmod((dir_ + "/docker-credential-fake").c_str(), 0755);
    const std::string path = std::getenv("PATH");
    setenv("PATH", (dir_ + ":" + path).c_str(), 1);
    write("config.json", R"({"credsStore":"fake","credHelpers":{"evil.io":"../x","gone.io":"no-such-helper"}})");
    DockerConfig config(dir_);
    EXPECT_EQ(config.find("known.io", stop_)->password, "s");
    EXPECT_EQ(config.find("token.io", stop_)->identity_token, "t");
    EXPECT_TRUE(config.find("other.io", stop_)->anonymous());
    EXPECT_NE(config.find("sick.io", stop_).error().to_string().find("out of order"), std::string::npos);
    EXPECT_FALSE(config.find("evil.io", stop_));
    EXPECT_FALSE(config.find("gone.io", stop_).error().hint().empty());
    EXPECT_TRUE(config.store("docker.io", Credential{.username = "a", .password = "b"}, stop_));
    EXPECT_EQ(read("stored"), R"({"ServerURL":"https://index.docker.io/v1/","Username":"a","Secret":"b"})");
    EXPECT_EQ(read("config.json").find("\"b\""), std::string::npos);
    EXPECT_TRUE(config.erase("docker.io", stop_).value());
    EXPECT_EQ(read("erased"), "https://index.docker.io/v1/");
    setenv("PATH", path.c_str(), 1);
}

}  // namespace
}  // namespace cooper::registry
