#include "codec/pipeline.hpp"
#include "codec/sha256.hpp"
#include "exporter/archive.hpp"
#include "exporter/file_tree.hpp"
#include "exporter/image_history.hpp"
#include "exporter/index.hpp"
#include "exporter/options.hpp"
#include "exporter/test_support.hpp"
#include "oci/media_type.hpp"
#include "snapshot/chain_view.hpp"

#include <algorithm>

namespace cooper::exporter {
namespace {

std::string all_of(Packer& packer, const PackedLayer& layer) {
    auto source = packer.open_layer(layer, Stop());
    EXPECT_TRUE(source);
    auto text = read_all(**source, 64 << 20);
    EXPECT_TRUE(text) << text.error().to_string();
    return text.value_or("");
}

class PackerTest : public StoreTest {
protected:
    std::string archive_of(const PackedImage& image, ArchiveFormat format, const std::string& name) {
        Packer packer = this->packer();
        const sys::Fd out(::open(path(name).c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
        const auto written =
            write_archive(packer, {{image, {"docker.io/library/app:v1"}}}, format, out.get(), progress_, stop_);
        EXPECT_TRUE(written) << written.error().to_string();
        return path(name);
    }
};

TEST_F(PackerTest, CompressesOnceAndRemembers) {
    Packer packer = this->packer();
    const ImageResult image = two_layers();
    const auto first = packer.pack(image, PackOptions{}, progress_, stop_);
    ASSERT_OK(first);
    ASSERT_EQ(first->layers.size(), 2U);
    EXPECT_EQ(first->layers[0].blob.media_type, oci::kOciLayerGzip);
    EXPECT_NE(first->layers[0].blob.digest, first->layers[0].diff_id);
    EXPECT_EQ(store_->blob_size(first->layers[1].blob.digest).value(), first->layers[1].blob.size);
    const auto config = oci::parse_image_config(first->config_bytes);
    ASSERT_OK(config);
    EXPECT_EQ(config->diff_ids, (std::vector<Digest>{first->layers[0].diff_id, first->layers[1].diff_id}));
    EXPECT_TRUE(std::ranges::all_of(config->history, [](const auto& entry) { return entry.created.has_value(); }));
    EXPECT_EQ(store_->layer(image.chain.layers[0])->info.diff_id, first->layers[0].diff_id);

    const auto second = packer.pack(image, PackOptions{}, progress_, stop_);
    ASSERT_OK(second);
    EXPECT_EQ(first->manifest_bytes, second->manifest_bytes);
    // The content of the blob is the tar of that diff id.
    auto plain = codec::decompress_any(packer.open_layer(first->layers[1], stop_).value());
    ASSERT_OK(plain);
    EXPECT_EQ(codec::sha256_of(read_all(*plain->source, 64 << 20).value()), first->layers[1].diff_id);
}

TEST_F(PackerTest, UncompressedLayersAreNotStored) {
    Packer packer = this->packer();
    const ImageResult image = two_layers();
    PackOptions lazily;
    lazily.compression = LayerCompression::none;
    const auto packed = packer.pack(image, lazily, progress_, stop_);
    ASSERT_OK(packed);
    for (const auto& layer : packed->layers) {
        EXPECT_EQ(layer.blob.digest, layer.diff_id);
        EXPECT_EQ(layer.blob.media_type, oci::kOciLayer);
        EXPECT_FALSE(store_->blob_size(layer.blob.digest).value());
        const std::string tar = all_of(packer, layer);
        EXPECT_EQ(tar.size(), layer.blob.size);
        EXPECT_EQ(codec::sha256_of(tar), layer.diff_id);
    }
    // Reading may stop anywhere.
    std::byte some[10];
    EXPECT_TRUE((*packer.open_layer(packed->layers[1], stop_))->read(some));

    // The image id stays when it is packed for the world.
    store::ImageRecord record = Packer::record_of(*packed);
    record.name = "docker.io/library/app:v1";
    ASSERT_OK(store_->put_image(record, Packer::blobs_of(*packed)));
    EXPECT_EQ(packer.open_image(record)->manifest_bytes, packed->manifest_bytes);
    const auto repacked = packer.repack(record, PackOptions{}, progress_, stop_);
    ASSERT_OK(repacked);
    EXPECT_EQ(repacked->config.digest, packed->config.digest);
    EXPECT_EQ(repacked->layers[0].blob.media_type, oci::kOciLayerGzip);
    const auto direct = packer.pack(image, PackOptions{}, progress_, stop_);
    EXPECT_EQ(repacked->manifest_bytes, direct->manifest_bytes);

    // A layer whose directory is not what it was is noticed.
    std::ofstream(store_->layer_path(image.chain.layers[0]) + "/etc/os") << "two";
    const auto changed = read_all(**packer.open_layer(packed->layers[0], stop_), 64 << 20);
    ASSERT_FALSE(changed);
    EXPECT_EQ(changed.error().code(), Code::data_loss);
    StringSink out;
    EXPECT_FALSE(packer.write_layer(packed->layers[0], out, stop_));
}

TEST_F(PackerTest, PulledLayersKeepTheirBlob) {
    Packer packer = this->packer();
    const std::string tar(10'240, '\0');
    StringSink gz;
    auto compressor = codec::make_compressor(gz, codec::Compression::gzip, 9, 1);
    ASSERT_OK((*compressor)->write(as_bytes(tar)));
    ASSERT_OK((*compressor)->finish());
    oci::Descriptor blob;
    blob.media_type = oci::kDockerLayerGzip;
    blob.digest = codec::sha256_of(gz.text);
    blob.size = gz.text.size();
    remote_[blob.digest] = gz.text;
    ImageResult image = two_layers();
    const auto lazy = store_->add_lazy_layer(codec::sha256_of(tar), {.blob = blob, .reference = "example.com/base:1"});
    ASSERT_OK(lazy);
    image.chain.layers.insert(image.chain.layers.begin(), *lazy);
    image.config.history.insert(image.config.history.begin(), {.created_by = "pulled"});

    PackOptions zstd;
    zstd.compression = LayerCompression::zstd;
    auto packed = packer.pack(image, zstd, progress_, stop_);
    ASSERT_OK(packed);
    EXPECT_EQ(packed->layers[0].blob.digest, blob.digest);
    EXPECT_EQ(packed->layers[0].blob.media_type, oci::kOciLayerGzip);
    EXPECT_EQ(packed->layers[1].blob.media_type, oci::kOciLayerZstd);
    EXPECT_TRUE(fetched_.empty());
    EXPECT_EQ(all_of(packer, packed->layers[0]), gz.text);
    EXPECT_EQ(fetched_, std::vector<std::string>{"example.com/base:1"});

    zstd.force_compression = true;
    packed = packer.pack(image, zstd, progress_, stop_);
    ASSERT_OK(packed);
    EXPECT_EQ(packed->layers[0].blob.media_type, oci::kOciLayerZstd);
    EXPECT_EQ(packed->layers[0].diff_id, codec::sha256_of(tar));
    EXPECT_TRUE(materialized_.empty());

    // Docker's words, and what the registry gives must be what was promised.
    PackOptions docker;
    docker.oci_media_types = false;
    packed = packer.pack(image, docker, progress_, stop_);
    ASSERT_OK(packed);
    EXPECT_EQ(packed->manifest.media_type, oci::kDockerManifest);
    EXPECT_EQ(packed->layers[0].blob.media_type, oci::kDockerLayerGzip);
    EXPECT_EQ(packed->layers[1].blob.media_type, oci::kDockerLayerGzip);
    remote_[blob.digest] += "more";
    EXPECT_FALSE(read_all(**packer.open_layer(packed->layers[0], stop_), 1 << 20));
}

TEST_F(PackerTest, RewritesTimestamps) {
    Packer packer = this->packer();
    ImageResult image = two_layers();
    image.epoch_seconds = 1'600'000'000;
    image.base = oci::ImageConfig{};
    image.base->diff_ids = {Digest{}};
    image.base->history = {};
    PackOptions options;
    const auto plain = packer.pack(image, options, progress_, stop_);
    ASSERT_OK(plain);
    options.rewrite_timestamp = true;
    const auto rewritten = packer.pack(image, options, progress_, stop_);
    ASSERT_OK(rewritten);
    EXPECT_EQ(rewritten->layers[0].diff_id, plain->layers[0].diff_id);  // of the base
    EXPECT_NE(rewritten->layers[1].diff_id, plain->layers[1].diff_id);
    EXPECT_EQ(store_->layer(image.chain.layers[1])->info.diff_id, plain->layers[1].diff_id);
    options.compression = LayerCompression::none;
    const auto uncompressed = packer.pack(image, options, progress_, stop_);
    ASSERT_OK(uncompressed);
    EXPECT_EQ(codec::sha256_of(all_of(packer, uncompressed->layers[1])), rewritten->layers[1].diff_id);
    EXPECT_EQ(oci::parse_image_config(plain->config_bytes)->created, "2020-09-13T12:26:40Z");
}

TEST_F(PackerTest, IndexOverPlatforms) {
    Packer packer = this->packer();
    PackOptions lazily;
    lazily.compression = LayerCompression::none;
    const auto of = [&](const std::string& architecture, const PackOptions& options) {
        ImageResult image;
        image.chain.layers = {make_layer({{"a", architecture}}, "COPY a")};
        image.config.platform = {.os = "linux", .architecture = architecture};
        image.config.history = {{.created_by = "COPY a"}};
        image.epoch_seconds = 1'600'000'000;
        PackedImage packed = packer.pack(image, options, progress_, stop_).value();
        packed.manifest.platform = image.config.platform;
        return packed;
    };
    const std::vector<PackedImage> images = {of("s390x", lazily), of("arm64", lazily)};
    const IndexOptions options{.annotations = {{"k", "v"}}, .descriptor_annotations = {{"d", "e"}}};
    const auto packed = pack_index(*store_, images, {}, options, progress_);
    ASSERT_OK(packed);
    EXPECT_EQ(packed->target().media_type, oci::kOciIndex);
    EXPECT_EQ(packed->target().annotations.at("d"), "e");
    EXPECT_EQ(packed->target().digest, codec::sha256_of(packed->index_bytes));
    EXPECT_EQ(pack_index(*store_, images, {}, options, progress_)->index_bytes, packed->index_bytes);
    const auto index = oci::parse_index(packed->index_bytes, packed->target().media_type);
    ASSERT_OK(index);
    EXPECT_EQ(index->annotations.at("k"), "v");
    ASSERT_EQ(index->manifests.size(), 2U);
    EXPECT_EQ(index->manifests[1].platform->architecture, "arm64");
    EXPECT_EQ(index->manifests[1].digest, images[1].manifest.digest);
    EXPECT_EQ(pack_index(*store_, images, {}, {.oci_media_types = false}, progress_)->target().media_type,
              oci::kDockerIndex);

    // Two of one platform, none, and one without are refused.
    EXPECT_FALSE(pack_index(*store_, {images[0], images[0]}, {}, options, progress_));
    EXPECT_FALSE(pack_index(*store_, {}, {}, options, progress_));
    PackedImage nameless = images[0];
    nameless.manifest.platform.reset();
    EXPECT_FALSE(pack_index(*store_, {nameless}, {}, options, progress_));

    // Kept with all its layers, found again, and packed for the world.
    store::ImageRecord record = record_of(*packed);
    record.name = "docker.io/library/two:1";
    ASSERT_EQ(record.others.size(), 1U);
    ASSERT_OK(store_->put_image(record, blobs_of(*packed)));
    ASSERT_OK(store_->prune({.all = true}));
    auto kept = store_->find_image(record.name);
    ASSERT_OK(kept);
    EXPECT_EQ((*kept)->others, record.others);
    const auto opened = open_result(packer, **kept);
    ASSERT_OK(opened);
    EXPECT_EQ(opened->index_bytes, packed->index_bytes);
    EXPECT_EQ(opened->images[1].manifest_bytes, images[1].manifest_bytes);
    const auto repacked = repack_result(packer, **kept, PackOptions{}, progress_, stop_);
    ASSERT_OK(repacked);
    EXPECT_NE(repacked->target().digest, packed->target().digest);
    EXPECT_EQ(repacked->images[0].layers[0].blob.media_type, oci::kOciLayerGzip);
    EXPECT_EQ(repacked->images[0].manifest.platform, images[0].manifest.platform);
    EXPECT_EQ(oci::parse_index(repacked->index_bytes, "")->annotations.at("k"), "v");

    // When a part is gone the rest is still an image.
    (*kept)->others.clear();
    EXPECT_FALSE(open_result(packer, **kept)->index);
}

TEST_F(PackerTest, EmptyLayersAndScratch) {
    Packer packer = this->packer();
    ImageResult image;
    auto packed = packer.pack(image, PackOptions{}, progress_, stop_);
    ASSERT_OK(packed);
    EXPECT_TRUE(packed->layers.empty());
    EXPECT_EQ(oci::parse_image_config(packed->config_bytes)->config.working_dir, "/");

    const auto empty = make_layer({}, "RUN true");
    image.chain.layers = {empty, make_layer({{"a", "1"}}, "COPY a")};
    image.config.history = {{.created_by = "RUN true"}};
    packed = packer.pack(image, PackOptions{}, progress_, stop_);
    ASSERT_OK(packed);
    const auto config = oci::parse_image_config(packed->config_bytes);
    EXPECT_EQ(packed->layers.size(), 2U);
    ASSERT_EQ(config->history.size(), 2U);
    EXPECT_EQ(config->history[1].created_by, "COPY a");
    EXPECT_EQ(config->history[1].comment, "buildkit.exporter.image.v0");
    EXPECT_EQ(packed->layers[0].diff_id, codec::sha256_of(std::string(1024, '\0')));

    const Stop none;
    image.chain.layers.push_back(999);
    EXPECT_EQ(packer.pack(image, PackOptions{}, progress_, none).error().code(), Code::not_found);
}

TEST_F(PackerTest, ArchivesAreReadByOthers) {
    Packer packer = this->packer();
    const ImageResult image = two_layers();
    for (const auto compression : {LayerCompression::gzip, LayerCompression::none, LayerCompression::zstd}) {
        PackOptions options;
        options.compression = compression;
        const auto packed = packer.pack(image, options, progress_, stop_);
        ASSERT_OK(packed);
        const std::string oci_tar = archive_of(*packed, ArchiveFormat::oci, "oci.tar");
        const std::string docker_tar = archive_of(*packed, ArchiveFormat::docker, "docker.tar");
        EXPECT_EQ(file_text(oci_tar), file_text(archive_of(*packed, ArchiveFormat::oci, "again.tar")));
        if (!installed("skopeo") || !installed("umoci")) GTEST_SKIP() << "skopeo or umoci is not installed";
        const auto inspected = run({"skopeo", "inspect", "oci-archive:" + oci_tar});
        EXPECT_EQ(inspected.status.code, 0) << inspected.err;
        EXPECT_NE(inspected.out.find(packed->manifest.digest.to_string()), std::string::npos) << inspected.out;
        const auto docker = run({"skopeo", "inspect", "--config", "docker-archive:" + docker_tar});
        EXPECT_EQ(docker.status.code, 0) << docker.err;
        const std::string layout = path("layout");
        const auto copied =
            run({"skopeo", "copy", "--insecure-policy", "docker-archive:" + docker_tar, "oci:" + layout + ":latest"});
        EXPECT_EQ(copied.status.code, 0) << copied.err;
        const auto unpacked = run({"umoci", "unpack", "--image", layout + ":latest", path("bundle")});
        EXPECT_EQ(unpacked.status.code, 0) << unpacked.err;
        const std::string rootfs = path("bundle/rootfs");
        EXPECT_EQ(file_text(rootfs + "/link"), "#!tool\n");
        EXPECT_EQ(file_text(rootfs + "/new/file").size(), 300'000U);
        EXPECT_FALSE(std::filesystem::exists(rootfs + "/etc/os"));
        std::filesystem::remove_all(path("bundle"));
        std::filesystem::remove_all(layout);
    }
}

TEST_F(PackerTest, LayoutDirectory) {
    Packer packer = this->packer();
    const auto packed = packer.pack(two_layers(), PackOptions{}, progress_, stop_);
    ASSERT_OK(packed);
    std::filesystem::create_directory(path("layout"));
    // Links in the destination are not followed outside.
    std::filesystem::create_symlink("/", path("layout/blobs"));
    const auto dest = sys::RootedDir::open_host(path("layout"));
    EXPECT_FALSE(std::filesystem::exists("/sha256"));
    auto written =
        write_layout(packer, {{*packed, {"docker.io/library/app:v1"}}}, ArchiveFormat::oci, *dest, progress_, stop_);
    EXPECT_FALSE(std::filesystem::exists("/sha256"));
    std::filesystem::remove_all(path("layout"));
    std::filesystem::create_directory(path("layout"));
    for (int i = 0; i < 2; ++i) {
        written = write_layout(packer, {{*packed, {"docker.io/library/app:v1"}}}, ArchiveFormat::oci,
                               *sys::RootedDir::open_host(path("layout")), progress_, stop_);
        ASSERT_OK(written);
    }
    if (!installed("skopeo")) GTEST_SKIP() << "skopeo is not installed";
    const auto inspected = run({"skopeo", "inspect", "oci:" + path("layout") + ":v1"});
    EXPECT_EQ(inspected.status.code, 0) << inspected.err;
}

class FileTreeTest : public PackerTest {
protected:
    snapshot::TreeRef tree_of(const store::Chain& chain) {
        std::vector<std::pair<std::int64_t, std::string>> paths;
        for (const auto id : chain.layers) paths.emplace_back(id, store_->layer_path(id));
        auto view =
            snapshot::ChainView::create(snapshot::open_layers(paths).value(), snapshot::ChainView::TopLayer::committed);
        EXPECT_TRUE(view);
        return *view;
    }
};

TEST_F(FileTreeTest, LocalMergesAndNeverFollowsLinks) {
    ImageResult image = two_layers();
    const auto third = make_layer({{"data/a", "linked"}, {"data/sub/", ""}}, "links");
    const std::string layer = store_->layer_path(third);
    ASSERT_EQ(::link((layer + "/data/a").c_str(), (layer + "/data/b").c_str()), 0);
    ::chmod((layer + "/data/sub").c_str(), 0500);
    image.chain.layers.push_back(third);

    std::filesystem::create_directories(path("out/etc"));
    std::filesystem::create_directories(path("outside"));
    std::ofstream(path("out/etc/mine")) << "kept";
    std::ofstream(path("outside/file")) << "safe";
    std::filesystem::create_symlink(path("outside"), path("out/new"));  // a link where a directory goes
    std::filesystem::create_symlink(path("outside/file"), path("out/link"));
    std::filesystem::create_directories(path("out/data/a/deep"));  // a directory where a file goes
    const auto dest = sys::RootedDir::open_host(path("out"));
    for (int i = 0; i < 2; ++i) {
        const auto stats = export_local(*tree_of(image.chain), *dest, FileTreeOptions{}, progress_, stop_);
        ASSERT_OK(stats);
        EXPECT_EQ(stats->skipped, 0U);
    }
    EXPECT_EQ(file_text(path("out/etc/mine")), "kept");
    EXPECT_EQ(file_text(path("outside/file")), "safe");
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(path("outside")), {}), 1);
    EXPECT_EQ(std::filesystem::read_symlink(path("out/link")), "bin/tool");
    EXPECT_EQ(file_text(path("out/new/file")).size(), 300'000U);
    EXPECT_FALSE(std::filesystem::exists(path("out/etc/os")));
    EXPECT_EQ(std::filesystem::hard_link_count(path("out/data/a")), 2U);
    struct stat st{};
    ASSERT_EQ(::stat(path("out/bin/tool").c_str(), &st), 0);
    EXPECT_EQ(st.st_mtim.tv_sec, 1'700'000'100);
    ASSERT_EQ(::stat(path("out/data/sub").c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 07777, 0500U);
}

TEST_F(FileTreeTest, TarIsReadByTar) {
    const ImageResult image = two_layers();
    std::string first;
    for (int i = 0; i < 2; ++i) {
        const sys::Fd out(::open(path("root.tar").c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
        ASSERT_OK(export_tar(*tree_of(image.chain), out.get(), FileTreeOptions{.epoch_seconds = 77}, progress_, stop_));
        const std::string text = file_text(path("root.tar"));
        EXPECT_TRUE(i == 0 || first == text);
        first = text;
    }
    const auto listed = run({"tar", "tf", path("root.tar")});
    EXPECT_EQ(listed.status.code, 0);
    EXPECT_EQ(listed.out, "bin/\nbin/tool\netc/\nlink\nnew/\nnew/file\n");
}

TEST(History, FollowsBuildKit) {
    oci::ImageConfig base;
    base.history = {{.created = "2030-01-01T00:00:00Z", .created_by = "base"}};
    oci::ImageConfig config;
    config.history = {
        base.history[0], {.created_by = "ENV", .empty_layer = true}, {.created_by = "RUN"}, {.created_by = "lost"}};
    const Timestamp when{std::chrono::seconds(1'700'000'000)};
    fill_history(config, {{"l0", when}, {"l1", when}}, base, std::nullopt);
    EXPECT_EQ(config.history[1].created, "2023-11-14T22:13:20Z");
    EXPECT_EQ(config.history[2].created, "2023-11-14T22:13:20Z");
    EXPECT_TRUE(config.history[3].empty_layer);
    EXPECT_EQ(config.created, "2023-11-14T22:13:20Z");
    fill_history(config, {{"l0", when}, {"l1", when}}, base, 1'000'000'000);
    EXPECT_EQ(config.history[0].created, "2030-01-01T00:00:00Z");
    EXPECT_EQ(config.history[2].created, "2001-09-09T01:46:40Z");
    EXPECT_EQ(config.created, "2001-09-09T01:46:40Z");
}

std::string error_of(std::string_view type, const std::map<std::string, std::string>& attrs) {
    const auto options = parse_export_options(type, attrs, "", {}, UnknownAttribute::refuse);
    return options ? "" : options.error().to_string();
}

TEST(Options, AsBuildKitNamesThem) {
    const auto image = parse_export_options("image",
                                            {{"name", "app,localhost:5000/x/y:2"},
                                             {"push", ""},
                                             {"compression", "zstd"},
                                             {"compression-level", "9"},
                                             {"annotation.a.b", "c"},
                                             {"annotation-manifest-descriptor.d", "e"}},
                                            "", {"app:latest", "other"}, UnknownAttribute::refuse);
    ASSERT_OK(image);
    EXPECT_EQ(image->names, (std::vector<std::string>{"docker.io/library/app:latest", "localhost:5000/x/y:2",
                                                      "docker.io/library/other:latest"}));
    EXPECT_TRUE(image->push);
    EXPECT_EQ(image->pack.compression, LayerCompression::zstd);
    EXPECT_EQ(image->pack.level, 9);
    EXPECT_EQ(image->pack.annotations.at("a.b"), "c");
    EXPECT_EQ(image->pack.descriptor_annotations.at("d"), "e");
    EXPECT_TRUE(parse_export_options("registry", {}, "", {}, UnknownAttribute::refuse)->push);
    EXPECT_FALSE(parse_export_options("oci", {{"tar", "false"}}, "dir", {}, UnknownAttribute::refuse)->tar);

    const auto kept = parse_export_options("image", {{"containerimage.config", "{}"}, {"dangling-name-prefix", "tmp"}},
                                           "", {}, UnknownAttribute::keep);
    ASSERT_OK(kept);
    EXPECT_EQ(kept->metadata.at("containerimage.config"), "{}");
    EXPECT_EQ(kept->dangling_prefix, "docker.io/library/tmp");
    EXPECT_TRUE(parse_export_options("local", {{"anything", ""}, {"mode", "delete"}}, "dir", {}, UnknownAttribute::keep)
                    ->delete_others);
    EXPECT_NE(error_of("local", {{"mode", "move"}, {"dest", "x"}}), "");
    EXPECT_NE(error_of("image", {{"compression", "estargz"}, {"oci-mediatypes", "false"}}), "");
    EXPECT_NE(error_of("image", {{"prefer-nondist-layers", ""}}), "");
    EXPECT_EQ(error_of("image", {{"name-canonical", ""}, {"danging-name-empty-only", ""}}), "");

    EXPECT_NE(error_of("image", {{"compresion", "gzip"}}).find("did you mean compression?"), std::string::npos);
    EXPECT_NE(error_of("ocii", {}).find("did you mean oci?"), std::string::npos);
    EXPECT_NE(error_of("image", {{"compression", "zst"}}).find("did you mean zstd?"), std::string::npos);
    EXPECT_NE(error_of("image", {{"compression", "zstd"}, {"oci-mediatypes", "false"}}), "");
    EXPECT_NE(error_of("image", {{"oci-mediatypes", ""}}), "");
    EXPECT_NE(error_of("image", {{"push", "maybe"}}), "");
    EXPECT_NE(error_of("image", {{"name", "UPPER"}}), "");
    EXPECT_NE(error_of("image", {{"name", "a:b"}, {"push-by-digest", "true"}}), "");
    EXPECT_NE(error_of("image", {{"compression-level", "x"}}), "");
    EXPECT_NE(error_of("image", {{"annotation-index[linux/arm64].a", "x"}}), "");
    EXPECT_NE(error_of("image", {{"annotation[linux/arm64.a", "x"}}), "");
    EXPECT_NE(error_of("image", {{"annotation[linux/arm64]a", "x"}}), "");
    EXPECT_NE(error_of("image", {{"annotation[plan nine].a", "x"}}), "");
    EXPECT_NE(error_of("local", {}), "");
    EXPECT_NE(error_of("local", {{"push", "true"}}), "");
    EXPECT_NE(error_of("oci", {{"tar", "false"}}), "");
    EXPECT_NE(error_of("tar", {{"source-date-epoch", "-1"}}), "");
}

}  // namespace
}  // namespace cooper::exporter
