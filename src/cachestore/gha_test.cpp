#include "cachestore/azure_blob.hpp"
#include "cachestore/gha_store.hpp"
#include "codec/base64.hpp"
#include "codec/sha256.hpp"
#include "http/fake_server.hpp"

#include <gtest/gtest.h>

namespace cooper::cachestore {
namespace {

std::string token(const std::string& claims) { return "e30." + codec::base64url_encode(claims) + ".x"; }

TEST(GhaToken, SaysWhichScopesItAllows) {
    const Timestamp now{std::chrono::seconds(1000)};
    const auto scopes = scopes_of_token(
        token(R"({"exp":2000,"ac":"[{\"Scope\":\"a\",\"Permission\":1},{\"Scope\":\"b\",\"Permission\":3}]"})"), now);
    ASSERT_TRUE(scopes);
    ASSERT_EQ(scopes->size(), 2U);
    EXPECT_FALSE((*scopes)[0].writable);
    EXPECT_TRUE((*scopes)[1].writable);
    EXPECT_FALSE(scopes_of_token(token(R"({"exp":999,"ac":"[]"})"), now));
    EXPECT_FALSE(scopes_of_token(token(R"({"ac":[]})"), now));
    EXPECT_FALSE(scopes_of_token(token("[]"), now));
    EXPECT_FALSE(scopes_of_token("a.b", now));
}

// Entries that exist are told by 409, as the service does; the newest number counts.
TEST(Gha, AnIndexTakesTheNextFreeNumber) {
    std::vector<std::string> reserved;
    std::string base;
    http::FakeServer server([&](const http::FakeRequest& request) -> http::FakeResponse {
        if (request.method == "PUT") return {.status = 201, .headers = {}, .body = ""};
        if (request.target.ends_with("GetCacheEntryDownloadURL"))
            return {.headers = {},
                    .body = R"({"ok":true,"matched_key":"index-s-1-e3b0c442#7","signed_download_url":"x"})"};
        if (request.target.ends_with("CreateCacheEntry")) {
            reserved.push_back(request.body.substr(8, 22));
            if (reserved.size() < 4) return {.status = 409, .headers = {}, .body = R"({"code":"already_exists"})"};
            return {.headers = {}, .body = R"({"ok":true,"signed_upload_url":")" + base + R"(/up?sig=a%2Bb"})"};
        }
        return {.headers = {}, .body = R"({"ok":true})"};
    });
    base = server.url();
    http::Client client{http::ClientOptions{}};
    SystemClock clock;
    GhaConfig config;
    config.url = server.url();
    config.scope = "s";
    config.token = token(R"({"ac":"[{\"Scope\":\"\",\"Permission\":3}]"})");
    config.index_wait = std::chrono::milliseconds(2);
    config.index_poll = std::chrono::milliseconds(1);
    const auto store = GhaStore::open(config, client, clock).value();
    Index index;
    index.text = "{}";
    const auto put = store->put_index("", index, Stop());
    ASSERT_TRUE(put) << put.error().to_string();
    // Waited for twice, passed over once.
    EXPECT_EQ(reserved, (std::vector<std::string>{"index-s-1-e3b0c442#8\",", "index-s-1-e3b0c442#8\",",
                                                  "index-s-1-e3b0c442#8\",", "index-s-1-e3b0c442#9\","}));
    EXPECT_EQ(server.count("PUT", "/up?sig=a%2Bb"), 1U);
}

TEST(Azure, BlobsGoInBlocksAndAnswersAreErrors) {
    http::FakeServer server([&](const http::FakeRequest& request) -> http::FakeResponse {
        if (request.target.find("comp=blocklist") == std::string::npos)
            return {.status = 201, .headers = {}, .body = ""};
        EXPECT_EQ(request.headers.find("If-None-Match").value_or(""), "*");
        return {.status = 409, .headers = {}, .body = "<Error><Code>BlobAlreadyExists</Code></Error>"};
    });
    http::Client client{http::ClientOptions{}};
    const detail::Caller caller(client, server.url(), {},
                                [](const detail::Call&, http::Request& request) { prepare_azure(request); });
    PutBlob blob;
    blob.blob.size = 25;
    blob.open = []() -> Result<std::unique_ptr<ByteSource>> {
        return std::make_unique<StringSource>(std::string(25, 'x'));
    };
    const auto put = put_azure_blob(caller, "/c/b", {}, blob, IfThere::keep, 10, "put b", Stop());
    ASSERT_TRUE(put) << put.error().to_string();
    EXPECT_FALSE(*put);
    EXPECT_EQ(server.requests().size(), 4U);
    blob.open = []() -> Result<std::unique_ptr<ByteSource>> { return std::make_unique<StringSource>("short"); };
    EXPECT_EQ(put_azure_blob(caller, "/c/b", {}, blob, IfThere::keep, 10, "put b", Stop()).error().code(),
              Code::data_loss);
}

}  // namespace
}  // namespace cooper::cachestore
