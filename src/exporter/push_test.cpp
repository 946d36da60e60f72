// Against a real registry (distribution's docker-registry) on loopback; skipped when it is not installed.
#include "exporter/push.hpp"

#include "codec/sha256.hpp"
#include "exporter/test_support.hpp"
#include "oci/media_type.hpp"

#include <arpa/inet.h>
#include <csignal>
#include <netinet/in.h>
#include <sys/socket.h>

namespace cooper::exporter {
namespace {

constexpr const char* kProgram = "/usr/bin/docker-registry";

std::uint16_t free_port() {
    const sys::Fd probe(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(::bind(probe.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    socklen_t length = sizeof address;
    CHECK(::getsockname(probe.get(), reinterpret_cast<sockaddr*>(&address), &length) == 0);
    return ntohs(address.sin_port);
}

class Nobody final : public registry::CredentialSource {
public:
    Result<registry::Credential> find(const std::string& /*host*/, const Stop& /*stop*/) override {
        return registry::Credential{};
    }
};

class PushTest : public StoreTest {
protected:
    void SetUp() override {
        if (::access(kProgram, X_OK) != 0) GTEST_SKIP() << kProgram << " is not installed";
        StoreTest::SetUp();
        host_ = fmt::format("127.0.0.1:{}", free_port());
        std::ofstream(path("config.yml"))
            << "version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: " << path("data")
            << "}}\nhttp: {addr: '" << host_ << "'}\n";
        sys::SpawnSpec spec;
        spec.program = kProgram;
        spec.args = {kProgram, "serve", path("config.yml")};
        auto child = sys::Child::spawn(spec);
        ASSERT_OK(child);
        child_ = std::move(*child);
        const http::RetryPolicy patient{
            .attempts = 100, .first_delay = std::chrono::milliseconds(50), .max_delay = std::chrono::milliseconds(200)};
        ASSERT_OK(client_.send_with_retry(http::Request{.url = "http://" + host_ + "/v2/"}, patient, stop_));
        registry_ = std::make_unique<registry::Registry>(registry::RegistryConfig{}, nobody_, client_,
                                                         http::RetryPolicy{.attempts = 2});
    }

    [[nodiscard]] oci::Reference reference(const std::string& name) const {
        return oci::Reference::parse_untagged(host_ + "/" + name).value();
    }

    std::string host_;
    sys::Child child_;
    http::Client client_{http::ClientOptions{.user_agent = "cooper-test"}};
    Nobody nobody_;
    std::unique_ptr<registry::Registry> registry_;
};

TEST_F(PushTest, UnderSeveralNames) {
    Packer packer = this->packer();
    const auto image = packer.pack(two_layers(), PackOptions{}, progress_, stop_);
    ASSERT_OK(image);
    const std::vector<oci::Reference> names = {reference("team/app:v1"), reference("team/app:v2"),
                                               reference("other:v1")};
    ASSERT_OK(push_image(packer, *registry_, *image, names, PushName::tag, progress_, stop_));
    for (const auto& name : names) {
        const auto resolved = registry_->resolve(name, stop_);
        ASSERT_OK(resolved);
        EXPECT_EQ(resolved->digest, image->manifest.digest);
    }
    ASSERT_OK(push_image(packer, *registry_, *image, names, PushName::tag, progress_, stop_));
    const auto by_digest =
        push_image(packer, *registry_, *image, {reference("by/digest")}, PushName::digest, progress_, stop_);
    ASSERT_OK(by_digest);
    EXPECT_EQ(registry_->resolve(reference("by/digest").with_digest(image->manifest.digest), stop_)->digest,
              image->manifest.digest);
    EXPECT_FALSE(push_image(packer, *registry_, *image, {names[0]}, PushName::digest, progress_, stop_));

    if (!installed("skopeo")) GTEST_SKIP() << "skopeo is not installed";
    const auto inspected = run({"skopeo", "inspect", "--tls-verify=false", "docker://" + names[2].canonical()});
    EXPECT_EQ(inspected.status.code, 0) << inspected.err;
}

TEST_F(PushTest, VirtualAndPulledLayers) {
    Packer packer = this->packer();
    ImageResult image = two_layers();
    const std::string tar(10'240, '\0');
    oci::Descriptor blob;
    blob.media_type = oci::kOciLayer;
    blob.digest = codec::sha256_of(tar);
    blob.size = tar.size();
    remote_[blob.digest] = tar;
    const auto lazy = store_->add_lazy_layer(blob.digest, {.blob = blob, .reference = "example.com/base:1"});
    ASSERT_OK(lazy);
    image.chain.layers.insert(image.chain.layers.begin(), *lazy);
    PackOptions options;
    options.compression = LayerCompression::none;
    const auto packed = packer.pack(image, options, progress_, stop_);
    ASSERT_OK(packed);
    const oci::Reference name = reference("virtual:v1");
    ASSERT_OK(push_image(packer, *registry_, *packed, {name}, PushName::tag, progress_, stop_));
    EXPECT_EQ(fetched_, std::vector<std::string>{"example.com/base:1"});
    const auto source = registry_->fetch_blob_verified(name, packed->layers[2].blob, stop_);
    ASSERT_OK(source);
    EXPECT_EQ(codec::sha256_of(read_all(**source, 8 << 20).value()), packed->layers[2].diff_id);

    // From a repository of the same registry nothing is read.
    fetched_.clear();
    PackedImage mounted = *packed;
    mounted.layers[0].reference = name.canonical();
    registry::Registry forgetful(registry::RegistryConfig{}, nobody_, client_, http::RetryPolicy{.attempts = 2});
    ASSERT_OK(push_image(packer, forgetful, mounted, {reference("second:v1")}, PushName::tag, progress_, stop_));
    EXPECT_TRUE(fetched_.empty());

    remote_[blob.digest] = "something else";
    registry::Registry third(registry::RegistryConfig{}, nobody_, client_, http::RetryPolicy{.attempts = 1});
    PackedImage lie = *packed;
    lie.layers[0].blob.digest = codec::sha256_of(std::string("never pushed"));
    remote_[lie.layers[0].blob.digest] = std::string(10'240, 'y');
    EXPECT_FALSE(push_image(packer, third, lie, {reference("third:v1")}, PushName::tag, progress_, stop_));
}

}  // namespace
}  // namespace cooper::exporter
