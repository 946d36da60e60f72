// The tunnel of a session in both roles, as BuildKit's clients use it: a gRPC call whose messages are the bytes of
// another gRPC connection, in which the side that called serves.
#include "proto/control.pb.h"
#include "proto/health.grpc.pb.h"
#include "proto/secrets.grpc.pb.h"
#include "rpc/channel.hpp"
#include "rpc/joint.hpp"
#include "rpc/message_stream.hpp"
#include "rpc/status.hpp"
#include "sys/temp_dir.hpp"

#include <array>
#include <atomic>
#include <filesystem>
#include <future>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/impl/rpc_service_method.h>
#include <grpcpp/impl/service_type.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/method_handler.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <thread>

namespace cooper::rpc {

namespace {

using Buffer = grpc::ByteBuffer;
using Stream = grpc::ServerReaderWriter<Buffer, Buffer>;
constexpr const char* kSession = "/moby.buildkit.v1.Control/Session";

std::array<sys::Fd, 2> socket_pair() {
    std::array<int, 2> ends{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    return {sys::Fd(ends[0]), sys::Fd(ends[1])};
}

// The daemon's Control/Session: gives the channel to the client inside to the test.
class SessionService final : public grpc::Service {
public:
    using Handler = std::function<void(Joint& joint, std::shared_ptr<grpc::Channel> client)>;
    explicit SessionService(Handler handler) : handler_(std::move(handler)) {
        AddMethod(new grpc::internal::RpcServiceMethod(
            kSession, grpc::internal::RpcMethod::BIDI_STREAMING,
            new grpc::internal::BidiStreamingHandler<SessionService, Buffer, Buffer>(
                [](SessionService* self, grpc::ServerContext* context, Stream* stream) {
                    auto joint = Joint::create(carry_in_handler(*context, *stream));
                    auto channel = channel_over((*joint)->take_socket());
                    std::jthread user([&] { self->handler_(**joint, std::move(channel)); });
                    (*joint)->run();
                    user.join();
                    ++self->ended;
                    return grpc::Status::OK;
                },
                this)));
    }
    std::atomic<int> ended = 0;

private:
    Handler handler_;
};

class SecretService final : public moby::buildkit::secrets::v1::Secrets::Service {
public:
    grpc::Status GetSecret(grpc::ServerContext* context, const moby::buildkit::secrets::v1::GetSecretRequest* request,
                           moby::buildkit::secrets::v1::GetSecretResponse* response) override {
        if (request->id() == "slow") {
            ++waiting;
            while (!context->IsCancelled()) std::this_thread::sleep_for(std::chrono::milliseconds(2));
            return grpc::Status::CANCELLED;
        }
        if (request->id() == "missing") return to_status(fail(Code::not_found, Blame::user, "no secret missing"));
        response->set_data(request->id() + " of " + std::string(context->peer().empty() ? "" : "client"));
        return grpc::Status::OK;
    }
    std::atomic<int> waiting = 0;
};

Result<std::string> get_secret(const std::shared_ptr<grpc::Channel>& channel, const std::string& id) {
    grpc::ClientContext context;
    moby::buildkit::secrets::v1::GetSecretRequest request;
    request.set_id(id);
    moby::buildkit::secrets::v1::GetSecretResponse response;
    const auto status = moby::buildkit::secrets::v1::Secrets::NewStub(channel)->GetSecret(&context, request, &response);
    if (!status.ok()) return from_status(status);
    return response.data();
}

// A client of a build: its session's server behind a tunnel through `daemon`.
class Client {
public:
    Client(const std::shared_ptr<grpc::Channel>& daemon, const std::vector<grpc::Service*>& services)
        : server_(std::move(*StreamServer::start(services))),
          joint_(std::move(*Joint::create(carry_in_call(daemon, kSession, {})))) {
        server_->add(joint_->take_socket());
        thread_ = std::jthread([this] { joint_->run(); });
    }
    ~Client() {
        // As a client leaves: its server hangs up, and that ends the call.
        server_.reset();
        thread_.join();
    }
    void die() { joint_->close(); }

private:
    std::unique_ptr<StreamServer> server_;
    std::unique_ptr<Joint> joint_;
    std::jthread thread_;
};

std::size_t open_files() {
    return static_cast<std::size_t>(
        std::distance(std::filesystem::directory_iterator("/proc/self/fd"), std::filesystem::directory_iterator()));
}
std::size_t threads() {
    return static_cast<std::size_t>(
        std::distance(std::filesystem::directory_iterator("/proc/self/task"), std::filesystem::directory_iterator()));
}

class TunnelTest : public ::testing::Test {
protected:
    static void SetUpTestSuite() { start_library(); }

    // Serves the daemon's side and connects to it.
    void serve(SessionService::Handler handler) {
        session_ = std::make_unique<SessionService>(std::move(handler));
        daemon_server_ = std::move(*StreamServer::start({session_.get()}));
        daemon_ = connect();
    }
    std::shared_ptr<grpc::Channel> connect() {
        auto [a, b] = socket_pair();
        daemon_server_->add(std::move(a));
        return channel_over(std::move(b));
    }
    void TearDown() override {
        daemon_.reset();
        daemon_server_.reset();
    }

    std::unique_ptr<SessionService> session_;
    std::unique_ptr<StreamServer> daemon_server_;
    std::shared_ptr<grpc::Channel> daemon_;
};

}  // namespace

TEST_F(TunnelTest, TheDaemonCallsTheClient) {
    SecretService secrets;
    const auto health = make_health_service();
    std::promise<void> done;
    std::vector<std::string> answers;
    std::string error;
    serve([&](Joint&, const std::shared_ptr<grpc::Channel>& client) {
        for (int i = 0; i < 3; ++i) answers.push_back(get_secret(client, fmt::format("s{}", i)).value_or("failed"));
        error = get_secret(client, "missing").error().to_string();
        grpc::ClientContext context;
        grpc::health::v1::HealthCheckResponse response;
        EXPECT_TRUE(grpc::health::v1::Health::NewStub(client)->Check(&context, {}, &response).ok());
        EXPECT_EQ(response.status(), grpc::health::v1::HealthCheckResponse::SERVING);
        done.set_value();
    });
    {
        const Client client(daemon_, {&secrets, health.get()});
        done.get_future().wait();
    }
    EXPECT_EQ(answers, (std::vector<std::string>{"s0 of client", "s1 of client", "s2 of client"}));
    EXPECT_EQ(error, "no secret missing");
}

TEST_F(TunnelTest, ADyingClientFailsTheCallsToItAndNothingElse) {
    SecretService secrets;
    std::promise<Error> failed;
    serve([&](Joint&, const std::shared_ptr<grpc::Channel>& client) {
        failed.set_value(get_secret(client, "slow").error());
    });
    {
        Client client(daemon_, {&secrets});
        while (secrets.waiting == 0) std::this_thread::yield();
        client.die();
        EXPECT_EQ(failed.get_future().get().code(), Code::unavailable);
    }
    while (session_->ended == 0) std::this_thread::yield();
}

TEST_F(TunnelTest, AClientThatLeavesInOrderIsToldThatAllIsWell) {
    serve([](Joint&, const std::shared_ptr<grpc::Channel>&) {});
    const auto call = RawCall::start(daemon_, kSession, {}, {});
    ASSERT_TRUE(call->close_write());
    const auto end = call->finish();
    EXPECT_TRUE(end) << end.error().to_string();
}

TEST_F(TunnelTest, TheDaemonEndsASession) {
    SecretService secrets;
    serve([](Joint& joint, const std::shared_ptr<grpc::Channel>& client) {
        EXPECT_TRUE(get_secret(client, "x"));
        joint.close();
        EXPECT_EQ(get_secret(client, "y").error().code(), Code::unavailable);
    });
    const Client client(daemon_, {&secrets});
    while (session_->ended == 0) std::this_thread::yield();
}

TEST_F(TunnelTest, GarbageInsideEndsTheSessionOnly) {
    std::promise<bool> answered;
    serve([&](Joint&, const std::shared_ptr<grpc::Channel>& client) {
        answered.set_value(get_secret(client, "x").has_value());
    });
    for (const std::string& garbage : {std::string("HTTP/1.1 200 OK\r\n\r\n"), std::string(100'000, '\xff'),
                                       std::string("\0\0\0\0\0\0\0\0\0", 9) + "x"}) {
        answered = {};
        const auto call = RawCall::start(daemon_, kSession, {}, {});
        moby::buildkit::v1::BytesMessage message;
        message.set_data(garbage);
        ASSERT_TRUE(call->write(message.SerializeAsString()));
        ASSERT_TRUE(call->close_write());
        EXPECT_FALSE(answered.get_future().get());
        static_cast<void>(call->finish());
    }
    // Not even a BytesMessage.
    answered = {};
    const auto call = RawCall::start(daemon_, kSession, {}, {});
    ASSERT_TRUE(call->write("\x0a\x7f short"));
    EXPECT_FALSE(answered.get_future().get());
}

TEST_F(TunnelTest, PiecesMayBeCutAndJoinedAtWill) {
    // A client that sends its bytes one by one, in messages with fields nobody knows, and reads what comes as it likes.
    SecretService secrets;
    std::promise<std::string> answer;
    serve([&](Joint&, const std::shared_ptr<grpc::Channel>& client) {
        answer.set_value(get_secret(client, "s").value_or("failed"));
    });
    auto server = std::move(*StreamServer::start({&secrets}));
    auto [near, far] = socket_pair();
    server->add(std::move(far));
    const auto call = RawCall::start(daemon_, kSession, {}, {});
    std::jthread sender([&, fd = near.get()] {
        std::array<std::byte, 1> one{};
        while (sys::read_some(fd, one).value_or(0) == 1) {
            std::string message = "\x18\x05";  // field 3, a number
            message += std::string("\x0a\x01", 2) + static_cast<char>(one[0]);
            if (!call->write(message)) return;
            if (!call->write("")) return;
        }
    });
    std::jthread receiver([&, fd = near.get()] {
        std::string bytes;
        moby::buildkit::v1::BytesMessage message;
        while (call->read(bytes).value_or(false)) {
            if (!message.ParseFromString(bytes) || !sys::write_all(fd, message.data())) return;
        }
    });
    EXPECT_EQ(answer.get_future().get(), "s of client");
    call->cancel();
    ::shutdown(near.get(), SHUT_RDWR);
}

TEST_F(TunnelTest, AClientThatReadsNothingHoldsNobodyUp) {
    // The daemon writes into the tunnel until its windows are full, then ends the session.
    std::promise<void> full;
    serve([&](Joint& joint, const std::shared_ptr<grpc::Channel>& client) {
        const auto call = RawCall::start(client, "/any/Method", {}, {});
        std::atomic<int> written = 0;
        std::jthread writer([&] {
            while (call->write(std::string(1 << 20, 'x'))) ++written;
        });
        for (int last = -1; last != written;) {
            last = written;
            std::this_thread::sleep_for(std::chrono::milliseconds(100));
        }
        full.set_value();
        joint.close();
    });
    const auto call = RawCall::start(daemon_, kSession, {}, {});
    full.get_future().wait();
    while (session_->ended == 0) std::this_thread::yield();
}

TEST_F(TunnelTest, NothingIsLeftBehind) {
    SecretService secrets;
    std::atomic<int> answered = 0;
    serve([&](Joint&, const std::shared_ptr<grpc::Channel>& client) {
        if (get_secret(client, "x")) ++answered;
    });
    std::size_t files = 0;
    std::size_t tasks = 0;
    int expected = 0;
    for (int i = 0; i < 60; ++i) {
        {
            const auto connection = connect();
            Client client(connection, {&secrets});
            if (i % 3 == 0) {
                client.die();
            } else if (i % 3 == 1) {
                for (++expected; answered < expected;) std::this_thread::yield();
            }
        }
        expected = answered;
        while (session_->ended <= i) std::this_thread::yield();
        if (i == 20) {
            files = open_files();
            tasks = threads();
        }
    }
    // gRPC's own threads come and go; a leak of one each would be forty.
    EXPECT_LE(open_files(), files + 10);
    EXPECT_LE(threads(), tasks + 10);
}

TEST_F(TunnelTest, PipesCarryGrpcToo) {
    // A frontend's standard input and output.
    SecretService secrets;
    auto server = std::move(*StreamServer::start({&secrets}));
    auto to = std::move(*sys::make_pipe());
    auto from = std::move(*sys::make_pipe());
    auto ours =
        std::move(*Joint::create(std::move(*carry_in_files(std::move(to.read_end), std::move(from.write_end)))));
    server->add(ours->take_socket());
    std::jthread run_ours([&] { ours->run(); });
    auto theirs =
        std::move(*Joint::create(std::move(*carry_in_files(std::move(from.read_end), std::move(to.write_end)))));
    auto channel = channel_over(theirs->take_socket());
    std::jthread run_theirs([&] { theirs->run(); });
    EXPECT_EQ(get_secret(channel, "p").value_or("failed"), "p of client");
    channel.reset();
    run_theirs.join();
    run_ours.join();
}

TEST_F(TunnelTest, AFileCarrierThatWaitsIsStopped) {
    auto silent = std::move(*sys::make_pipe());
    auto out = std::move(*sys::make_pipe());
    auto joint =
        std::move(*Joint::create(std::move(*carry_in_files(std::move(silent.read_end), std::move(out.write_end)))));
    const sys::Fd socket = joint->take_socket();
    std::jthread run([&] { joint->run(); });
    joint->close();
}

TEST_F(TunnelTest, RawCallsCarryMessagesMetadataAndErrors) {
    Metadata seen;
    const auto service = make_raw_service(
        {{"/x.Y/Echo",
          [&](MessageStream& stream, const Metadata& metadata) -> Result<> {
              seen = metadata;
              std::string message;
              while (TRY(stream.read(message))) TRY(stream.write(message + "!"));
              return {};
          }},
         {"/x.Y/Refuse", [](MessageStream&, const Metadata&) -> Result<> { return bad_input("no"); }}});
    auto server = std::move(*StreamServer::start({service.get()}));
    auto [a, b] = socket_pair();
    server->add(std::move(a));
    const auto channel = channel_over(std::move(b));

    const auto call = RawCall::start(channel, "/x.Y/Echo", {{"dir-name", "context"}, {"p", "1"}, {"p", "2"}}, {});
    std::string message;
    for (const std::string& text : {std::string("a"), std::string(), std::string(5'000'000, 'z')}) {
        ASSERT_TRUE(call->write(text));
        ASSERT_EQ(call->read(message).value_or(false), true);
        EXPECT_EQ(message, text + "!");
    }
    ASSERT_TRUE(call->close_write());
    ASSERT_TRUE(call->close_write());
    EXPECT_FALSE(call->write("late"));
    const auto end = call->read(message);
    ASSERT_TRUE(end);
    EXPECT_FALSE(*end);
    EXPECT_EQ(find_value(seen, "dir-name"), "context");
    EXPECT_EQ(std::count_if(seen.begin(), seen.end(), [](const auto& pair) { return pair.first == "p"; }), 2);

    EXPECT_EQ(RawCall::start(channel, "/x.Y/Refuse", {}, {})->read(message).error().to_string(), "no");
    EXPECT_EQ(RawCall::start(channel, "/x.Y/Nothing", {}, {})->finish().error().code(), Code::unimplemented);

    StopSource stop;
    const auto stopped = RawCall::start(channel, "/x.Y/Echo", {}, stop.get_token());
    stop.request_stop();
    EXPECT_TRUE(stopped->read(message).error().is_cancelled());
}

TEST_F(TunnelTest, QuestionsHaveOneAnswerInTime) {
    SecretService secrets;
    auto server = std::move(*StreamServer::start({&secrets}));
    auto [a, b] = socket_pair();
    server->add(std::move(a));
    const auto channel = channel_over(std::move(b));
    moby::buildkit::secrets::v1::GetSecretRequest request;
    request.set_id("q");
    Question question{"/moby.buildkit.secrets.v1.Secrets/GetSecret", request.SerializeAsString(), {}, {}};
    moby::buildkit::secrets::v1::GetSecretResponse response;
    const auto answer = ask(channel, question, {});
    ASSERT_TRUE(answer) << answer.error().to_string();
    ASSERT_TRUE(response.ParseFromString(*answer));
    EXPECT_EQ(response.data(), "q of client");

    request.set_id("missing");
    question.request = request.SerializeAsString();
    EXPECT_EQ(ask(channel, question, {}).error().code(), Code::not_found);
    request.set_id("slow");
    question.request = request.SerializeAsString();
    question.timeout = std::chrono::milliseconds(50);
    EXPECT_EQ(ask(channel, question, {}).error().code(), Code::deadline_exceeded);
}

TEST_F(TunnelTest, WhatAHeaderCannotCarryIsAnErrorOrEscaped) {
    Metadata seen;
    const auto service = make_raw_service({{"/x.Y/Take", [&](MessageStream&, const Metadata& metadata) -> Result<> {
                                                seen = metadata;
                                                return {};
                                            }}});
    auto server = std::move(*StreamServer::start({service.get()}));
    auto [a, b] = socket_pair();
    server->add(std::move(a));
    const auto channel = channel_over(std::move(b));
    for (const auto& entry :
         Metadata{{"key", "a\nb"}, {"key", "\xff"}, {"Key", "x"}, {"a b", "x"}, {"", "x"}, {"x-bin", "x"}}) {
        const auto call = RawCall::start(channel, "/x.Y/Take", {entry}, {});
        EXPECT_FALSE(call->write("x"));
        EXPECT_TRUE(call->close_write());
        EXPECT_EQ(call->finish().error().code(), Code::invalid_argument) << entry.first;
    }
    const std::vector<std::string> odd = {"a b+c%", "grün\n", std::string("\0x", 2)};
    Metadata metadata;
    add_encoded(metadata, "include-patterns", odd);
    add_encoded(metadata, "exclude-patterns", {"plain +%41"});
    ASSERT_TRUE(RawCall::start(channel, "/x.Y/Take", metadata, {})->finish());
    EXPECT_EQ(decoded_values(seen, "include-patterns"), odd);
    EXPECT_EQ(decoded_values(seen, "exclude-patterns"), std::vector<std::string>{"plain +%41"});
    EXPECT_EQ(decoded_values({{"k", "%4"}, {"k-encoded", "1"}}, "k"), std::vector<std::string>{""});
}

}  // namespace cooper::rpc
