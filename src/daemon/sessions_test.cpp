// A daemon's sessions with real gRPC at both ends: a client that serves BuildKit's session services through the tunnel,
// and clients that do it badly.
#include "daemon/sessions.hpp"

#include "base/clock.hpp"
#include "codec/sha256.hpp"
#include "daemon/detail/call_packets.hpp"
#include "daemon/local_slots.hpp"
#include "daemon/session_exporters.hpp"
#include "daemon/source_judge.hpp"
#include "filesync/local_tree.hpp"
#include "filesync/packet.hpp"
#include "filesync/receive.hpp"
#include "filesync/send.hpp"
#include "proto/content.grpc.pb.h"
#include "proto/exporter.grpc.pb.h"
#include "proto/filesync.grpc.pb.h"
#include "proto/policysession.grpc.pb.h"
#include "proto/secrets.grpc.pb.h"
#include "proto/sshforward.grpc.pb.h"
#include "rpc/bytes_message.hpp"
#include "rpc/channel.hpp"
#include "rpc/joint.hpp"
#include "rpc/status.hpp"
#include "sys/temp_dir.hpp"

#include <array>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <grpcpp/channel.h>
#include <grpcpp/impl/rpc_service_method.h>
#include <grpcpp/impl/service_type.h>
#include <grpcpp/support/method_handler.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <thread>

namespace cooper::daemon {

namespace {

namespace content = containerd::services::content::v1;

std::array<sys::Fd, 2> socket_pair() {
    std::array<int, 2> ends{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    return {sys::Fd(ends[0]), sys::Fd(ends[1])};
}

// Control with its method Session only.
class Control final : public grpc::Service {
public:
    explicit Control(Sessions& sessions) {
        using Stream = grpc::ServerReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>;
        AddMethod(new grpc::internal::RpcServiceMethod(
            "/moby.buildkit.v1.Control/Session", grpc::internal::RpcMethod::BIDI_STREAMING,
            new grpc::internal::BidiStreamingHandler<Control, grpc::ByteBuffer, grpc::ByteBuffer>(
                [&sessions](Control*, grpc::ServerContext* context, Stream* stream) {
                    return sessions.serve(*context, *stream);
                },
                this)));
    }
};

class SecretService final : public moby::buildkit::secrets::v1::Secrets::Service {
public:
    grpc::Status GetSecret(grpc::ServerContext* context, const moby::buildkit::secrets::v1::GetSecretRequest* request,
                           moby::buildkit::secrets::v1::GetSecretResponse* response) override {
        if (request->id() == "hang") {
            ++hanging;
            while (!context->IsCancelled()) std::this_thread::sleep_for(std::chrono::milliseconds(2));
            return grpc::Status::CANCELLED;
        }
        if (request->id() == "huge") response->set_data(std::string((512U << 10U) + 1, 'x'));
        if (request->id() == "broken") return {grpc::StatusCode::UNKNOWN, "cannot read it"};
        if (request->id() == "token") response->set_data("value");
        return response->data().empty() ? grpc::Status(grpc::StatusCode::NOT_FOUND, "none") : grpc::Status::OK;
    }
    std::atomic<int> hanging = 0;
};

class AuthService final : public moby::filesync::v1::Auth::Service {
public:
    grpc::Status Credentials(grpc::ServerContext*, const moby::filesync::v1::CredentialsRequest* request,
                             moby::filesync::v1::CredentialsResponse* response) override {
        if (request->host() == "registry-1.docker.io") response->set_username("me");
        response->set_secret("secret of " + request->host());
        return grpc::Status::OK;
    }
};

// An agent that answers each request in upper case and says "bye" after the last.
class SshService final : public moby::sshforward::v1::SSH::Service {
public:
    grpc::Status CheckAgent(grpc::ServerContext*, const moby::sshforward::v1::CheckAgentRequest* request,
                            moby::sshforward::v1::CheckAgentResponse*) override {
        if (request->id() != "default") return {grpc::StatusCode::UNKNOWN, "unset ssh forward key"};
        return grpc::Status::OK;
    }
    grpc::Status ForwardAgent(grpc::ServerContext* context,
                              grpc::ServerReaderWriter<moby::sshforward::v1::BytesMessage,
                                                       moby::sshforward::v1::BytesMessage>* stream) override {
        if (rpc::find_value(rpc::metadata_of(*context), "buildkit.ssh.id") != "default") {
            return {grpc::StatusCode::UNKNOWN, "another agent"};
        }
        moby::sshforward::v1::BytesMessage message;
        while (stream->Read(&message)) {
            for (char& c : *message.mutable_data()) c = static_cast<char>(std::toupper(c));
            stream->Write(message);
        }
        message.set_data("bye");
        stream->Write(message);
        return grpc::Status::OK;
    }
};

// A content store in memory.
class ContentService final : public content::Content::Service {
public:
    grpc::Status Info(grpc::ServerContext* context, const content::InfoRequest* request,
                      content::InfoResponse* response) override {
        if (rpc::find_value(rpc::metadata_of(*context), "buildkit-attachable-store-id") != "oci:base") {
            return {grpc::StatusCode::NOT_FOUND, "no such store"};
        }
        const auto found = blobs.find(request->digest());
        if (found == blobs.end()) return {grpc::StatusCode::NOT_FOUND, "no such blob"};
        response->mutable_info()->set_digest(request->digest());
        response->mutable_info()->set_size(static_cast<std::int64_t>(found->second.size()));
        return grpc::Status::OK;
    }
    grpc::Status Read(grpc::ServerContext*, const content::ReadContentRequest* request,
                      grpc::ServerWriter<content::ReadContentResponse>* writer) override {
        content::ReadContentResponse piece;
        const std::string& blob = blobs.at(request->digest());
        for (auto at = static_cast<std::size_t>(request->offset()); at < blob.size(); at += 100'000) {
            piece.set_offset(static_cast<std::int64_t>(at) + lie);
            piece.set_data(blob.substr(at, 100'000));
            writer->Write(piece);
        }
        return grpc::Status::OK;
    }
    grpc::Status Write(
        grpc::ServerContext*,
        grpc::ServerReaderWriter<content::WriteContentResponse, content::WriteContentRequest>* stream) override {
        content::WriteContentRequest request;
        content::WriteContentResponse response;
        std::string blob;
        while (stream->Read(&request)) {
            if (blobs.contains(request.expected())) return {grpc::StatusCode::ALREADY_EXISTS, "there"};
            if (request.action() == content::STAT) blob = partial;
            if (request.action() == content::WRITE) blob += request.data();
            if (request.action() == content::COMMIT) {
                if (request.total() != static_cast<std::int64_t>(blob.size())) {
                    return {grpc::StatusCode::FAILED_PRECONDITION, "wrong size"};
                }
                blobs[request.expected()] = blob;
            }
            response.set_offset(static_cast<std::int64_t>(blob.size()) + lie);
            stream->Write(response);
        }
        return grpc::Status::OK;
    }
    std::map<std::string, std::string> blobs;
    std::string partial;   // what is there of the next blob
    std::int64_t lie = 0;  // added to offsets
};

// A client of builds: what it offers, and a connection to the daemon.
class Client {
public:
    struct Offers {
        std::vector<grpc::Service*> services;
        rpc::Metadata metadata;  // beside the id
        bool healthy = true;
    };
    Client(std::shared_ptr<grpc::Channel> daemon, const std::string& id, const Offers& offers)
        : health_(offers.healthy ? rpc::make_health_service() : nullptr) {
        std::vector<grpc::Service*> services = offers.services;
        if (health_ != nullptr) services.push_back(health_.get());
        rpc::Metadata metadata = offers.metadata;
        metadata.emplace_back("x-docker-expose-session-uuid", id);
        for (const char* method : {"/moby.filesync.v1.FileSync/DiffCopy", "/moby.filesync.v1.FileSend/DiffCopy"}) {
            metadata.emplace_back("x-docker-expose-session-grpc-method", method);
        }
        server_ = std::move(*rpc::StreamServer::start(services));
        joint_ = std::move(
            *rpc::Joint::create(rpc::carry_in_call(std::move(daemon), "/moby.buildkit.v1.Control/Session", metadata)));
        server_->add(joint_->take_socket());
        thread_ = std::jthread([this] { joint_->run(); });
    }
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;
    ~Client() {
        if (server_ != nullptr) server_->shutdown({});
        joint_->close();
    }
    // Its machine loses power, as far as the daemon can see.
    void die() { joint_->close(); }
    void wait() { thread_.join(); }

private:
    std::unique_ptr<grpc::Service> health_;
    std::unique_ptr<rpc::StreamServer> server_;
    std::unique_ptr<rpc::Joint> joint_;
    std::jthread thread_;
};

class SessionsTest : public ::testing::Test {
protected:
    static void SetUpTestSuite() { rpc::start_library(); }

    SessionsTest() {
        slots_ = std::move(*LocalSlots::open(root_.path(), {}));
        start({.scratch_dir = root_.path(), .lookup = std::chrono::milliseconds(2000)});
    }
    ~SessionsTest() override {
        sessions_->close();
        daemon_.reset();
        server_.reset();
    }
    void start(SessionsOptions options) {
        daemon_.reset();
        server_.reset();
        sessions_ = std::make_unique<Sessions>(*slots_, std::move(options));
        control_ = std::make_unique<Control>(*sessions_);
        server_ = std::move(*rpc::StreamServer::start({control_.get()}));
        auto [near, far] = socket_pair();
        server_->add(std::move(near));
        daemon_ = rpc::channel_over(std::move(far));
    }
    std::shared_ptr<RemoteSession> find(const std::string& id) {
        auto session = sessions_->find(id, {});
        EXPECT_TRUE(session) << session.error().to_string();
        return session ? *session : nullptr;
    }
    void write(const std::string& path, const std::string& text) {
        const std::string full = root_.path() + "/" + path;
        std::filesystem::create_directories(std::filesystem::path(full).parent_path());
        std::ofstream(full) << text;
    }
    static std::string read(const std::string& path) {
        std::ifstream in(path);
        return {std::istreambuf_iterator<char>(in), {}};
    }

    sys::TempDir root_ = std::move(*sys::TempDir::create("/tmp", "sessions-"));
    std::unique_ptr<LocalSlots> slots_;
    std::unique_ptr<Sessions> sessions_;
    std::unique_ptr<Control> control_;
    std::unique_ptr<rpc::StreamServer> server_;
    std::shared_ptr<grpc::Channel> daemon_;
    NullProgress sink_;
    SystemClock clock_;
    VertexProgress progress_{sink_, Digest(), clock_};
};

// Serves a directory as BuildKit's clients do, and counts the content it sent.
std::unique_ptr<grpc::Service> file_service(const std::string& directory, std::atomic<std::uint64_t>& sent,
                                            rpc::Metadata& seen) {
    return rpc::make_raw_service(
        {{"/moby.filesync.v1.FileSync/DiffCopy",
          [&sent, &seen, directory](rpc::MessageStream& stream, const rpc::Metadata& metadata) -> Result<> {
              seen = metadata;
              const auto names = rpc::decoded_values(metadata, "dir-name");
              if (names != std::vector<std::string>{"context"}) {
                  return fail(Code::not_found, Blame::user, "no access allowed to dir {}", names.at(0));
              }
              const auto tree = TRY(
                  filesync::open_local_tree(directory, {.include = rpc::decoded_values(metadata, "include-patterns"),
                                                        .exclude = rpc::decoded_values(metadata, "exclude-patterns"),
                                                        .follow_paths = rpc::decoded_values(metadata, "followpaths")}));
              detail::CallPackets packets(stream);
              sent += TRY(filesync::send(packets, {{"", tree}}, {}, {})).bytes;
              return {};
          }}});
}

// --- the client's word about sources ---

namespace policy = moby::buildkit::v1::sourcepolicy;

// Decides by the last letter of the identifier.
class PolicyService final : public policy::policysession::PolicyVerifier::Service {
public:
    grpc::Status CheckPolicy(grpc::ServerContext*, const policy::policysession::CheckPolicyRequest* request,
                             policy::policysession::CheckPolicyResponse* response) override {
        ++asked;
        const auto& source = request->source().source();
        const char letter = source.identifier().back();
        if (letter == 'm' && request->source().image().digest().empty()) {
            *response->mutable_request()->mutable_source() = source;
            return grpc::Status::OK;
        }
        if (letter == 'o') {  // asks for another source
            response->mutable_request()->mutable_source()->set_identifier("docker-image://other");
            return grpc::Status::OK;
        }
        if (letter == 'f') {  // asks for ever
            *response->mutable_request()->mutable_source() = source;
            return grpc::Status::OK;
        }
        if (letter == 'n') return grpc::Status::OK;  // decides nothing
        auto& decision = *response->mutable_decision();
        decision.set_action(letter == 'd' ? policy::DENY : letter == 'c' ? policy::CONVERT : policy::ALLOW);
        if (letter == 'd') decision.add_denymessages()->set_message("not from here");
        if (letter == 'c') {
            decision.mutable_update()->set_identifier("https://example.com/p");
            (*decision.mutable_update()->mutable_attrs())["http.checksum"] = "sha256:1";
        }
        seen = request->source().image().config();
        return grpc::Status::OK;
    }
    std::atomic<int> asked = 0;
    std::string seen;
};

class SomeFacts final : public engine::SourceFacts {
public:
    Result<frontend::ResolvedImage> image(const std::string& reference, const llb::Platform&, frontend::ResolveMode,
                                          Stop) override {
        frontend::ResolvedImage image;
        image.reference = reference;
        image.digest = codec::sha256_of(reference);
        image.config_json = "{\"of\":\"" + reference + "\"}";
        return image;
    }
    Result<engine::SourceMeta> other(const llb::SourceOp&, Stop) override { return engine::SourceMeta{}; }
};

TEST_F(SessionsTest, APolicyOfTheClientDecides) {
    PolicyService service;
    const Client client(daemon_, "one", {.services = {&service}, .metadata = {}});
    const auto judge = make_client_judge(find("one"));
    SomeFacts facts;
    const auto decide = [&](const std::string& identifier) -> std::string {
        llb::SourceOp source{identifier, {}};
        const auto changed = judge->judge(source, {}, facts, {});
        if (!changed) return changed.error().to_string();
        EXPECT_EQ(*changed, source.identifier != identifier);
        return source.identifier;
    };
    EXPECT_EQ(decide("docker-image://a"), "docker-image://a");
    EXPECT_EQ(service.asked, 1);
    EXPECT_NE(decide("docker-image://d").find("not allowed by policy: not from here"), std::string::npos);
    EXPECT_EQ(decide("docker-image://m"), "docker-image://m");
    EXPECT_EQ(service.seen, "{\"of\":\"m\"}");
    EXPECT_NE(decide("docker-image://o").find("asks for \"docker-image://other\""), std::string::npos);
    EXPECT_NE(decide("docker-image://n").find("no decision"), std::string::npos);
    service.asked = 0;
    EXPECT_NE(decide("docker-image://f").find("too many policy requests"), std::string::npos);
    EXPECT_EQ(service.asked, 10);
    llb::SourceOp source{"http://example.com/c", {}};
    EXPECT_TRUE(judge->judge(source, {}, facts, {}).value());
    EXPECT_EQ(source.identifier, "https://example.com/p");
    EXPECT_EQ(source.attrs.at("http.checksum"), "sha256:1");
}

// --- exporters that the client chooses ---

class ExporterService final : public moby::exporter::v1::Exporter::Service {
public:
    grpc::Status FindExporters(grpc::ServerContext*, const moby::exporter::v1::FindExportersRequest* request,
                               moby::exporter::v1::FindExportersResponse* response) override {
        for (const auto& [key, value] : request->metadata()) metadata[key] = value;
        auto& one = *response->add_exporters();
        one.set_type("image");
        (*one.mutable_attrs())["name"] = "chosen";
        return grpc::Status::OK;
    }
    grpc::Status FinalizeExport(grpc::ServerContext*, const moby::exporter::v1::FinalizeExportRequest* request,
                                moby::exporter::v1::FinalizeExportResponse*) override {
        for (const auto& [key, value] : request->exporter_response()) answer[key] = value;
        return grpc::Status::OK;
    }
    std::map<std::string, std::string> metadata, answer;
};

TEST_F(SessionsTest, ExportersOfTheClient) {
    ExporterService service;
    const rpc::Metadata methods = {
        {"x-docker-expose-session-grpc-method", "/moby.exporter.v1.Exporter/FindExporters"},
        {"x-docker-expose-session-grpc-method", "/moby.exporter.v1.Exporter/FinalizeExport"}};
    const Client client(daemon_, "one", {.services = {&service}, .metadata = methods});
    const Client plain(daemon_, "two", {.services = {}, .metadata = {}});
    engine::FrontendResult result;
    result.metadata["containerimage.config"] = "{}";
    const auto chosen = find_exporters(*find("one"), result, {});
    ASSERT_TRUE(chosen) << chosen.error().to_string();
    ASSERT_EQ(chosen->size(), 1U);
    EXPECT_EQ(chosen->front().type, "image");
    EXPECT_EQ(chosen->front().attrs.at("name"), "chosen");
    EXPECT_EQ(service.metadata.at("containerimage.config"), "{}");
    EXPECT_TRUE(finalize_export(*find("one"), {{"image.name", "chosen"}}, {}));
    EXPECT_EQ(service.answer.at("image.name"), "chosen");
    EXPECT_TRUE(find_exporters(*find("two"), result, {}).value().empty());
    EXPECT_TRUE(finalize_export(*find("two"), {}, {}));
}

}  // namespace

TEST_F(SessionsTest, SecretsAndCredentialsComeFromTheClient) {
    SecretService secrets;
    AuthService auth;
    const Client client(daemon_, "s1", {.services = {&secrets, &auth}, .metadata = {}});
    const auto session = find("s1");
    ASSERT_NE(session, nullptr);
    EXPECT_EQ((*session->find_secret("token", {}))->reveal(), "value");
    EXPECT_FALSE(*session->find_secret("none", {}));
    EXPECT_EQ(session->find_secret("broken", {}).error().to_string(), "secret \"broken\": cannot read it");
    EXPECT_EQ(session->find_secret("huge", {}).error().code(), Code::invalid_argument);
    const auto hub = session->find_credential("docker.io", {});
    EXPECT_EQ(hub->username, "me");
    EXPECT_EQ(hub->password, "secret of registry-1.docker.io");
    EXPECT_EQ(session->find_credential("r.example", {})->identity_token, "secret of r.example");
}

TEST_F(SessionsTest, WhatAClientDoesNotServeIsNotThere) {
    const Client client(daemon_, "s1", {});
    const auto session = find("s1");
    EXPECT_FALSE(*session->find_secret("token", {}));
    EXPECT_TRUE(session->find_credential("r.example", {})->anonymous());
    EXPECT_EQ(*session->open_ssh("default", {}, {}), nullptr);
    EXPECT_EQ(session->content_size("oci:base", codec::sha256_of("x"), {}).error().code(), Code::not_found);
}

TEST_F(SessionsTest, FilesAreKeptAndOnlyChangesAreSentAgain) {
    write("src/a", std::string(100'000, 'a'));
    write("src/d/b", "bb");
    std::filesystem::create_symlink("d/b", root_.path() + "/src/link");
    std::atomic<std::uint64_t> sent = 0;
    rpc::Metadata seen;
    const auto files = file_service(root_.path() + "/src", sent, seen);
    const session::LocalRequest request{.name = "context", .exclude = {"grün"}};
    const rpc::Metadata metadata = {{"x-docker-expose-session-sharedkey", "my-directory"}};
    std::string path;
    {
        const Client client(daemon_, "s1", {.services = {files.get()}, .metadata = metadata});
        const auto local = find("s1")->local_files(request, progress_, {});
        ASSERT_TRUE(local) << local.error().to_string();
        path = (*local)->host_path();
        EXPECT_EQ(read(path + "/a").size(), 100'000U);
        EXPECT_EQ(read(path + "/link"), "bb");
        EXPECT_EQ(sent, 100'002U);
        EXPECT_EQ(rpc::find_value(seen, "exclude-patterns"), "gr%C3%BCn");
    }
    write("src/d/b", "new");
    std::filesystem::remove(root_.path() + "/src/link");
    const Client client(daemon_, "s2", {.services = {files.get()}, .metadata = metadata});
    const auto session = find("s2");
    const auto again = session->local_files(request, progress_, {});
    ASSERT_TRUE(again) << again.error().to_string();
    EXPECT_EQ((*again)->host_path(), path);
    EXPECT_EQ(read(path + "/d/b"), "new");
    EXPECT_FALSE(std::filesystem::exists(std::filesystem::symlink_status(path + "/link")));
    EXPECT_EQ(sent, 100'005U);
    // A build beside it has files of its own.
    const auto beside = session->local_files(request, progress_, {});
    ASSERT_TRUE(beside);
    EXPECT_NE((*beside)->host_path(), path);
    EXPECT_EQ(session->local_files({.name = "other"}, progress_, {}).error().code(), Code::not_found);
}

TEST_F(SessionsTest, AClientThatLiesAboutFilesIsFoundOut) {
    // What it sends, and that nothing of it lands outside.
    const std::vector<std::vector<std::string>> lies = {
        {filesync::stat_packet({.path = "../out", .mode = 0644})},
        {filesync::stat_packet({.path = "/etc/out", .mode = 0644})},
        {filesync::stat_packet({.path = "d/../../out", .mode = 0644})},
        {filesync::stat_packet({.path = "b", .mode = 0644}), filesync::stat_packet({.path = "a", .mode = 0644})},
        {filesync::stat_packet({.path = "no/parent", .mode = 0644})},
        {filesync::data_packet(7, "unasked")},
        {"\xff\xff\xff\xff garbage"},
        {filesync::error_packet("disk on fire")},
        {},
    };
    for (const auto& packets : lies) {
        const auto liar = rpc::make_raw_service(
            {{"/moby.filesync.v1.FileSync/DiffCopy", [&](rpc::MessageStream& stream, const rpc::Metadata&) -> Result<> {
                  for (const auto& packet : packets) TRY(stream.write(packet));
                  return {};
              }}});
        const Client client(daemon_, "liar", {.services = {liar.get()}, .metadata = {}});
        const auto files = find("liar")->local_files({.name = "context"}, progress_, {});
        ASSERT_FALSE(files) << (packets.empty() ? "" : packets[0]);
        EXPECT_NE(files.error().to_string().find("directory \"context\""), std::string::npos);
    }
    EXPECT_FALSE(std::filesystem::exists(root_.path() + "/out"));
    EXPECT_FALSE(std::filesystem::exists("/etc/out"));
}

TEST_F(SessionsTest, FilesAndDirectoriesAreExportedToTheClient) {
    write("tree/f", std::string(3'000'000, 'f'));
    write("tree/d/g", "g");
    std::string file;
    rpc::Metadata seen;
    const std::string dest = root_.path() + "/dest";
    std::filesystem::create_directory(dest);
    const auto sink =
        rpc::make_raw_service({{"/moby.filesync.v1.FileSend/DiffCopy",
                                [&](rpc::MessageStream& stream, const rpc::Metadata& metadata) -> Result<> {
                                    seen = metadata;
                                    const auto exporter = rpc::find_value(metadata, "buildkit-attachable-exporter-id");
                                    if (exporter == "7")
                                        return fail(Code::already_exists, Blame::user, "target already exists");
                                    if (exporter == "8") return fail(Code::unknown, Blame::user, "disk full");
                                    if (exporter == "1") {
                                        detail::CallPackets packets(stream);
                                        TRY(filesync::receive(packets, TRY(sys::RootedDir::open_host(dest)), {}, {}));
                                        return {};
                                    }
                                    std::string message;
                                    file.clear();
                                    while (TRY(stream.read(message))) file += TRY(rpc::unwrap_bytes(message));
                                    return {};
                                }}});
    const Client client(daemon_, "s1", {.services = {sink.get()}, .metadata = {}});
    const auto session = find("s1");

    const std::string archive(2'500'001, 'z');
    auto out = std::move(*session->export_file(0, {{"containerimage.digest", "sha256:ab"}, {"odd/Key", "x"}}, {}));
    ASSERT_TRUE(out->write(as_bytes(archive.substr(0, 10))));
    ASSERT_TRUE(out->write(as_bytes(archive.substr(10))));
    ASSERT_TRUE(out->finish());
    EXPECT_EQ(file, archive);
    EXPECT_EQ(rpc::find_value(seen, "exporter-md-containerimage.digest"), "sha256:ab");

    out = std::move(*session->export_file(7, {}, {}));
    for (int i = 0; i < 20; ++i) ASSERT_TRUE(out->write(as_bytes(archive)));
    EXPECT_TRUE(out->finish());
    out = std::move(*session->export_file(8, {}, {}));
    const auto finished = out->write(as_bytes("x")) ? out->finish() : out->finish();
    EXPECT_EQ(finished.error().to_string(), "disk full");

    const auto tree = std::move(*filesync::open_local_tree(root_.path() + "/tree", {}));
    ASSERT_TRUE(session->export_directory(1, {{"linux_amd64", tree}, {"linux_arm64", tree}}, {}, progress_, {}));
    EXPECT_EQ(read(dest + "/linux_arm64/d/g"), "g");
    EXPECT_EQ(read(dest + "/linux_amd64/f").size(), 3'000'000U);
    EXPECT_EQ(rpc::find_value(seen, "buildkit-exporter-multi-platform"), "1");
    const auto refused = session->export_directory(8, {{"", tree}}, {}, progress_, {});
    EXPECT_NE(refused.error().to_string().find("disk full"), std::string::npos) << refused.error().to_string();
}

TEST_F(SessionsTest, AContentStoreIsReadAndWritten) {
    ContentService store;
    const std::string blob(1'234'567, 'b');
    const Digest digest = codec::sha256_of(blob);
    const Client client(daemon_, "s1", {.services = {&store}, .metadata = {}});
    const auto session = find("s1");
    EXPECT_EQ(session->read_content("oci:base", digest, 0, {}).error().code(), Code::not_found);
    StringSource source(blob);
    ASSERT_TRUE(session->write_content("oci:base", digest, blob.size(), source, {}));
    StringSource unread("");
    ASSERT_TRUE(session->write_content("oci:base", digest, blob.size(), unread, {}));  // it is there
    EXPECT_EQ(*session->content_size("oci:base", digest, {}), blob.size());
    auto whole = std::move(*session->read_content("oci:base", digest, 0, {}));
    EXPECT_EQ(*read_all(*whole, 10'000'000), blob);
    auto rest = std::move(*session->read_content("oci:base", digest, 1'234'560, {}));
    EXPECT_EQ(*read_all(*rest, 100), "bbbbbbb");
    EXPECT_EQ(session->content_size("oci:other", digest, {}).error().code(), Code::not_found);

    // What was begun before is gone on with.
    store.blobs.clear();
    store.partial = blob.substr(0, 1000);
    StringSource second(blob);
    ASSERT_TRUE(session->write_content("oci:base", digest, blob.size(), second, {}));
    EXPECT_EQ(store.blobs[digest.to_string()], blob);

    store.lie = 5;
    auto lied = std::move(*session->read_content("oci:base", digest, 0, {}));
    EXPECT_EQ(read_all(*lied, 10'000'000).error().code(), Code::data_loss);
    store.blobs.clear();
    StringSource third(blob);
    EXPECT_FALSE(session->write_content("oci:base", digest, blob.size(), third, {}));
}

TEST_F(SessionsTest, AnAgentIsASocket) {
    SshService ssh;
    const Client client(daemon_, "s1", {.services = {&ssh}, .metadata = {}});
    const auto session = find("s1");
    EXPECT_EQ(*session->open_ssh("other", {}, {}), nullptr);
    auto agent = std::move(*session->open_ssh("default", {.uid = ::getuid(), .gid = ::getgid(), .mode = 0640}, {}));
    ASSERT_NE(agent, nullptr);
    struct stat st{};
    ASSERT_EQ(::stat(agent->host_path().c_str(), &st), 0);
    EXPECT_TRUE(S_ISSOCK(st.st_mode));
    EXPECT_EQ(st.st_mode & 07777U, 0640U);
    auto connect = [&] {
        sys::Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::strncpy(address.sun_path, agent->host_path().c_str(), sizeof address.sun_path - 1);
        EXPECT_EQ(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
        return socket;
    };
    const sys::Fd first = connect();
    const sys::Fd second = connect();
    ASSERT_TRUE(sys::write_all(second.get(), "two"));
    ASSERT_TRUE(sys::write_all(first.get(), "one"));
    ::shutdown(first.get(), SHUT_WR);
    ::shutdown(second.get(), SHUT_WR);
    EXPECT_EQ(*sys::read_to_end(first.get(), 100), "ONEbye");
    EXPECT_EQ(*sys::read_to_end(second.get(), 100), "TWObye");
    // One that is still open when the step ends.
    const sys::Fd open = connect();
    const std::string path = agent->host_path();
    agent.reset();
    EXPECT_EQ(sys::read_to_end(open.get(), 100).value_or(""), "");  // or reset, when it was not accepted yet
    EXPECT_NE(::stat(path.c_str(), &st), 0);
}

TEST_F(SessionsTest, ABuildWaitsForItsClient) {
    SecretService secrets;
    std::jthread build([&] { EXPECT_EQ((*find("builder:late")->find_secret("token", {}))->reveal(), "value"); });
    const Client client(daemon_, "late", {.services = {&secrets}, .metadata = {}});
    build.join();
    EXPECT_EQ(sessions_->find_now("nobody"), nullptr);
    StopSource stop;
    std::jthread stopper([&] { stop.request_stop(); });
    EXPECT_TRUE(sessions_->find("nobody", stop.get_token()).error().is_cancelled());
    start({.scratch_dir = root_.path(), .lookup = std::chrono::milliseconds(1)});
    const auto missing = sessions_->find("nobody", {});
    EXPECT_EQ(missing.error().code(), Code::unavailable);
    ASSERT_NE(missing.error().find_detail<SessionLost>(), nullptr);
    EXPECT_EQ(missing.error().find_detail<SessionLost>()->session_id, "nobody");
}

TEST_F(SessionsTest, AClientThatDiesIsSaidToBeLost) {
    SecretService secrets;
    Client client(daemon_, "s1", {.services = {&secrets}, .metadata = {}});
    const auto session = find("s1");
    std::jthread killer([&] {
        while (secrets.hanging == 0) std::this_thread::yield();
        client.die();
    });
    const auto asked = session->find_secret("hang", {});
    EXPECT_EQ(asked.error().code(), Code::unavailable);
    ASSERT_NE(asked.error().find_detail<SessionLost>(), nullptr) << asked.error().to_string();
    EXPECT_EQ(asked.error().find_detail<SessionLost>()->session_id, "s1");
    while (sessions_->find_now("s1") != nullptr) std::this_thread::yield();
    EXPECT_EQ(session->find_secret("token", {}).error().code(), Code::unavailable);
}

TEST_F(SessionsTest, AStopEndsAQuestion) {
    SecretService secrets;
    const Client client(daemon_, "s1", {.services = {&secrets}, .metadata = {}});
    StopSource stop;
    std::jthread stopper([&] {
        while (secrets.hanging == 0) std::this_thread::yield();
        stop.request_stop();
    });
    EXPECT_TRUE(find("s1")->find_secret("hang", stop.get_token()).error().is_cancelled());
}

TEST_F(SessionsTest, TheLastWithAnIdIsAsked) {
    SecretService first;
    SecretService second;
    const Client one(daemon_, "same", {.services = {&first}, .metadata = {}});
    const auto before = find("same");
    {
        const Client two(daemon_, "same", {.services = {&second}, .metadata = {}});
        while (find("same") == before) std::this_thread::yield();
        EXPECT_TRUE(before->find_secret("token", {}));  // who has found it keeps it
    }
    while (sessions_->count() != 1) std::this_thread::yield();
    EXPECT_EQ(sessions_->find_now("same"), nullptr);
}

TEST_F(SessionsTest, AClientThatFailsItsHealthCheckTwiceGoes) {
    start({.scratch_dir = root_.path(),
           .health_interval = std::chrono::milliseconds(20),
           .health_timeout = std::chrono::milliseconds(1000)});
    SecretService secrets;
    Client sick(daemon_, "sick", {.services = {&secrets}, .metadata = {}, .healthy = false});
    const Client well(daemon_, "well", {.services = {}, .metadata = {}});
    find("sick");
    sick.wait();
    while (sessions_->find_now("sick") != nullptr) std::this_thread::yield();
    EXPECT_NE(find("well"), nullptr);
}

TEST_F(SessionsTest, AClientThatIsSilentGoes) {
    // It opens the tunnel and never speaks: a connection that hangs somewhere on the way.
    start({.scratch_dir = root_.path(),
           .health_interval = std::chrono::milliseconds(20),
           .health_timeout = std::chrono::milliseconds(50)});
    const auto call = rpc::RawCall::start(daemon_, "/moby.buildkit.v1.Control/Session",
                                          {{"x-docker-expose-session-uuid", "silent"}}, {});
    find("silent");
    std::string message;
    while (call->read(message).value_or(false)) {
    }
    while (sessions_->count() != 0) std::this_thread::yield();
}

TEST_F(SessionsTest, SessionsWithoutNamesOrBeyondTheLimitAreRefused) {
    start({.scratch_dir = root_.path(), .max_sessions = 1});
    auto open = [&](const std::string& id) {
        return rpc::RawCall::start(daemon_, "/moby.buildkit.v1.Control/Session", {{"x-docker-expose-session-uuid", id}},
                                   {});
    };
    EXPECT_EQ(open("")->finish().error().code(), Code::invalid_argument);
    EXPECT_EQ(open(std::string(300, 'x'))->finish().error().code(), Code::invalid_argument);
    const Client client(daemon_, "s1", {});
    find("s1");
    EXPECT_EQ(open("s2")->finish().error().code(), Code::resource_exhausted);
}

TEST_F(SessionsTest, GarbageInTheTunnelIsItsOwnEnd) {
    SecretService secrets;
    const Client client(daemon_, "good", {.services = {&secrets}, .metadata = {}});
    const auto good = find("good");
    for (const std::string& garbage : {std::string(70'000, '\xff'), std::string("SSH-2.0-x\r\n")}) {
        const auto call = rpc::RawCall::start(daemon_, "/moby.buildkit.v1.Control/Session",
                                              {{"x-docker-expose-session-uuid", "bad"}}, {});
        std::string message;
        rpc::wrap_bytes(garbage, message);
        const auto bad = find("bad");
        ASSERT_TRUE(call->write(message));
        EXPECT_FALSE(bad->find_secret("token", {}));
        EXPECT_TRUE(good->find_secret("token", {}));
    }
}

TEST_F(SessionsTest, TheEndOfTheDaemonEndsAllSessions) {
    Client one(daemon_, "s1", {});
    Client two(daemon_, "s2", {});
    find("s1");
    find("s2");
    sessions_->close();
    one.wait();
    two.wait();
    Client late(daemon_, "s3", {});
    late.wait();
    EXPECT_FALSE(sessions_->find("s3", {}));
}

}  // namespace cooper::daemon
