#include "source/oci_layout.hpp"

#include "codec/sha256.hpp"
#include "oci/media_type.hpp"
#include "sys/temp_dir.hpp"

#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>

namespace cooper::source {
namespace {

class LayoutTest : public ::testing::Test {
protected:
    void SetUp() override {
        dir_ = std::move(*sys::TempDir::create(::testing::TempDir(), "layout"));
        std::filesystem::create_directories(dir_.path() + "/blobs/sha256");
        write("oci-layout", R"({"imageLayoutVersion":"1.0.0"})");
        // The smallest tar: two zero blocks.
        const std::string tar(1024, '\0');
        oci::ImageConfig config;
        config.platform = oci::host_platform();
        config.diff_ids = {codec::sha256_of(tar)};
        oci::Manifest manifest;
        manifest.media_type = oci::kOciManifest;
        manifest.layers = {add(tar, oci::kOciLayer)};
        manifest.config = add(oci::marshal_image_config(config), oci::kOciConfig);
        image_ = add(oci::marshal_manifest(manifest), oci::kOciManifest);
        oci::Index index;
        index.manifests = {image_};
        index.manifests[0].annotations["org.opencontainers.image.ref.name"] = "v1";
        write("index.json", oci::marshal_index(index));
    }
    void write(const std::string& name, const std::string& text) const {
        std::ofstream(dir_.path() + "/" + name, std::ios::binary) << text;
    }
    oci::Descriptor add(const std::string& bytes, std::string_view type) const {
        const Digest digest = codec::sha256_of(bytes);
        write("blobs/sha256/" + digest.hex(), bytes);
        return oci::Descriptor{.media_type = std::string(type), .digest = digest, .size = bytes.size()};
    }
    static oci::Reference name(const std::string& text) { return *oci::Reference::parse_normalized(text); }
    sys::TempDir dir_;
    oci::Descriptor image_;
    Stop stop_;
};

TEST_F(LayoutTest, ResolvesTagsAndDigests) {
    auto layout = OciLayoutOrigin::open(dir_.path());
    ASSERT_TRUE(layout) << layout.error().to_string();
    EXPECT_EQ(layout->resolve(name("any:v1"), stop_)->digest, image_.digest);
    EXPECT_EQ(layout->resolve(name("any"), stop_)->digest, image_.digest);
    EXPECT_EQ(layout->resolve(name("any@" + image_.digest.to_string()), stop_)->media_type, oci::kOciManifest);
    EXPECT_EQ(layout->resolve(name("any:v2"), stop_).error().code(), Code::not_found);
    EXPECT_EQ(layout->resolve(name("any@" + codec::sha256_of("x").to_string()), stop_).error().code(), Code::not_found);
}

TEST_F(LayoutTest, ImportsIntoTheStoreAndNeedsTheDirectoryNoMore) {
    SystemClock clock;
    const auto state = sys::TempDir::create(::testing::TempDir(), "state");
    const auto store = store::Store::open(state->path(), clock);
    ASSERT_TRUE(store);
    auto layout = OciLayoutOrigin::open(dir_.path());
    ImageSource source(**store, *layout, layer::ApplyLimits{}, 1);
    const ImageRequest request{.reference = name("store:v1"), .platform = oci::host_platform()};
    const auto image = source.import(request, *layout, nullptr, stop_);
    ASSERT_TRUE(image) << image.error().to_string();
    const auto chain = source.chain(*image, request);
    ASSERT_TRUE(chain);
    std::filesystem::remove_all(dir_.path() + "/blobs");
    const auto done = source.materialize(*chain, nullptr, stop_);
    ASSERT_TRUE(done) << done.error().to_string();
}

TEST_F(LayoutTest, RefusesOtherDirectoriesAndWrongBytes) {
    write("blobs/sha256/" + image_.digest.hex(), "changed");
    auto layout = OciLayoutOrigin::open(dir_.path());
    EXPECT_EQ(layout->fetch_manifest(name("x"), image_.digest, stop_).error().code(), Code::data_loss);
    write("oci-layout", R"({"imageLayoutVersion":"9"})");
    EXPECT_FALSE(OciLayoutOrigin::open(dir_.path()));
    write("oci-layout", "[]");
    EXPECT_FALSE(OciLayoutOrigin::open(dir_.path()));
    std::filesystem::remove(dir_.path() + "/oci-layout");
    EXPECT_FALSE(OciLayoutOrigin::open(dir_.path()));
}

}  // namespace
}  // namespace cooper::source
