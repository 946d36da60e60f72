#include "cachestore/s3_store.hpp"
#include "codec/sha256.hpp"
#include "http/fake_server.hpp"

#include <gtest/gtest.h>
#include <mutex>

namespace cooper::cachestore {
namespace {

// Examples of Amazon's description of signatures.
TEST(AwsSignature, IsThatOfThePublishedExamples) {
    const AwsCredentials keys{.access_key_id = "AKIAIOSFODNN7EXAMPLE",
                              .secret_access_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                              .session_token = {}};
    const AwsScope scope{.region = "us-east-1", .service = "s3"};
    const Timestamp now{std::chrono::seconds(1369353600)};  // 2013-05-24
    const std::string empty = codec::sha256_of("").hex();
    const auto signature = [&](http::Request request) {
        sign_aws(request, keys, scope, empty, now);
        const std::string value = request.headers.find("Authorization").value();
        return value.substr(value.rfind('=') + 1);
    };
    http::Request get;
    get.url = "https://examplebucket.s3.amazonaws.com/test.txt";
    get.headers.set("Range", "bytes=0-9");
    EXPECT_EQ(signature(get), "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
    http::Request lifecycle;
    lifecycle.url = "https://examplebucket.s3.amazonaws.com/?lifecycle=";
    EXPECT_EQ(signature(lifecycle), "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
    http::Request list;
    list.url = "https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J";
    EXPECT_EQ(signature(list), "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

TEST(AwsProfile, IsReadFromTheFile) {
    const std::string text =
        "# mine\n[default]\naws_access_key_id=A\n aws_secret_access_key = B=\n[profile ci]\naws_access_key_id = C\n"
        "aws_secret_access_key = D\naws_session_token = E\nregion = x\n";
    EXPECT_EQ(aws_profile(text, "default").secret_access_key, "B=");
    EXPECT_EQ(aws_profile(text, "ci").access_key_id, "C");
    EXPECT_EQ(aws_profile(text, "ci").session_token, "E");
    EXPECT_EQ(aws_profile(text, "none").access_key_id, "");
}

struct Bucket {
    Bucket() : client(http::ClientOptions{}) {}
    std::shared_ptr<CacheStore> open(http::FakeServer& server) {
        S3Config config;
        config.bucket = "b";
        config.region = "r";
        config.names = {"one", "two"};
        config.endpoint = server.url();
        config.path_style = true;
        config.credentials = {.access_key_id = "k", .secret_access_key = "s", .session_token = {}};
        config.part_bytes = 10;
        config.limits.first_delay = std::chrono::milliseconds(1);
        config.limits.max_delay = std::chrono::milliseconds(10);
        return S3Store::open(config, client, clock).value();
    }
    http::Client client;
    SystemClock clock;
};

PutBlob blob_of(const std::string& text) {
    PutBlob put;
    put.blob.digest = codec::sha256_of(text);
    put.blob.size = text.size();
    put.open = [text]() -> Result<std::unique_ptr<ByteSource>> { return std::make_unique<StringSource>(text); };
    return put;
}

TEST(S3, PartsAreTakenBackWhenOneFails) {
    http::FakeServer server([](const http::FakeRequest& request) -> http::FakeResponse {
        if (request.method == "HEAD") return {.status = 404, .headers = {}, .body = ""};
        if (request.method == "POST") return {.headers = {}, .body = "<X><UploadId>u&amp;1</UploadId></X>"};
        if (request.target.find("partNumber=3") != std::string::npos)
            return {.status = 403, .headers = {}, .body = "<Error><Code>AccessDenied</Code></Error>"};
        http::FakeResponse good;
        good.headers.set("ETag", "\"e\"");
        return good;
    });
    Bucket bucket;
    const auto put = bucket.open(server)->put(blob_of(std::string(45, 'x')), Stop());
    ASSERT_FALSE(put);
    EXPECT_EQ(put.error().code(), Code::permission_denied);
    EXPECT_NE(put.error().to_string().find("AccessDenied"), std::string::npos);
    bool aborted = false;
    for (const auto& request : server.requests())
        aborted = aborted || (request.method == "DELETE" && request.target.ends_with("?uploadId=u%261"));
    EXPECT_TRUE(aborted);
}

TEST(S3, CompletionThatFailsLateIsAnError) {
    http::FakeServer server([](const http::FakeRequest& request) -> http::FakeResponse {
        if (request.method == "HEAD") return {.status = 404, .headers = {}, .body = ""};
        if (request.target.ends_with("?uploads=")) return {.headers = {}, .body = "<UploadId>u</UploadId>"};
        return {.headers = {}, .body = "<Error><Code>InternalError</Code><Message>late</Message></Error>"};
    });
    Bucket bucket;
    const auto put = bucket.open(server)->put(blob_of(std::string(45, 'x')), Stop());
    ASSERT_FALSE(put);
    EXPECT_NE(put.error().to_string().find("InternalError: late"), std::string::npos);
}

TEST(S3, TriesAgainAndGivesUp) {
    int failures = 2;
    http::FakeServer server([&](const http::FakeRequest& request) -> http::FakeResponse {
        if (request.method == "PUT" && failures-- > 0) return {.status = 503, .headers = {}, .body = ""};
        return {.status = request.method == "HEAD" ? 404 : 200, .headers = {}, .body = ""};
    });
    Bucket bucket;
    const auto store = bucket.open(server);
    EXPECT_EQ(store->put(blob_of("abc"), Stop()).value(), Put::uploaded);
    EXPECT_EQ(server.requests().back().body, "abc");
    failures = 1000;
    EXPECT_EQ(store->put(blob_of("abcd"), Stop()).error().code(), Code::unavailable);
    EXPECT_EQ(failures, 996);  // as many attempts as allowed
}

TEST(S3, AnObjectOfAnotherSizeIsWrittenAgain) {
    http::FakeServer server(
        [](const http::FakeRequest&) -> http::FakeResponse { return {.headers = {}, .body = "12345"}; });
    Bucket bucket;
    const auto store = bucket.open(server);
    EXPECT_EQ(store->put(blob_of("abc"), Stop()).value(), Put::uploaded);
    EXPECT_EQ(store->put(blob_of("abcde"), Stop()).value(), Put::existed);
}

TEST(S3, AnOldObjectIsRenewed) {
    http::FakeServer server([](const http::FakeRequest&) -> http::FakeResponse {
        http::FakeResponse answer{.headers = {}, .body = "12345"};
        answer.headers.set("Last-Modified", "Tue, 01 Jan 2019 00:00:00 GMT");
        return answer;
    });
    Bucket bucket;
    EXPECT_EQ(bucket.open(server)->put(blob_of("abcde"), Stop()).value(), Put::existed);
    const auto copy = server.requests().back();
    EXPECT_EQ(copy.method, "PUT");
    EXPECT_EQ(copy.headers.find("x-amz-copy-source").value(), "b/blobs/sha256:" + codec::sha256_of("abcde").hex());
    EXPECT_EQ(copy.headers.find("x-amz-metadata-directive").value(), "REPLACE");
}

TEST(S3, TheBucketIsAPartOfTheHostUnlessThePathIsAskedFor) {
    http::FakeServer server([](const http::FakeRequest&) -> http::FakeResponse { return {}; });
    Bucket bucket;
    S3Config config;
    config.bucket = "shop";
    config.region = "r";
    config.names = {"one"};
    config.endpoint = "http://s3.localhost:" + server.host().substr(server.host().rfind(':') + 1) + "/base/";
    const auto store = S3Store::open(config, bucket.client, bucket.clock).value();
    ASSERT_TRUE(store->has(codec::sha256_of("x"), Stop()).value());
    const auto request = server.requests().back();
    EXPECT_TRUE(request.headers.find("Host").value().starts_with("shop.s3.localhost:"));
    EXPECT_TRUE(request.target.starts_with("/base/blobs/sha256%3A"));
    config.bucket = "not.for.tls";
    EXPECT_FALSE(S3Store::open(config, bucket.client, bucket.clock));
    config.endpoint.clear();
    EXPECT_TRUE(S3Store::open(config, bucket.client, bucket.clock));  // Amazon takes it in the path
}

TEST(S3, ABodyThatBreaksOffGoesOn) {
    const std::string text = "0123456789";
    int left = 1;
    http::FakeServer server([&](const http::FakeRequest& request) -> http::FakeResponse {
        const auto range = request.headers.find("Range");
        if (!range) return {.headers = {}, .body = text, .cut_after = left-- > 0 ? 4 : 0};
        return {.status = 206, .headers = {}, .body = text.substr(std::stoul(range->substr(6)))};
    });
    Bucket bucket;
    oci::Descriptor blob;
    blob.digest = codec::sha256_of(text);
    const auto store = bucket.open(server);
    const auto source = store->get(blob, kWhole, Stop());
    ASSERT_TRUE(source);
    EXPECT_EQ(read_all(**source, 100).value(), text);
}

TEST(S3, NothingIsAskedForWhenNothingIsLeft) {
    http::FakeServer server([&](const http::FakeRequest& request) -> http::FakeResponse {
        if (request.headers.find("Range")) return {.status = 416, .headers = {}, .body = "<Code>InvalidRange</Code>"};
        return {.headers = {}, .body = "0123456789 and more", .cut_after = 10};
    });
    Bucket bucket;
    oci::Descriptor blob;
    blob.digest = codec::sha256_of("0123456789");
    blob.size = 10;
    const auto store = bucket.open(server);
    const auto rest = store->get(blob, {.offset = 10}, Stop());
    ASSERT_TRUE(rest);
    EXPECT_EQ(read_all(**rest, 100).value(), "");
    EXPECT_TRUE(server.requests().empty());
    const auto whole = store->get(blob, kWhole, Stop());  // the connection breaks behind the last byte
    ASSERT_TRUE(whole);
    EXPECT_EQ(read_all(**whole, 100).value(), "0123456789");
    EXPECT_EQ(server.requests().size(), 1u);
}

TEST(S3, IndexesAreWrittenUnderAllNamesAndReadFromThoseThatAreThere) {
    std::map<std::string, std::string> objects;
    std::mutex mutex;
    http::FakeServer server([&](const http::FakeRequest& request) -> http::FakeResponse {
        const std::lock_guard lock(mutex);
        if (request.method == "PUT") {
            objects[request.target] = request.body;
            return {};
        }
        const auto found = objects.find(request.target);
        if (found == objects.end()) return {.status = 404, .headers = {}, .body = "<Code>NoSuchKey</Code>"};
        return {.headers = {}, .body = found->second};
    });
    Bucket bucket;
    const auto store = bucket.open(server);
    Index index;
    index.text = "{}";
    ASSERT_TRUE(store->put_index("", index, Stop()));
    EXPECT_TRUE(objects.contains("/b/manifests/one"));
    EXPECT_TRUE(objects.contains("/b/manifests/two"));
    objects.erase("/b/manifests/one");
    EXPECT_EQ(store->get_indexes("", Stop()).value().size(), 1U);
    EXPECT_EQ(store->get_indexes("mounts", Stop()).error().code(), Code::not_found);
}

}  // namespace
}  // namespace cooper::cachestore
