#include "rpc/detail/buffers.hpp"
#include "rpc/message_stream.hpp"
#include "rpc/status.hpp"

#include <grpcpp/impl/rpc_service_method.h>
#include <grpcpp/impl/service_type.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/method_handler.h>
#include <grpcpp/support/sync_stream.h>

namespace cooper::rpc {

namespace {

using Stream = grpc::ServerReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>;

class ServedCall final : public MessageStream {
public:
    ServedCall(grpc::ServerContext& context, Stream& stream) : context_(context), stream_(stream) {}

    Result<bool> read(std::string& message) override {
        grpc::ByteBuffer buffer;
        if (!stream_.Read(&buffer)) {
            if (context_.IsCancelled()) return fail(Code::cancelled, Blame::world, "the peer ended the call");
            return false;
        }
        message.clear();
        detail::append_to(message, buffer);
        return true;
    }
    Result<> write(std::string_view message) override { return write_with(message, false); }
    Result<> write_ahead(std::string_view message) override { return write_with(message, true); }
    Result<> close_write() override { return {}; }
    void cancel() override { context_.TryCancel(); }

private:
    // The first write takes the call's metadata along, and gRPC ends it only when these are sent: it cannot wait.
    Result<> write_with(std::string_view message, bool ahead) {
        const bool waits = ahead && begun_;
        begun_ = true;
        if (stream_.Write(detail::to_buffer(message), detail::how_to_write(waits))) return {};
        return fail(Code::cancelled, Blame::world, "the peer ended the call");
    }

    grpc::ServerContext& context_;
    Stream& stream_;
    bool begun_ = false;  // of the writing thread
};

class RawService final : public grpc::Service {
public:
    explicit RawService(std::vector<RawMethod> methods) : methods_(std::move(methods)) {
        for (const auto& method : methods_) {
            AddMethod(new grpc::internal::RpcServiceMethod(
                method.path.c_str(), grpc::internal::RpcMethod::BIDI_STREAMING,
                new grpc::internal::BidiStreamingHandler<RawService, grpc::ByteBuffer, grpc::ByteBuffer>(
                    [&method](RawService*, grpc::ServerContext* context, Stream* stream) -> grpc::Status {
                        ServedCall call(*context, *stream);
                        const auto served = method.serve(call, metadata_of(*context));
                        return served ? grpc::Status::OK : to_status(served.error());
                    },
                    this)));
        }
    }

private:
    const std::vector<RawMethod> methods_;  // gRPC keeps pointers to the paths
};

}  // namespace

std::unique_ptr<grpc::Service> make_raw_service(std::vector<RawMethod> methods) {
    return std::make_unique<RawService>(std::move(methods));
}

}  // namespace cooper::rpc
