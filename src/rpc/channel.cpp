#include "rpc/channel.hpp"

#include "base/log.hpp"
#include "rpc/detail/options.hpp"

#include <csignal>
#include <fcntl.h>
#include <grpc/support/log.h>
#include <grpcpp/create_channel_posix.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <grpcpp/server_posix.h>

namespace cooper::rpc {

namespace {

void log_of_grpc(gpr_log_func_args* args) {
    const char* file = args->file;
    for (const char* at = file; *at != '\0'; ++at) {
        if (*at == '/') file = at + 1;
    }
    log::debug("gRPC", {{"message", args->message}, {"at", fmt::format("{}:{}", file, args->line)}});
}

// gRPC sets nothing on sockets that it is given.
int release_nonblocking(sys::Fd socket) {
    const int flags = ::fcntl(socket.get(), F_GETFL);
    ::fcntl(socket.get(), F_SETFL, flags | O_NONBLOCK);
    return socket.release();
}

}  // namespace

void start_library() {
    ::signal(SIGPIPE, SIG_IGN);
    ::gpr_set_log_function(log_of_grpc);
}

namespace detail {

grpc::ChannelArguments channel_arguments() {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
    arguments.SetMaxSendMessageSize(kMaxMessageBytes);
    arguments.SetInt(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
    arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kWindowBytes);
    return arguments;
}

void set_options(grpc::ServerBuilder& builder) {
    builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
    builder.SetMaxSendMessageSize(kMaxMessageBytes);
    builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kWindowBytes);
    builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
    builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
    builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 2);
}

}  // namespace detail

std::shared_ptr<grpc::Channel> channel_over(sys::Fd socket) {
    grpc::ChannelArguments arguments = detail::channel_arguments();
    arguments.SetString(GRPC_ARG_DEFAULT_AUTHORITY, "localhost");
    return grpc::CreateCustomInsecureChannelFromFd("localhost", release_nonblocking(std::move(socket)), arguments);
}

Result<std::unique_ptr<StreamServer>> StreamServer::start(const std::vector<grpc::Service*>& services) {
    grpc::ServerBuilder builder;
    detail::set_options(builder);
    for (grpc::Service* service : services) builder.RegisterService(service);
    auto server = std::unique_ptr<StreamServer>(new StreamServer);
    server->server_ = builder.BuildAndStart();
    if (server->server_ == nullptr) return fail(Code::internal, Blame::cooper, "gRPC refuses to serve");
    return server;
}

StreamServer::~StreamServer() {
    if (server_ != nullptr) shutdown({});
}

void StreamServer::add(sys::Fd socket) {
    grpc::AddInsecureChannelFromFd(server_.get(), release_nonblocking(std::move(socket)));
}

void StreamServer::shutdown(std::chrono::milliseconds grace) {
    server_->Shutdown(std::chrono::system_clock::now() + grace);
    server_->Wait();
}

}  // namespace cooper::rpc
