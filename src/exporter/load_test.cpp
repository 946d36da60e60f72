#include "exporter/load.hpp"

#include "codec/sha256.hpp"
#include "codec/tar.hpp"
#include "exporter/archive.hpp"
#include "exporter/test_support.hpp"
#include "oci/media_type.hpp"

#include <algorithm>

namespace cooper::exporter {
namespace {

class LoadTest : public StoreTest {
protected:
    Result<std::vector<LoadedImage>> load(std::string bytes) {
        return load_archive(*store_, std::make_unique<StringSource>(std::move(bytes)), oci::host_platform(),
                            LoadLimits{.max_members = 1000, .max_bytes = 64 << 20}, progress_, stop_);
    }

    std::string archive_of(const std::vector<ArchiveImage>& images, ArchiveFormat format) {
        Packer packer = this->packer();
        const sys::Fd out(::open(path("made.tar").c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
        EXPECT_TRUE(write_archive(packer, images, format, out.get(), progress_, stop_));
        return file_text(path("made.tar"));
    }

    PackedImage pack(LayerCompression compression) {
        Packer packer = this->packer();
        PackOptions options;
        options.compression = compression;
        auto packed = packer.pack(two_layers(), options, progress_, stop_);
        EXPECT_TRUE(packed);
        return *packed;
    }

    // Another, empty store.
    void forget() {
        store_.reset();
        std::filesystem::remove_all(path("state"));
        store_ = store::Store::open(path("state"), clock_).value();
    }

    struct Member {
        std::string name;
        std::string text;
        codec::TarType type = codec::TarType::file;
    };
    static std::string tar_of(const std::vector<Member>& members) {
        StringSink out;
        codec::TarWriter tar(out);
        for (const auto& member : members) {
            codec::TarHeader header;
            header.name = member.name;
            header.type = member.type;
            header.mode = 0644;
            if (member.type == codec::TarType::file) {
                header.size = member.text.size();
            } else {
                header.linkname = member.text;
            }
            EXPECT_TRUE(tar.write_header(header));
            EXPECT_TRUE(header.size == 0 || tar.write_body(as_bytes(member.text)));
        }
        EXPECT_TRUE(tar.finish());
        return out.text;
    }
    static std::string layer_tar(const std::string& text) { return tar_of({{"file", text}}); }
    static std::string config_of(const std::vector<std::string>& layers) {
        oci::ImageConfig config;
        config.platform = oci::host_platform();
        for (const auto& layer : layers) config.diff_ids.push_back(codec::sha256_of(layer));
        return oci::marshal_image_config(config);
    }
};

TEST_F(LoadTest, WhatWeWrote) {
    for (const auto compression : {LayerCompression::gzip, LayerCompression::none, LayerCompression::zstd}) {
        for (const auto format : {ArchiveFormat::oci, ArchiveFormat::docker}) {
            const PackedImage image = pack(compression);
            const std::string bytes = archive_of({{image, {"docker.io/library/app:v1", "localhost:5000/b:2"}}}, format);
            forget();
            const auto loaded = load(bytes);
            ASSERT_OK(loaded);
            ASSERT_EQ(loaded->size(), 1U);
            const LoadedImage& one = loaded->front();
            EXPECT_EQ(one.names, (std::vector<std::string>{"docker.io/library/app:v1", "localhost:5000/b:2"}));
            EXPECT_EQ(one.record.target.digest, image.manifest.digest);
            EXPECT_EQ(one.record.config, image.config.digest);
            ASSERT_EQ(one.record.chain.layers.size(), 2U);
            const auto layer = store_->layer(one.record.chain.layers[1]);
            EXPECT_FALSE(layer->on_disk);
            EXPECT_EQ(layer->info.diff_id, image.layers[1].diff_id);
            EXPECT_EQ(layer->lazy->blob.digest, image.layers[1].blob.digest);
            EXPECT_EQ(layer->lazy->reference, "");
            // It can go out again as it came in, without being unpacked.
            Packer packer = this->packer();
            const auto opened = packer.repack(one.record, PackOptions{}, progress_, stop_);
            ASSERT_OK(opened);
            EXPECT_EQ(opened->manifest_bytes, image.manifest_bytes);
            EXPECT_TRUE(archive_of({{*opened, one.names}}, format) == bytes);
            forget();
        }
    }
}

TEST_F(LoadTest, OldDockerSave) {
    const std::string first = layer_tar("one");
    const std::string second = layer_tar("two");
    const std::string config = config_of({first, second, first});
    const std::string list = R"([{"Config":"c.json","RepoTags":["app:v1","bad NAME"],)"
                             R"("Layers":["a/layer.tar","b/layer.tar","c/layer.tar"]}])";
    const auto loaded = load(tar_of({{"manifest.json", list},
                                     {"c/layer.tar", "../a/layer.tar", codec::TarType::symlink},
                                     {"a/layer.tar", first},
                                     {"b/layer.tar", second},
                                     {"a/VERSION", "1.0"},
                                     {"c.json", config},
                                     {"repositories", "{}"}}));
    ASSERT_OK(loaded);
    ASSERT_EQ(loaded->size(), 1U);
    EXPECT_EQ(loaded->front().names, std::vector<std::string>{"docker.io/library/app:v1"});
    EXPECT_EQ(loaded->front().record.config, codec::sha256_of(config));
    const auto& chain = loaded->front().record.chain.layers;
    ASSERT_EQ(chain.size(), 3U);
    EXPECT_EQ(chain[0], chain[2]);
    Packer packer = this->packer();
    const auto image = packer.open_image(loaded->front().record);
    ASSERT_OK(image);
    EXPECT_EQ(read_all(**packer.open_layer(image->layers[1], stop_), 1 << 20).value(), second);
}

TEST_F(LoadTest, CompressedArchive) {
    const PackedImage image = pack(LayerCompression::gzip);
    const std::string bytes = archive_of({{image, {}}}, ArchiveFormat::docker);
    StringSink gz;
    auto compressor = codec::make_compressor(gz, codec::Compression::gzip, codec::kDefaultLevel, 1);
    ASSERT_OK((*compressor)->write(as_bytes(bytes)));
    ASSERT_OK((*compressor)->finish());
    const auto loaded = load(gz.text);
    ASSERT_OK(loaded);
    EXPECT_TRUE(loaded->front().names.empty());
    EXPECT_FALSE(load(gz.text.substr(0, gz.text.size() / 2)));
}

TEST_F(LoadTest, HostileArchives) {
    const std::string layer = layer_tar("one");
    const std::string config = config_of({layer});
    const auto docker = [&](const std::string& list, const std::vector<Member>& more) {
        std::vector<Member> members = {{"manifest.json", list}};
        members.insert(members.end(), more.begin(), more.end());
        return load(tar_of(members));
    };
    const std::string list = R"([{"Config":"c.json","RepoTags":null,"Layers":["l.tar"]}])";
    EXPECT_TRUE(docker(list, {{"c.json", config}, {"./l.tar", layer}}));

    EXPECT_EQ(load("").error().code(), Code::invalid_argument);
    EXPECT_FALSE(load("no archive"));
    EXPECT_FALSE(load(tar_of({})));
    EXPECT_FALSE(docker("{}", {}));
    EXPECT_FALSE(docker("[1]", {}));
    EXPECT_FALSE(docker("[]", {}));
    EXPECT_FALSE(docker(R"([{"Config":1}])", {}));
    EXPECT_FALSE(docker(std::string(100'000, '['), {}));
    EXPECT_FALSE(docker(list, {{"c.json", config}}));
    EXPECT_FALSE(docker(list, {{"c.json", "{}"}, {"l.tar", layer}}));
    EXPECT_FALSE(docker(list, {{"c.json", config}, {"l.tar", "something else"}}));  // not that diff id
    // Links to themselves, out of the archive, to files of the machine.
    EXPECT_FALSE(docker(list, {{"c.json", config}, {"l.tar", "l.tar", codec::TarType::symlink}}));
    EXPECT_FALSE(docker(list, {{"c.json", config}, {"l.tar", "../../etc/passwd", codec::TarType::symlink}}));
    EXPECT_FALSE(docker(list, {{"c.json", "/etc/passwd", codec::TarType::hard_link}, {"l.tar", layer}}));
    EXPECT_FALSE(docker(R"([{"Config":"../../../etc/passwd","Layers":[]}])", {}));

    // A blob under another's name, a name that is no digest, a blob that the archive does not have but the store does.
    const std::string other = "blobs/sha256/" + codec::sha256_of(std::string("x")).hex();
    EXPECT_EQ(load(tar_of({{other, "y"}})).error().code(), Code::data_loss);
    EXPECT_FALSE(load(tar_of({{"blobs/sha256/../../x", "y"}})));
    EXPECT_FALSE(load(tar_of({{"blobs/sha256/zz", "y"}})));
    oci::Index index;
    index.media_type = oci::kOciIndex;
    index.manifests = {store_->put_blob("{}", std::string(oci::kOciManifest)).value()};
    const auto stolen = load(tar_of({{"index.json", oci::marshal_index(index)}}));
    ASSERT_FALSE(stolen);
    EXPECT_NE(stolen.error().to_string().find("is missing"), std::string::npos);

    // Too large, too many.
    EXPECT_FALSE(load_archive(*store_, std::make_unique<StringSource>(tar_of({{"a", std::string(2000, 'x')}})),
                              oci::host_platform(), LoadLimits{.max_bytes = 1000}, progress_, stop_));
    EXPECT_FALSE(load_archive(*store_, std::make_unique<StringSource>(tar_of({{"a", "1"}, {"b", "2"}, {"c", "3"}})),
                              oci::host_platform(), LoadLimits{.max_members = 2}, progress_, stop_));
}

TEST_F(LoadTest, OthersArchives) {
    if (!installed("skopeo")) GTEST_SKIP() << "skopeo is not installed";
    const PackedImage image = pack(LayerCompression::gzip);
    archive_of({{image, {"docker.io/library/app:v1"}}}, ArchiveFormat::oci);
    for (const std::string target : {"docker-archive:", "oci-archive:"}) {
        std::filesystem::remove(path("theirs.tar"));
        const auto copied = run({"skopeo", "copy", "--insecure-policy", "oci-archive:" + path("made.tar"),
                                 target + path("theirs.tar") + ":app:v2"});
        ASSERT_EQ(copied.status.code, 0) << copied.err;
        const auto loaded = load(file_text(path("theirs.tar")));
        ASSERT_OK(loaded);
        EXPECT_EQ(loaded->front().names, std::vector<std::string>{"docker.io/library/app:v2"});
        EXPECT_EQ(loaded->front().record.chain.layers.size(), 2U);
    }
}

}  // namespace
}  // namespace cooper::exporter
