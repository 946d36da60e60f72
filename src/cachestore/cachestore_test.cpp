#include "cachestore/client_store.hpp"
#include "cachestore/open.hpp"
#include "codec/sha256.hpp"

#include <gtest/gtest.h>

namespace cooper::cachestore {
namespace {

// A client with one content store in memory.
class MemorySession final : public session::Session {
public:
    Result<std::unique_ptr<ByteSource>> read_content(const std::string& /*store*/, const Digest& digest,
                                                     std::uint64_t offset, Stop /*stop*/) override {
        const auto found = blobs.find(digest);
        if (found == blobs.end()) return fail(Code::not_found, Blame::user, "no blob");
        return std::unique_ptr<ByteSource>(std::make_unique<StringSource>(found->second.substr(offset)));
    }
    Result<std::uint64_t> content_size(const std::string& /*store*/, const Digest& digest, Stop /*stop*/) override {
        const auto found = blobs.find(digest);
        if (found == blobs.end()) return fail(Code::not_found, Blame::user, "no blob");
        return found->second.size();
    }
    Result<> write_content(const std::string& /*store*/, const Digest& digest, std::uint64_t /*size*/,
                           ByteSource& source, Stop /*stop*/) override {
        blobs[digest] = TRY(read_all(source, 1 << 20));
        return {};
    }
    std::map<Digest, std::string> blobs;
};

PutBlob blob_of(const std::string& text, int* opened) {
    PutBlob put;
    put.blob.media_type = "application/vnd.oci.image.layer.v1.tar";
    put.blob.digest = codec::sha256_of(text);
    put.blob.size = text.size();
    put.open = [text, opened]() -> Result<std::unique_ptr<ByteSource>> {
        ++*opened;
        return std::make_unique<StringSource>(text);
    };
    return put;
}

class Forms : public testing::TestWithParam<ManifestForm> {};

TEST_P(Forms, WhatIsPutIsFoundAgain) {
    const auto session = std::make_shared<MemorySession>();
    ClientStore writer(session, "local:x", {}, GetParam());
    int opened = 0;
    const PutBlob blob = blob_of("0123456789", &opened);
    EXPECT_EQ(writer.put(blob, Stop()).value(), Put::uploaded);
    EXPECT_EQ(writer.put(blob, Stop()).value(), Put::existed);
    EXPECT_EQ(opened, 1);
    Index index;
    index.media_type = kCacheConfigType;
    index.text = R"({"records":[]})";
    index.blobs = {blob.blob};
    const auto top = writer.put_index("", index, Stop());
    ASSERT_TRUE(top) << top.error().to_string();

    ClientStore reader(session, "local:x", {{"", top->digest}}, ManifestForm::image);
    const auto found = reader.get_indexes("", Stop());
    ASSERT_TRUE(found) << found.error().to_string();
    ASSERT_EQ(found->size(), 1U);
    EXPECT_EQ(found->front().text, index.text);
    EXPECT_EQ(found->front().blobs, index.blobs);
    EXPECT_FALSE(found->front().of_image);
    const auto part = reader.get(blob.blob, {.offset = 2, .length = 3}, Stop());
    ASSERT_TRUE(part);
    EXPECT_EQ(read_all(**part, 100).value(), "234");
    EXPECT_EQ(reader.get_indexes("mount-go", Stop()).error().code(), Code::not_found);
}

INSTANTIATE_TEST_SUITE_P(All, Forms,
                         testing::Values(ManifestForm::image, ManifestForm::oci_index, ManifestForm::docker_list));

TEST(ClientStore, DamagedTextIsRefused) {
    const auto session = std::make_shared<MemorySession>();
    const Digest digest = codec::sha256_of("{}");
    session->blobs[digest] = "{ }";
    ClientStore reader(session, "local:x", {{"", digest}}, ManifestForm::image);
    EXPECT_EQ(reader.get_indexes("", Stop()).error().code(), Code::data_loss);
}

TEST(Attributes, DurationsAndSizesAreReadAsPeopleWriteThem) {
    using std::chrono::milliseconds;
    EXPECT_EQ(duration("1h30m").value(), milliseconds(5'400'000));
    EXPECT_EQ(duration("1.5s").value(), milliseconds(1500));
    EXPECT_EQ(duration("250ms").value(), milliseconds(250));
    for (const char* bad : {"", "5", "5M", "m", "-1s", "1s!", "9999999999999h"}) EXPECT_FALSE(duration(bad)) << bad;
    EXPECT_EQ(byte_size("500MB").value(), 500'000'000U);
    EXPECT_EQ(byte_size("1GiB").value(), 1U << 30U);
    EXPECT_EQ(byte_size("2k").value(), 2000U);
    EXPECT_EQ(byte_size("4096").value(), 4096U);
    for (const char* bad : {"", "MB", "5X", "5MBB", "-5", "5MG", "9999999999T"}) EXPECT_FALSE(byte_size(bad)) << bad;
    EXPECT_EQ(budget_of({"s3", {{"budget", "5m"}}}).value().time, milliseconds(300'000));
    EXPECT_EQ(budget_of({"s3", {{"budget", "5M"}}}).value().bytes, 5'000'000U);
    EXPECT_FALSE(budget_of({"s3", {}}).value().is_limited());
    EXPECT_FALSE(check_export_attributes({"s3", {{"on-failure", "perhaps"}}}));
}

TEST(Attributes, ClientsAddWhatOnlyTheyKnow) {
    const std::map<std::string, std::string> variables{{"AWS_ACCESS_KEY_ID", "K"},
                                                       {"AWS_SECRET_ACCESS_KEY", "S"},
                                                       {"ACTIONS_RUNTIME_TOKEN", "T"},
                                                       {"ACTIONS_RESULTS_URL", "http://r/"},
                                                       {"ACTIONS_CACHE_SERVICE_V2", "True"}};
    const auto environment = [&](const std::string& name) {
        const auto found = variables.find(name);
        return found == variables.end() ? std::string() : found->second;
    };
    Spec s3{"s3", {}};
    add_client_attributes(s3, environment);
    EXPECT_EQ(s3.attrs["access_key_id"], "K");
    Spec own{"s3", {{"access_key_id", "mine"}}};
    add_client_attributes(own, environment);
    EXPECT_FALSE(own.attrs.contains("secret_access_key"));
    Spec gha{"gha", {}};
    add_client_attributes(gha, environment);
    EXPECT_EQ(gha.attrs["url_v2"], "http://r/");
    EXPECT_EQ(gha.attrs["token"], "T");
    Spec local{"local", {}};
    add_client_attributes(local, environment);
    EXPECT_TRUE(local.attrs.empty());
}

TEST(IndexName, HasAForm) {
    EXPECT_TRUE(check_index_name(""));
    EXPECT_TRUE(check_index_name("mounts.go-1_x"));
    EXPECT_FALSE(check_index_name("../x"));
    EXPECT_FALSE(check_index_name(".x"));
    EXPECT_FALSE(check_index_name("a/b"));
    EXPECT_FALSE(check_index_name(std::string(65, 'a')));
}

}  // namespace
}  // namespace cooper::cachestore
