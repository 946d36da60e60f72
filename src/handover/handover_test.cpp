#include "base/text.hpp"
#include "codec/base64.hpp"
#include "codec/sha256.hpp"
#include "codec/wire.hpp"
#include "exporter/test_support.hpp"
#include "handover/containerd.hpp"
#include "handover/json_api.hpp"
#include "handover/loopback_registry.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <mutex>
#include <netinet/in.h>
#include <nlohmann/json.hpp>
#include <sys/socket.h>

namespace cooper::handover {
namespace {

using codec::WireReader;
using codec::WireWriter;
using Metadata = std::vector<std::pair<std::string, std::string>>;

std::map<unsigned, std::string> texts_of(std::string_view message) {
    std::map<unsigned, std::string> fields;
    for (WireReader reader(message); !reader.done();) {
        const auto field = reader.next().value();
        fields[field.id] = field.is_bytes() ? std::string(field.bytes) : std::to_string(field.number);
    }
    return fields;
}

std::map<std::string, std::string> labels_of(std::string_view message, unsigned id) {
    std::map<std::string, std::string> labels;
    for (WireReader reader(message); !reader.done();) {
        const auto field = reader.next().value();
        if (field.id != id) continue;
        auto entry = texts_of(field.bytes);
        labels[entry[1]] = entry[2];
    }
    return labels;
}

// What containerd does with the calls that are made here, as its documentation has it.
struct FakeContainerd {
    struct Content {
        std::string bytes;
        std::map<std::string, std::string> labels;
    };
    std::mutex mutex;
    std::map<std::string, Content> content;
    std::map<std::string, std::string> ingests;  // by reference
    std::map<std::string, std::string> elsewhere;
    std::map<std::string, std::string> images;  // to digests
    std::set<std::string> leases;
    std::set<std::string> held;
    std::vector<std::string> calls;
    int locked = 0;             // so many times, and then it is there
    std::string answer_always;  // instead of what is right
    std::size_t written = 0;
};

Error status(Code code, const std::string& text) { return fail(code, Blame::world, "{}", text); }

class FakeCall final : public GrpcCall {
public:
    FakeCall(FakeContainerd& to, std::string method, Metadata metadata)
        : to_(to), method_(std::move(method)), metadata_(std::move(metadata)) {}

    Result<bool> read(std::string& message) override {
        if (error_) return *error_;
        if (answers_.empty()) return false;
        message = answers_.front();
        answers_.erase(answers_.begin());
        return true;
    }
    Result<> write(std::string_view message) override {
        const std::scoped_lock lock(to_.mutex);
        if (to_.calls.empty() || to_.calls.back() != method_) to_.calls.push_back(method_);
        auto answered = take(message);
        if (!answered) {
            error_ = answered.error();
            return fail(Code::unavailable, Blame::world, "the peer ended the call");
        }
        answers_.push_back(to_.answer_always.empty() ? *answered : to_.answer_always);
        return {};
    }
    Result<> close_write() override { return {}; }

private:
    Result<std::string> take(std::string_view message) {
        auto fields = texts_of(message);
        const auto is = [&](std::string_view name) { return method_.ends_with(name); };
        if (is("Leases/Create")) {
            to_.leases.insert(fields[1]);
            EXPECT_TRUE(labels_of(message, 3).contains("containerd.io/gc.expire"));
            return std::string();
        }
        if (is("Leases/Delete")) {
            to_.leases.erase(fields[1]);
            return std::string();
        }
        EXPECT_EQ(metadata_.size(), 2U) << "namespace and lease";
        if (is("Leases/AddResource")) {
            to_.held.insert(texts_of(fields[2])[1]);
            return std::string();
        }
        if (is("Content/Info")) return info(fields[1]);
        if (is("Content/Update")) {
            auto& labels = to_.content[texts_of(fields[1])[1]].labels;
            for (const auto& [key, value] : labels_of(fields[1], 5)) labels[key] = value;
            return std::string();
        }
        if (is("Content/Abort")) {
            to_.ingests.erase(fields[1]);
            return std::string();
        }
        if (is("Content/Write")) return write_content(message);
        if (is("Images/Create") || is("Images/Update")) {
            auto image = texts_of(fields[1]);
            if (is("Create") && to_.images.contains(image[1])) return status(Code::already_exists, "image exists");
            to_.images[image[1]] = texts_of(image[3])[2];
            return std::string();
        }
        return status(Code::unimplemented, method_);
    }
    Result<std::string> info(const std::string& digest) {
        EXPECT_TRUE(to_.held.contains(digest)) << "asked for before it was held";
        const auto found = to_.content.find(digest);
        if (found == to_.content.end()) return status(Code::not_found, "not found");
        WireWriter of;
        of.text(1, digest);
        for (const auto& [key, value] : found->second.labels) {
            WireWriter entry;
            entry.text(1, key);
            entry.text(2, value);
            of.element(5, entry.bytes());
        }
        WireWriter answer;
        answer.element(1, of.bytes());
        return answer.take();
    }
    Result<std::string> write_content(std::string_view message) {
        auto fields = texts_of(message);
        const std::string digest = fields[4];
        const std::string action = fields[1];
        if (to_.locked > 0) {
            if (--to_.locked == 0) to_.content[digest].bytes = "of another writer";
            return status(Code::unavailable, "ref locked for 1s");
        }
        std::string& ingest = to_.ingests[fields[2]];
        if (to_.elsewhere.contains(digest)) ingest = to_.elsewhere[digest];
        if (action == "1") {
            EXPECT_EQ(fields[5].empty() ? "0" : fields[5], std::to_string(ingest.size()));
            ingest += fields[6];
            to_.written += fields[6].size();
        }
        WireWriter answer;
        answer.uint(4, ingest.size());
        if (action == "2") {
            if (codec::sha256_of(as_bytes(ingest)).to_string() != digest)
                return status(Code::failed_precondition, "unexpected commit digest");
            to_.content[digest] = {ingest, labels_of(message, 7)};
            to_.ingests.erase(fields[2]);
        }
        return answer.take();
    }
    FakeContainerd& to_;
    std::string method_;
    Metadata metadata_;
    std::vector<std::string> answers_;
    std::optional<Error> error_;
};

class FakePeer final : public GrpcPeer {
public:
    explicit FakePeer(FakeContainerd& to) : to_(to) {}
    std::unique_ptr<GrpcCall> call(const std::string& method, const Metadata& metadata, const Stop&) override {
        return std::make_unique<FakeCall>(to_, method, metadata);
    }

private:
    FakeContainerd& to_;
};

class HandoverTest : public exporter::StoreTest {
protected:
    void SetUp() override {
        StoreTest::SetUp();
        packer_.emplace(packer());
        auto packed = packer_->pack(two_layers(), {.compression = exporter::LayerCompression::none}, progress_, stop_);
        ASSERT_OK(packed);
        image_ = {.image = *packed, .names = {"docker.io/library/app:1"}};
    }
    Result<HandedOver> hand_over() {
        const auto receiver = open_containerd(
            [this](const std::string&, const Stop&) -> Result<std::unique_ptr<GrpcPeer>> {
                return std::make_unique<FakePeer>(fake_);
            },
            "/run/x.sock", "");
        return (*receiver)->take(*packer_, image_, stop_);
    }
    [[nodiscard]] const exporter::PackedImage& packed() const { return image_.image.images[0]; }
    [[nodiscard]] std::string layer_id(std::size_t i) const { return packed().layers[i].blob.digest.to_string(); }
    std::string layer_bytes(std::size_t i) {
        auto source = packer_->open_layer(packed().layers[i], stop_);
        return read_all(**source, 1 << 24).value();
    }

    FakeContainerd fake_;
    std::optional<exporter::Packer> packer_;
    exporter::ArchiveImage image_;
};

TEST_F(HandoverTest, ContainerdGetsEveryBlobAndWhatKeepsIt) {
    const auto done = hand_over();
    ASSERT_OK(done);
    EXPECT_EQ(done->layers, 2U);
    EXPECT_EQ(done->layers_sent, 2U);
    EXPECT_EQ(done->bytes_sent, fake_.written);
    EXPECT_EQ(fake_.content.size(), 4U);
    for (const auto& [digest, content] : fake_.content)
        EXPECT_EQ(codec::sha256_of(as_bytes(content.bytes)).to_string(), digest);
    const auto& manifest = fake_.content.at(packed().manifest.digest.to_string());
    EXPECT_EQ(manifest.labels.at("containerd.io/gc.ref.content.config"), packed().config.digest.to_string());
    EXPECT_EQ(manifest.labels.at("containerd.io/gc.ref.content.l.0"), layer_id(0));
    EXPECT_EQ(manifest.labels.at("containerd.io/gc.ref.content.l.1"), layer_id(1));
    EXPECT_EQ(fake_.images.at("docker.io/library/app:1"), packed().manifest.digest.to_string());
    EXPECT_TRUE(fake_.leases.empty()) << "the lease has not ended";
}

TEST_F(HandoverTest, ContainerdGetsNothingTwice) {
    ASSERT_OK(hand_over());
    image_.names.push_back("docker.io/library/other:2");
    const auto again = hand_over();
    ASSERT_OK(again);
    EXPECT_EQ(again->bytes_sent, 0U);
    EXPECT_EQ(again->layers_sent, 0U);
    EXPECT_EQ(fake_.images.size(), 2U);
}

TEST_F(HandoverTest, ContainerdKeepsWhatIsThereWithoutLabels) {
    ASSERT_OK(hand_over());
    auto& manifest = fake_.content.at(packed().manifest.digest.to_string());
    const auto labels = manifest.labels;
    manifest.labels = {{"other", "label"}};
    ASSERT_OK(hand_over());
    for (const auto& [key, value] : labels) EXPECT_EQ(manifest.labels[key], value);
    EXPECT_EQ(manifest.labels["other"], "label");
}

TEST_F(HandoverTest, AnInterruptedTransferGoesOnWhereItWas) {
    const std::string bytes = layer_bytes(1);
    fake_.ingests["cooper-" + layer_id(1)] = bytes.substr(0, 200'000);
    const auto done = hand_over();
    ASSERT_OK(done);
    EXPECT_EQ(fake_.content.at(layer_id(1)).bytes, bytes);
    EXPECT_LT(done->bytes_sent, bytes.size() - 200'000 + layer_bytes(0).size() + 5'000);
}

TEST_F(HandoverTest, DamagedRemainsAreSentAnew) {
    fake_.ingests["cooper-" + layer_id(1)] = std::string(1'000, '?');
    ASSERT_OK(hand_over());
    EXPECT_EQ(fake_.content.at(layer_id(1)).bytes, layer_bytes(1));
}

TEST_F(HandoverTest, WhatAnotherNamespaceHasIsNotSent) {
    fake_.elsewhere[layer_id(0)] = layer_bytes(0);
    fake_.elsewhere[layer_id(1)] = layer_bytes(1);
    const auto done = hand_over();
    ASSERT_OK(done);
    EXPECT_EQ(done->layers_sent, 0U);
    EXPECT_LT(done->bytes_sent, 5'000U);
    EXPECT_TRUE(fake_.content.contains(layer_id(1)));
}

TEST_F(HandoverTest, WaitsForWhoeverWritesTheSame) {
    image_.image.images[0].layers.resize(1);
    fake_.locked = 2;
    const auto done = hand_over();
    ASSERT_OK(done);
    EXPECT_EQ(done->layers_sent, 0U);
}

TEST_F(HandoverTest, NonsenseFromContainerdIsAnError) {
    for (const std::string& nonsense : {std::string("\xff\xff\xff"), std::string("\x20\xff\xff\xff\xff\x7f", 6)}) {
        fake_.answer_always = nonsense;
        fake_.content.clear();
        EXPECT_FALSE(hand_over().has_value());
    }
}

class RegistryTest : public HandoverTest {
protected:
    void SetUp() override {
        HandoverTest::SetUp();
        auto registry = LoopbackRegistry::start(*packer_, packed(), stop_);
        ASSERT_OK(registry);
        registry_ = std::move(*registry);
    }
    http::Response get(const std::string& path, const std::string& password) {
        http::Request request{.url = "http://" + registry_->host() + path};
        request.headers.add("Authorization", "Basic " + codec::base64_encode(registry_->user() + ":" + password));
        return client_.send(request, stop_).value();
    }
    std::string text(const std::string& what) {
        const auto response = get("/v2/handed/over/" + what, registry_->password());
        EXPECT_EQ(response.status, 200) << what;
        return read_all(*response.body, 1 << 24).value_or("(broke off)");
    }
    http::Client client_{http::ClientOptions{}};
    std::unique_ptr<LoopbackRegistry> registry_;
};

TEST_F(RegistryTest, GivesTheImageAndCounts) {
    EXPECT_EQ(text("manifests/image"), packed().manifest_bytes);
    EXPECT_EQ(text("manifests/" + packed().manifest.digest.to_string()), packed().manifest_bytes);
    EXPECT_EQ(text("blobs/" + packed().config.digest.to_string()), packed().config_bytes);
    EXPECT_EQ(text("blobs/" + layer_id(1)), layer_bytes(1));
    EXPECT_EQ(registry_->sent().layers, 1U);
    EXPECT_EQ(registry_->sent().bytes,
              2 * packed().manifest.size + packed().config.size + packed().layers[1].blob.size);
}

TEST_F(RegistryTest, WhoeverHasNoPasswordGetsNothing) {
    for (const std::string path : {"/v2/", "/v2/handed/over/manifests/image", "/v2/handed/over/blobs/x", "/"}) {
        const auto response = get(path, "wrong");
        EXPECT_EQ(response.status, 401) << path;
        EXPECT_EQ(response.headers.find("WWW-Authenticate"), "Basic realm=\"cooper\"");
    }
    EXPECT_EQ(registry_->sent().bytes, 0U);
}

TEST_F(RegistryTest, HasNothingElse) {
    for (const std::string path : {"/v2/handed/over/manifests/latest", "/v2/other/manifests/image", "/etc/passwd",
                                   "/v2/handed/over/blobs/sha256:0", "/v2/handed/over/"})
        EXPECT_EQ(get(path, registry_->password()).status, 404) << path;
}

TEST_F(RegistryTest, SpeaksWithNobodyWhoSpeaksSomethingElse) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const std::string host = registry_->host();
    address.sin_port = htons(static_cast<std::uint16_t>(std::stoi(host.substr(host.find(':') + 1))));
    for (const std::string& words :
         {std::string("\x16\x03\x01\x02\x00\x01", 6), std::string("POST /v2/ HTTP/1.1\r\n\r\n"),
          std::string("GET\r\n\r\n"), "GET / HTTP/1.1\r\n" + std::string(100'000, 'x')}) {
        const sys::Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        ASSERT_EQ(::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
        static_cast<void>(::send(socket.get(), words.data(), words.size(), MSG_NOSIGNAL));
        std::array<char, 64> answer{};
        EXPECT_LE(::recv(socket.get(), answer.data(), answer.size(), 0), 0) << words.substr(0, 20);
    }
    EXPECT_EQ(text("manifests/image"), packed().manifest_bytes);
}

TEST_F(RegistryTest, SaysWhyALayerCouldNotBeSent) {
    image_.image.images[0].layers[0].blob.size++;
    EXPECT_FALSE(registry_->failure().has_value());
    const auto response = get("/v2/handed/over/blobs/" + layer_id(0), registry_->password());
    EXPECT_FALSE(read_all(*response.body, 1 << 24).has_value());
    ASSERT_TRUE(registry_->failure().has_value());
    EXPECT_EQ(registry_->failure()->code(), Code::data_loss);
}

TEST(JsonApiTest, LinesThatTellAnError) {
    EXPECT_TRUE(check_lines("{\"stream\":\"Trying\"}\n{\"id\":\"abc\"}\n").has_value());
    EXPECT_TRUE(check_lines("").has_value());
    const auto failed = check_lines("{\"stream\":\"Trying\"}\n{\"error\":\"no space\"}\n");
    ASSERT_FALSE(failed.has_value());
    EXPECT_NE(failed.error().to_string().find("no space"), std::string::npos);
}

TEST(JsonApiTest, MessagesOfAnything) {
    EXPECT_EQ(message_of(R"({"message":"no such image"})"), "no such image");
    EXPECT_EQ(message_of(R"({"cause":"image not known","response":404})"), "image not known");
    EXPECT_EQ(message_of("<html>\n"), "\"<html>\\n\"");
    EXPECT_EQ(message_of(R"({"message":5})"), quoted(R"({"message":5})"));
}

TEST(JsonApiTest, AddressesThatCannotBeReached) {
    http::Client client{http::ClientOptions{}};
    EXPECT_TRUE(JsonApi::at(client, "unix:///run/x.sock", "", "podman").has_value());
    EXPECT_TRUE(JsonApi::at(client, "/run/x.sock", "", "podman").has_value());
    for (const char* address : {"ssh://me@host/run/podman.sock", "npipe:////./pipe/docker", "host:1234", ""})
        EXPECT_FALSE(JsonApi::at(client, address, "", "podman").has_value()) << address;
}

}  // namespace
}  // namespace cooper::handover
