#include "source/image.hpp"

#include "base/text.hpp"
#include "codec/compression.hpp"
#include "codec/sha256.hpp"
#include "codec/tar.hpp"
#include "oci/media_type.hpp"
#include "sys/temp_dir.hpp"

#include <atomic>
#include <gtest/gtest.h>
#include <sys/stat.h>

namespace cooper::source {
namespace {

struct Packed {
    std::string blob;
    Digest diff_id;
};

Packed pack(const std::vector<std::pair<std::string, std::string>>& files, codec::Compression compression) {
    StringSink plain;
    codec::TarWriter tar(plain);
    for (const auto& [name, content] : files) {
        codec::TarHeader header;
        header.name = name;
        header.mode = 0644;
        header.size = content.size();
        EXPECT_TRUE(tar.write_header(header));
        EXPECT_TRUE(tar.write_body(as_bytes(content)));
    }
    EXPECT_TRUE(tar.finish());
    StringSink packed;
    auto compressor = codec::make_compressor(packed, compression, codec::kDefaultLevel, 1);
    EXPECT_TRUE((*compressor)->write(as_bytes(plain.text)));
    EXPECT_TRUE((*compressor)->finish());
    return Packed{packed.text, codec::sha256_of(plain.text)};
}

// Everything by digest, in memory; counts what is asked.
class MemoryOrigin final : public ImageOrigin {
public:
    Result<oci::Descriptor> resolve(const oci::Reference& reference, const Stop& /*stop*/) override {
        ++resolves;
        const auto found = names.find(reference.without_digest().canonical());
        if (found == names.end()) return fail(Code::not_found, Blame::user, "no such image");
        return found->second;
    }
    Result<std::string> fetch_manifest(const oci::Reference& /*reference*/, const Digest& digest,
                                       const Stop& /*stop*/) override {
        ++fetches;
        const auto found = content.find(digest);
        if (found == content.end()) return fail(Code::not_found, Blame::user, "no such manifest");
        return found->second;
    }
    Result<std::unique_ptr<ByteSource>> fetch_blob(const oci::Reference& /*reference*/, const oci::Descriptor& blob,
                                                   std::uint64_t offset, const Stop& /*stop*/) override {
        ++fetches;
        const auto found = content.find(blob.digest);
        if (found == content.end()) return fail(Code::not_found, Blame::user, "no such blob");
        return std::make_unique<StringSource>(found->second.substr(offset));
    }
    oci::Descriptor add(std::string bytes, std::string_view media_type) {
        oci::Descriptor descriptor{
            .media_type = std::string(media_type), .digest = codec::sha256_of(bytes), .size = bytes.size()};
        content[descriptor.digest] = std::move(bytes);
        return descriptor;
    }
    oci::Descriptor add_image(const std::vector<Packed>& layers, const std::vector<std::string_view>& types) {
        oci::ImageConfig config;
        config.platform = oci::host_platform();
        oci::Manifest manifest;
        manifest.media_type = oci::kOciManifest;
        for (std::size_t i = 0; i < layers.size(); ++i) {
            config.diff_ids.push_back(layers[i].diff_id);
            manifest.layers.push_back(add(layers[i].blob, types[i]));
        }
        manifest.config = add(oci::marshal_image_config(config), oci::kOciConfig);
        return add(oci::marshal_manifest(manifest), oci::kOciManifest);
    }
    std::map<std::string, oci::Descriptor> names;
    std::map<Digest, std::string> content;
    std::atomic<int> resolves = 0;
    std::atomic<int> fetches = 0;
};

class ImageTest : public ::testing::Test {
protected:
    void SetUp() override {
        dir_ = std::move(*sys::TempDir::create(::testing::TempDir(), "image"));
        store_ = std::move(*store::Store::open(dir_.path() + "/state", clock_));
        source_ = std::make_unique<ImageSource>(*store_, origin_, layer::ApplyLimits{}, 2);
        layers_ = {pack({{"a/one", "1"}, {"b", "bb"}}, codec::Compression::gzip),
                   pack({{"a/two", std::string(200'000, 'x')}}, codec::Compression::zstd),
                   pack({{"c", "plain"}}, codec::Compression::none)};
        image_ = origin_.add_image(layers_, {oci::kOciLayerGzip, oci::kOciLayerZstd, oci::kOciLayer});
        origin_.names[kName] = image_;
    }
    [[nodiscard]] ImageRequest request() const {
        return ImageRequest{.reference = *oci::Reference::parse_normalized(kName), .platform = oci::host_platform()};
    }
    [[nodiscard]] std::string read(store::LayerId layer, const std::string& path) const {
        const auto dir = sys::RootedDir::open_host(store_->layer_path(layer));
        return dir ? dir->read_file(path, 1u << 20).value_or("<none>") : "<no layer>";
    }
    const std::string kName = "reg.test/app:1";
    SystemClock clock_;
    sys::TempDir dir_;
    std::unique_ptr<store::Store> store_;
    MemoryOrigin origin_;
    std::unique_ptr<ImageSource> source_;
    std::vector<Packed> layers_;
    oci::Descriptor image_;
    Stop stop_;
};

TEST_F(ImageTest, ResolvesOnceAndUnpacksEveryKindOfLayer) {
    const auto image = source_->resolve(request(), nullptr, stop_);
    ASSERT_TRUE(image) << image.error().to_string();
    EXPECT_EQ(image->target.digest, image_.digest);
    EXPECT_EQ(origin_.fetches, 2);
    const auto chain = source_->chain(*image, request());
    ASSERT_TRUE(chain) << chain.error().to_string();
    ASSERT_EQ(chain->layers.size(), 3u);
    EXPECT_EQ(origin_.fetches, 2);  // lazy

    ASSERT_TRUE(source_->resolve(request(), nullptr, stop_));
    EXPECT_EQ(origin_.resolves, 1);
    EXPECT_EQ(origin_.fetches, 2);
    ImageRequest pull = request();
    pull.mode = ImageResolve::pull;
    ASSERT_TRUE(source_->resolve(pull, nullptr, stop_));
    EXPECT_EQ(origin_.resolves, 2);
    EXPECT_EQ(source_->chain(*image, request())->layers, chain->layers);

    const auto done = source_->materialize(*chain, nullptr, stop_);
    ASSERT_TRUE(done) << done.error().to_string();
    EXPECT_EQ(read(chain->layers[0], "a/one"), "1");
    EXPECT_EQ(read(chain->layers[1], "a/two"), std::string(200'000, 'x'));
    EXPECT_EQ(read(chain->layers[2], "c"), "plain");
    EXPECT_EQ(origin_.fetches, 5);
    ASSERT_TRUE(source_->materialize(*chain, nullptr, stop_));
    EXPECT_EQ(origin_.fetches, 5);
    EXPECT_EQ(store_->layer_blobs(chain->layers[0])->at(0).blob.digest, image->content.layers[0].digest);
    auto blob = source_->open_blob(image->content.layers[0], "reg.test/app:1", stop_);
    ASSERT_TRUE(blob);
    EXPECT_EQ(read_all(**blob, 1u << 20).value(), layers_[0].blob);
    EXPECT_EQ(origin_.fetches, 5);
}

TEST_F(ImageTest, ChoosesFromAnIndex) {
    oci::Index index;
    index.media_type = oci::kOciIndex;
    index.manifests.push_back(image_);
    index.manifests.back().platform = oci::host_platform();
    index.manifests.push_back(origin_.add_image({}, {}));
    index.manifests.back().platform = oci::Platform{.os = "plan9", .architecture = "386"};
    const oci::Descriptor top = origin_.add(oci::marshal_index(index), oci::kOciIndex);
    origin_.names[kName] = top;
    const auto image = source_->resolve(request(), nullptr, stop_);
    ASSERT_TRUE(image) << image.error().to_string();
    EXPECT_EQ(image->target.digest, top.digest);
    EXPECT_EQ(image->manifest.digest, image_.digest);
    ImageRequest other = request();
    other.platform = *oci::parse_platform("linux/s390x");
    const auto none = source_->resolve(other, nullptr, stop_);
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error().code(), Code::not_found);
    EXPECT_NE(none.error().hint().find("plan9/386"), std::string::npos);
}

TEST_F(ImageTest, CacheKeysAreBuildKits) {
    const auto image = source_->resolve(request(), nullptr, stop_);
    ASSERT_TRUE(image);
    ImageRequest asked = request();
    asked.platform = *oci::parse_platform("linux/arm/v7");
    const std::string json =
        R"({"Digest":")" + image_.digest.to_string() + R"(","OS":"linux","Arch":"arm","Variant":"v7"})";
    EXPECT_EQ(image_manifest_key(*image, asked), codec::sha256_of(json));
    EXPECT_EQ(image_config_key(*image, asked), oci::chain_id(image->config.diff_ids));
    asked.layer_limit = 1;
    EXPECT_EQ(image_config_key(*image, asked), layers_[0].diff_id);
    EXPECT_EQ(source_->chain(*image, asked)->layers.size(), 1u);
}

TEST_F(ImageTest, RefusesWhatDoesNotFit) {
    ImageRequest asked = request();
    asked.checksum = codec::sha256_of("other");
    EXPECT_FALSE(source_->resolve(asked, nullptr, stop_));
    asked = request();
    asked.layer_limit = 9;
    EXPECT_FALSE(source_->resolve(asked, nullptr, stop_));
    // The config lies about what a layer unpacks to.
    std::vector<Packed> lying = layers_;
    lying[0].diff_id = codec::sha256_of("lie");
    origin_.names["reg.test/lie:1"] =
        origin_.add_image(lying, {oci::kOciLayerGzip, oci::kOciLayerZstd, oci::kOciLayer});
    asked = ImageRequest{.reference = *oci::Reference::parse_normalized("reg.test/lie:1"),
                         .platform = oci::host_platform()};
    const auto image = source_->resolve(asked, nullptr, stop_);
    ASSERT_TRUE(image);
    const auto chain = source_->chain(*image, asked);
    const auto done = source_->materialize(*chain, nullptr, stop_);
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code(), Code::data_loss);
    EXPECT_FALSE(store_->layer(chain->layers[0])->on_disk);
}

TEST_F(ImageTest, DamagedBlobsLeaveNothingBehind) {
    const auto image = source_->resolve(request(), nullptr, stop_);
    const auto chain = source_->chain(*image, request());
    std::string& blob = origin_.content[image->content.layers[2].digest];
    blob[600] = '!';
    const auto done = source_->materialize(chain->layers[2], nullptr, stop_);
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code(), Code::data_loss) << done.error().to_string();
    EXPECT_FALSE(store_->layer(chain->layers[2])->on_disk);
    EXPECT_FALSE(store_->blob_size(image->content.layers[2].digest)->has_value());
    blob[600] = '\0';
    ASSERT_EQ(codec::sha256_of(blob), image->content.layers[2].digest);
    const auto again = source_->materialize(chain->layers[2], nullptr, stop_);
    ASSERT_TRUE(again) << again.error().to_string();
    EXPECT_EQ(read(chain->layers[2], "c"), "plain");
}

TEST_F(ImageTest, ImpliedDirectoriesLookAsTheyDoBelow) {
    StringSink plain;
    codec::TarWriter tar(plain);
    codec::TarHeader tmp;
    tmp.name = "tmp";
    tmp.type = codec::TarType::directory;
    tmp.mode = 01777;
    tmp.uid = 5;
    ASSERT_TRUE(tar.write_header(tmp));
    ASSERT_TRUE(tar.finish());
    const Packed lower{plain.text, codec::sha256_of(plain.text)};
    const Packed upper = pack({{"tmp/file", "x"}, {"own/file", "y"}}, codec::Compression::gzip);
    origin_.names[kName] = origin_.add_image({lower, upper}, {oci::kOciLayer, oci::kOciLayerGzip});
    const auto image = source_->resolve(request(), nullptr, stop_);
    ASSERT_TRUE(image) << image.error().to_string();
    const auto chain = source_->chain(*image, request());
    const auto done = source_->materialize(*chain, nullptr, stop_);
    ASSERT_TRUE(done) << done.error().to_string();
    struct stat info{};
    ASSERT_EQ(stat((store_->layer_path(chain->layers[1]) + "/tmp").c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777u, 01777u);
    EXPECT_EQ(info.st_uid, 5u);
    ASSERT_EQ(stat((store_->layer_path(chain->layers[1]) + "/own").c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777u, 0755u);
}

TEST_F(ImageTest, ATagThatVanishedIsResolvedAgain) {
    const oci::Descriptor gone{
        .media_type = std::string(oci::kOciManifest), .digest = codec::sha256_of("gone"), .size = 4};
    ASSERT_TRUE(store_->set_fact("image:" + kName, oci::marshal_descriptor(gone)));
    const auto image = source_->resolve(request(), nullptr, stop_);
    ASSERT_TRUE(image) << image.error().to_string();
    EXPECT_EQ(image->target.digest, image_.digest);
}

TEST_F(ImageTest, ReadsAttributes) {
    const auto good = image_request("reg.test/app:1", oci::host_platform(),
                                    {{"image.resolvemode", "pull"}, {"image.layerlimit", "2"}});
    ASSERT_TRUE(good);
    EXPECT_EQ(good->mode, ImageResolve::pull);
    EXPECT_EQ(good->layer_limit, 2u);
    EXPECT_FALSE(image_request("app", oci::host_platform(), {}));
    EXPECT_FALSE(image_request("reg.test/app:1", oci::host_platform(), {{"image.layerlimit", "0"}}));
    EXPECT_FALSE(image_request("reg.test/app:1", oci::host_platform(), {{"image.resolvemode", "x"}}));
}

}  // namespace
}  // namespace cooper::source
