#include "daemon/control.hpp"

#include "daemon/detail/timestamps.hpp"
#include "daemon/filter.hpp"
#include "daemon/sessions.hpp"
#include "daemon/usage.hpp"
#include "engine/engine.hpp"
#include "proto/control.grpc.pb.h"
#include "rpc/status.hpp"

#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/rpc_service_method.h>
#include <grpcpp/support/method_handler.h>
#include <sys/stat.h>

namespace cooper::daemon {

namespace {

namespace v1 = moby::buildkit::v1;
using Context = grpc::ServerContext;
using RawStream = grpc::ServerReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>;

constexpr auto kStatusWait = std::chrono::seconds(6);
constexpr std::size_t kMaxRef = 512;

grpc::Status to_grpc(const Result<>& result) { return result ? grpc::Status::OK : rpc::to_status(result.error()); }

std::vector<std::string> texts_of(const google::protobuf::RepeatedPtrField<std::string>& texts) {
    return {texts.begin(), texts.end()};
}

// Registered by hand: messages of Session and Status pass as the bytes they are.
class ControlService final : public grpc::Service {
public:
    explicit ControlService(const ControlParts& parts) : parts_(parts) {
        unary<v1::DiskUsageRequest, v1::DiskUsageResponse>("DiskUsage", &ControlService::disk_usage);
        stream<v1::PruneRequest, v1::UsageRecord>("Prune", &ControlService::prune);
        unary<v1::SolveRequest, v1::SolveResponse>("Solve", &ControlService::solve);
        stream<v1::StatusRequest, grpc::ByteBuffer>("Status", &ControlService::status);
        unary<v1::ListWorkersRequest, v1::ListWorkersResponse>("ListWorkers", &ControlService::list_workers);
        unary<v1::InfoRequest, v1::InfoResponse>("Info", &ControlService::info);
        stream<v1::BuildHistoryRequest, v1::BuildHistoryEvent>("ListenBuildHistory", &ControlService::listen);
        unary<v1::UpdateBuildHistoryRequest, v1::UpdateBuildHistoryResponse>("UpdateBuildHistory",
                                                                             &ControlService::update);
        AddMethod(new grpc::internal::RpcServiceMethod(
            "/moby.buildkit.v1.Control/Session", grpc::internal::RpcMethod::BIDI_STREAMING,
            new grpc::internal::BidiStreamingHandler<ControlService, grpc::ByteBuffer, grpc::ByteBuffer>(
                [](ControlService* self, Context* context, RawStream* stream) {
                    return self->parts_.sessions.serve(*context, *stream);
                },
                this)));
    }

private:
    template <class Request, class Response>
    void unary(const char* name, grpc::Status (ControlService::*serve)(Context&, const Request&, Response&)) {
        AddMethod(new grpc::internal::RpcServiceMethod(
            path(name), grpc::internal::RpcMethod::NORMAL_RPC,
            new grpc::internal::RpcMethodHandler<ControlService, Request, Response, grpc::protobuf::MessageLite,
                                                 grpc::protobuf::MessageLite>(
                [serve](ControlService* self, Context* context, const Request* request, Response* response) {
                    return (self->*serve)(*context, *request, *response);
                },
                this)));
    }
    template <class Request, class Message>
    void stream(const char* name,
                grpc::Status (ControlService::*serve)(Context&, const Request&, grpc::ServerWriter<Message>&)) {
        AddMethod(new grpc::internal::RpcServiceMethod(
            path(name), grpc::internal::RpcMethod::SERVER_STREAMING,
            new grpc::internal::ServerStreamingHandler<ControlService, Request, Message>(
                [serve](ControlService* self, Context* context, const Request* request,
                        grpc::ServerWriter<Message>* writer) { return (self->*serve)(*context, *request, *writer); },
                this)));
    }
    // gRPC keeps the pointer.
    const char* path(const char* name) {
        paths_.push_back(std::make_unique<std::string>(std::string("/moby.buildkit.v1.Control/") + name));
        return paths_.back()->c_str();
    }

    grpc::Status solve(Context& context, const v1::SolveRequest& request, v1::SolveResponse& response) {
        if (request.ref().empty() || request.ref().size() > kMaxRef) {
            return rpc::to_status(bad_input("a build needs a ref of 1 to {} characters", kMaxRef));
        }
        CallWatcher::Watch watch(parts_.calls, context);
        auto progress = parts_.hub.open(request.ref());
        if (!progress) return rpc::to_status(progress.error());
        if (!request.internal()) parts_.history.begin(request);
        const grpc::Status status = parts_.solve.solve(request, **progress, response, watch.stop());
        parts_.hub.close(request.ref());
        parts_.collector.notice_build();
        ++(status.ok()                                          ? parts_.counters.builds_done
           : status.error_code() == grpc::StatusCode::CANCELLED ? parts_.counters.builds_cancelled
                                                                : parts_.counters.builds_failed);
        if (!request.internal()) parts_.history.complete(request.ref(), status, response, **progress);
        return status;
    }

    grpc::Status status(Context& context, const v1::StatusRequest& request,
                        grpc::ServerWriter<grpc::ByteBuffer>& writer) {
        CallWatcher::Watch watch(parts_.calls, context);
        context.AddInitialMetadata("buildkit-current-timestamp", format_rfc3339(parts_.clock.now()));
        auto progress = parts_.hub.find(request.ref(), std::chrono::milliseconds(0), watch.stop());
        if (!progress) {
            if (const auto log = parts_.history.open_log(request.ref())) return replay(*log, writer);
            progress = parts_.hub.find(request.ref(), kStatusWait, watch.stop());
        }
        if (!progress) return rpc::to_status(progress.error());
        for (std::uint64_t offset = 0;;) {
            const auto batch = (*progress)->read(offset, watch.stop());
            if (!batch) return rpc::to_status(batch.error());
            if (!*batch) return grpc::Status::OK;
            if (!write(writer, **batch)) return grpc::Status::CANCELLED;
        }
    }
    static bool write(grpc::ServerWriter<grpc::ByteBuffer>& writer, const std::string& message) {
        const grpc::Slice slice(message);
        return writer.Write(grpc::ByteBuffer(&slice, 1));
    }
    static grpc::Status replay(const sys::Fd& log, grpc::ServerWriter<grpc::ByteBuffer>& writer) {
        struct stat st{};
        if (::fstat(log.get(), &st) != 0) return rpc::to_status(fail_errno(errno, "read the log of the build"));
        for (std::uint64_t offset = 0; offset < static_cast<std::uint64_t>(st.st_size);) {
            const auto batch = read_journal(log.get(), offset, static_cast<std::uint64_t>(st.st_size));
            if (!batch) return rpc::to_status(batch.error());
            if (!write(writer, *batch)) return grpc::Status::CANCELLED;
        }
        return grpc::Status::OK;
    }

    grpc::Status list_workers(Context& /*context*/, const v1::ListWorkersRequest& request,
                              v1::ListWorkersResponse& response) {
        const auto filters = parse_filters(texts_of(request.filter()));
        if (!filters) return rpc::to_status(filters.error());
        const auto here = any_matches(
            *filters, {.find = [&](const Filter::Path& path) { return field_of(parts_.worker, path); }, .compare = {}});
        if (!here) return rpc::to_status(here.error());
        if (*here) put_worker(parts_.worker, *response.add_record());
        return grpc::Status::OK;
    }

    grpc::Status info(Context& /*context*/, const v1::InfoRequest& /*request*/, v1::InfoResponse& response) {
        put_version(*response.mutable_buildkitversion());
        return grpc::Status::OK;
    }

    grpc::Status disk_usage(Context& /*context*/, const v1::DiskUsageRequest& request,
                            v1::DiskUsageResponse& response) {
        return to_grpc([&]() -> Result<> {
            for (const auto& row : TRY(find_usage(parts_.engine, texts_of(request.filter()),
                                                  std::chrono::nanoseconds(request.agelimit()), parts_.clock.now()))) {
                put_usage(row, *response.add_record());
            }
            return {};
        }());
    }

    grpc::Status prune(Context& context, const v1::PruneRequest& request, grpc::ServerWriter<v1::UsageRecord>& writer) {
        CallWatcher::Watch watch(parts_.calls, context);
        GcPolicy policy;
        policy.all = request.all();
        policy.filters = texts_of(request.filter());
        policy.keep_duration_s = request.keepduration() / 1'000'000'000;
        policy.reserved_bytes = static_cast<std::uint64_t>(std::max<std::int64_t>(0, request.reservedspace()));
        policy.max_used_bytes = static_cast<std::uint64_t>(std::max<std::int64_t>(0, request.maxusedspace()));
        policy.min_free_bytes = static_cast<std::uint64_t>(std::max<std::int64_t>(0, request.minfreespace()));
        const auto removed = prune_by(parts_.engine, policy);
        if (!removed) return rpc::to_status(removed.error());
        for (const auto& row : *removed) {
            v1::UsageRecord record;
            put_usage(row, record);
            if (!writer.Write(record)) return grpc::Status::CANCELLED;
        }
        return grpc::Status::OK;
    }

    grpc::Status listen(Context& context, const v1::BuildHistoryRequest& request,
                        grpc::ServerWriter<v1::BuildHistoryEvent>& writer) {
        CallWatcher::Watch watch(parts_.calls, context);
        context.AddInitialMetadata("buildkit-current-timestamp", format_rfc3339(parts_.clock.now()));
        writer.SendInitialMetadata();
        return to_grpc(parts_.history.listen(
            request, [&](const v1::BuildHistoryEvent& event) { return writer.Write(event); }, watch.stop()));
    }

    grpc::Status update(Context& /*context*/, const v1::UpdateBuildHistoryRequest& request,
                        v1::UpdateBuildHistoryResponse& /*response*/) {
        return to_grpc(parts_.history.update(request));
    }

    const ControlParts parts_;
    std::vector<std::unique_ptr<std::string>> paths_;
};

}  // namespace

std::unique_ptr<grpc::Service> make_control_service(const ControlParts& parts) {
    return std::make_unique<ControlService>(parts);
}

}  // namespace cooper::daemon
