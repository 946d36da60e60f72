// A client's session as a build sees it: gRPC in a tunnel in gRPC over a unix socket, both ends in this process.
// context_one_big_file and export_file (MB/s), context_small_files and context_unchanged (files/s), questions (us
// each).
//     session_bench FOLDER [MEGABYTES] [FILES]
#include "base/clock.hpp"
#include "daemon/detail/call_packets.hpp"
#include "daemon/local_slots.hpp"
#include "daemon/sessions.hpp"
#include "filesync/local_tree.hpp"
#include "filesync/send.hpp"
#include "rpc/bytes_message.hpp"
#include "rpc/channel.hpp"
#include "rpc/joint.hpp"
#include "sys/temp_dir.hpp"

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <grpcpp/channel.h>
#include <grpcpp/impl/rpc_service_method.h>
#include <grpcpp/impl/service_type.h>
#include <grpcpp/support/method_handler.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <thread>

using namespace cooper;

namespace {

template <class T>
T must(Result<T> result) {
    if (result) {
        if constexpr (std::is_void_v<T>) {
            return;
        } else {
            return std::move(*result);
        }
    }
    std::fprintf(stderr, "%s\n", result.error().to_string().c_str());
    std::exit(1);
}

class Control final : public grpc::Service {
public:
    explicit Control(daemon::Sessions& sessions) {
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

std::unique_ptr<grpc::Service> client_service() {
    return rpc::make_raw_service(
        {{"/moby.filesync.v1.FileSync/DiffCopy",
          [](rpc::MessageStream& stream, const rpc::Metadata& metadata) -> Result<> {
              const auto tree = TRY(filesync::open_local_tree(rpc::decoded_values(metadata, "dir-name").at(0), {}));
              daemon::detail::CallPackets packets(stream);
              TRY(filesync::send(packets, {{.name = "", .tree = tree}}, {}, {}));
              return {};
          }},
         {"/moby.filesync.v1.FileSend/DiffCopy", [](rpc::MessageStream& stream, const rpc::Metadata&) -> Result<> {
              std::string message;
              while (TRY(stream.read(message))) TRY(rpc::unwrap_bytes(message));
              return {};
          }}});
}

double seconds_of(const auto& work) {
    const auto start = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::string folder(const std::string& path) {
    ::mkdir(path.c_str(), 0755);
    return path;
}

void write_file(const std::string& path, std::string_view content, int times) {
    const sys::Fd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    for (int i = 0; i < times; ++i) must(sys::write_all(file.get(), content));
}

std::array<sys::Fd, 2> socket_pair() {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) std::exit(1);
    return {sys::Fd(ends[0]), sys::Fd(ends[1])};
}

}  // namespace

int main(int argc, char** argv) {
    const std::string base = argc > 1 ? argv[1] : "/tmp";
    const int megabytes = argc > 2 ? std::atoi(argv[2]) : 1000;
    const int files = argc > 3 ? std::atoi(argv[3]) : 50'000;
    rpc::start_library();
    const sys::TempDir temp = must(sys::TempDir::create(base, "session-bench-"));
    const std::string big = folder(temp.path() + "/big");
    write_file(big + "/file", std::string(1'000'000, 'x'), megabytes);
    const std::string small = folder(temp.path() + "/small");
    for (int i = 0; i < files; ++i) {
        const std::string dir = small + "/" + std::to_string(i / 100);
        if (i % 100 == 0) folder(dir);
        write_file(dir + "/" + std::to_string(i), std::string(1000, 'x'), 1);
    }

    const auto slots = must(daemon::LocalSlots::open(folder(temp.path() + "/state"), {}));
    daemon::Sessions sessions(*slots, {.scratch_dir = temp.path()});
    Control control(sessions);
    const auto server = must(rpc::StreamServer::start({&control}));
    auto [near, far] = socket_pair();
    server->add(std::move(near));
    const auto service = client_service();
    const auto health = rpc::make_health_service();
    const auto client = must(rpc::StreamServer::start({service.get(), health.get()}));
    const auto joint = must(rpc::Joint::create(
        rpc::carry_in_call(rpc::channel_over(std::move(far)), "/moby.buildkit.v1.Control/Session",
                           {{"x-docker-expose-session-uuid", "bench"},
                            {"x-docker-expose-session-grpc-method", "/moby.filesync.v1.FileSync/DiffCopy"},
                            {"x-docker-expose-session-grpc-method", "/moby.filesync.v1.FileSend/DiffCopy"}})));
    client->add(joint->take_socket());
    const std::jthread carry([&] { joint->run(); });
    const auto session = must(sessions.find("bench", {}));

    NullProgress sink;
    const SystemClock clock;
    VertexProgress progress(sink, Digest(), clock);
    auto transfer = [&](const std::string& directory) {
        return seconds_of([&] { must(session->local_files({.name = directory}, progress, {})); });
    };
    std::printf("context_one_big_file %8.0f MB/s\n", megabytes / transfer(big));
    std::printf("context_small_files  %8.0f files/s\n", files / transfer(small));
    std::printf("context_unchanged    %8.0f files/s\n", files / transfer(small));
    std::printf("export_file          %8.0f MB/s\n", megabytes / seconds_of([&] {
                                                         const std::string piece(1'000'000, 'y');
                                                         const auto out = must(session->export_file(0, {}, {}));
                                                         for (int i = 0; i < megabytes; ++i)
                                                             must(out->write(as_bytes(piece)));
                                                         must(out->finish());
                                                     }));
    constexpr int kQuestions = 1000;
    std::printf("questions            %8.0f us each\n",
                1e6 / kQuestions * seconds_of([&] {
                    for (int i = 0; i < kQuestions; ++i) must(session->check_health(std::chrono::seconds(5), {}));
                }));
    joint->close();
    return 0;
}
