#include "rpc/detail/buffers.hpp"
#include "rpc/message_stream.hpp"
#include "rpc/status.hpp"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/impl/rpc_method.h>
#include <grpcpp/support/sync_stream.h>
#include <mutex>
#include <optional>

namespace cooper::rpc {

struct RawCall::Call {
    std::shared_ptr<grpc::Channel> channel;
    std::string method;
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>> stream;
    std::optional<grpc::Status> status;  // of the reading thread
    Stop stop;
    std::optional<std::stop_callback<std::function<void()>>> on_stop;
};

RawCall::RawCall() = default;

std::unique_ptr<RawCall> RawCall::start(std::shared_ptr<grpc::Channel> channel, const std::string& method,
                                        const Metadata& metadata, Stop stop) {
    auto raw = std::unique_ptr<RawCall>(new RawCall);
    raw->call_ = std::make_unique<Call>();
    Call& call = *raw->call_;
    call.channel = std::move(channel);
    call.method = method;
    call.stop = std::move(stop);
    for (const auto& [key, value] : metadata) call.context.AddMetadata(key, value);
    call.stream.reset(grpc::internal::ClientReaderWriterFactory<grpc::ByteBuffer, grpc::ByteBuffer>::Create(
        call.channel.get(), grpc::internal::RpcMethod(call.method.c_str(), grpc::internal::RpcMethod::BIDI_STREAMING),
        &call.context));
    call.on_stop.emplace(call.stop, [&context = call.context] { context.TryCancel(); });
    return raw;
}

RawCall::~RawCall() {
    cancel();
    // gRPC wants every call finished before it goes.
    static_cast<void>(finish());
}

void RawCall::cancel() { call_->context.TryCancel(); }

Result<bool> RawCall::read(std::string& message) {
    grpc::ByteBuffer buffer;
    if (!call_->status && call_->stream->Read(&buffer)) {
        message.clear();
        detail::append_to(message, buffer);
        return true;
    }
    TRY(finish());
    return false;
}

Result<> RawCall::write(std::string_view message) {
    if (call_->stream->Write(detail::to_buffer(message))) return {};
    if (call_->stop.stop_requested()) return cancelled();
    return fail(Code::unavailable, Blame::world, "the peer ended the call {}", call_->method);
}

Result<> RawCall::close_write() {
    // False when the call has ended already, which finish() reports.
    call_->stream->WritesDone();
    return {};
}

Result<> RawCall::finish() {
    if (!call_->status) {
        grpc::ByteBuffer rest;
        while (call_->stream->Read(&rest)) rest.Clear();
        call_->status = call_->stream->Finish();
    }
    if (call_->status->ok()) return {};
    if (call_->stop.stop_requested()) return cancelled();
    return from_status(*call_->status);
}

}  // namespace cooper::rpc
