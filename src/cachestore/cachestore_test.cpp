#include "cachestore/client_store.hpp"
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
