#include "base/text.hpp"
#include "rpc/detail/buffers.hpp"
#include "rpc/message_stream.hpp"
#include "rpc/status.hpp"

#include <atomic>
#include <grpc/grpc.h>
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
    std::atomic<bool> over = false;      // a write has failed: how the call ended is on its way
    bool closed = false;  // of the writing thread; gRPC aborts the program when it hears more after the end
    Stop stop;
    std::optional<std::stop_callback<std::function<void()>>> on_stop;
};

RawCall::RawCall() = default;

namespace {

// gRPC aborts the program when it is given what HTTP/2 cannot carry.
bool is_legal(const std::pair<std::string, std::string>& entry) {
    const auto key = ::grpc_slice_from_static_buffer(entry.first.data(), entry.first.size());
    const auto value = ::grpc_slice_from_static_buffer(entry.second.data(), entry.second.size());
    return ::grpc_header_key_is_legal(key) != 0 && ::grpc_is_binary_header(key) == 0 &&
           ::grpc_header_nonbin_value_is_legal(value) != 0;
}

// More than a window's worth of messages that nobody asked for.
constexpr int kMaxDropped = 1000;

}  // namespace

std::unique_ptr<RawCall> RawCall::start(std::shared_ptr<grpc::Channel> channel, const std::string& method,
                                        const Metadata& metadata, Stop stop) {
    auto raw = std::unique_ptr<RawCall>(new RawCall);
    raw->call_ = std::make_unique<Call>();
    raw->call_->channel = std::move(channel);
    raw->call_->method = method;
    raw->call_->stop = std::move(stop);
    raw->begin(metadata);
    return raw;
}

void RawCall::begin(const Metadata& metadata) {
    Call& call = *call_;
    for (const auto& entry : metadata) {
        if (!is_legal(entry)) {
            call.status = grpc::Status(
                grpc::StatusCode::INVALID_ARGUMENT,
                "metadata of a call is not printable: " + quoted(entry.first) + ": " + quoted(entry.second));
            return;
        }
        call.context.AddMetadata(entry.first, entry.second);
    }
    call.stream.reset(grpc::internal::ClientReaderWriterFactory<grpc::ByteBuffer, grpc::ByteBuffer>::Create(
        call.channel.get(), grpc::internal::RpcMethod(call.method.c_str(), grpc::internal::RpcMethod::BIDI_STREAMING),
        &call.context));
    call.on_stop.emplace(call.stop, [&context = call.context] { context.TryCancel(); });
}

RawCall::~RawCall() {
    call_->context.TryCancel();
    // gRPC wants every call finished before it goes.
    static_cast<void>(finish());
}

void RawCall::cancel() {
    // Cancelling what is over would replace the reason that the peer gave.
    if (!call_->over) call_->context.TryCancel();
}

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

Result<> RawCall::write(std::string_view message) { return write_with(message, false); }
Result<> RawCall::write_ahead(std::string_view message) { return write_with(message, true); }

Result<> RawCall::write_with(std::string_view message, bool ahead) {
    if (call_->stream == nullptr) return finish();
    if (call_->closed)
        return fail(Code::internal, Blame::cooper, "more was written after the end to {}", call_->method);
    if (call_->stream->Write(detail::to_buffer(message), detail::how_to_write(ahead))) return {};
    call_->over = true;
    if (call_->stop.stop_requested()) return cancelled();
    return fail(Code::unavailable, Blame::world, "the peer ended the call {}", call_->method);
}

Result<> RawCall::close_write() {
    // False when the call has ended already, which finish() reports.
    if (call_->stream != nullptr && !call_->closed) call_->stream->WritesDone();
    call_->closed = true;
    return {};
}

Result<> RawCall::finish() {
    if (!call_->status) {
        grpc::ByteBuffer rest;
        for (int dropped = 0; call_->stream->Read(&rest); rest.Clear()) {
            if (++dropped == kMaxDropped) call_->context.TryCancel();
        }
        call_->status = call_->stream->Finish();
    }
    if (call_->status->ok()) return {};
    if (call_->stop.stop_requested()) return cancelled();
    return from_status(*call_->status);
}

Result<std::string> ask(const std::shared_ptr<grpc::Channel>& channel, const Question& question, Stop stop) {
    RawCall raw;
    raw.call_ = std::make_unique<RawCall::Call>();
    raw.call_->channel = channel;
    raw.call_->method = question.method;
    raw.call_->stop = std::move(stop);
    if (question.timeout.count() > 0) {
        raw.call_->context.set_deadline(std::chrono::system_clock::now() + question.timeout);
    }
    raw.begin(question.metadata);
    // Its failure is told by read().
    if (raw.write(question.request)) TRY(raw.close_write());
    std::string answer;
    if (!TRY(raw.read(answer))) return fail(Code::internal, Blame::world, "{} has no answer", question.method);
    TRY(raw.finish());
    return answer;
}

}  // namespace cooper::rpc
