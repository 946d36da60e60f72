#include "client/control.hpp"

#include "client/detail/timestamps.hpp"
#include "proto/content.grpc.pb.h"
#include "proto/control.grpc.pb.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <stop_token>

namespace cooper::client {

namespace {

namespace control = moby::buildkit::v1;
namespace content = containerd::services::content::v1;

// A context that a stop cancels.
struct Call {
    explicit Call(const Stop& stop) : on_stop(stop, [this] { context.TryCancel(); }) {}
    grpc::ClientContext context;
    std::stop_callback<std::function<void()>> on_stop;
};

Result<> ended(const Connection& connection, const grpc::Status& status, const Stop& stop) {
    if (stop.stop_requested()) return cancelled();
    if (!status.ok()) return connection.to_error(status);
    return {};
}

Version to_version(const control::types::BuildkitVersion& version) {
    return {.package = version.package(), .version = version.version(), .revision = version.revision()};
}

Worker to_worker(const control::types::WorkerRecord& record) {
    Worker worker;
    worker.id = record.id();
    worker.labels = Attributes(record.labels().begin(), record.labels().end());
    for (const auto& platform : record.platforms()) {
        std::string text = platform.os() + "/" + platform.architecture();
        if (!platform.variant().empty()) text += "/" + platform.variant();
        worker.platforms.push_back(std::move(text));
    }
    for (const auto& rule : record.gcpolicy()) {
        GcRule policy{.all = rule.all()};
        policy.filters.assign(rule.filters().begin(), rule.filters().end());
        policy.keep_duration = std::chrono::nanoseconds(rule.keepduration());
        policy.reserved_bytes = rule.reservedspace();
        policy.max_used_bytes = rule.maxusedspace();
        policy.min_free_bytes = rule.minfreespace();
        worker.gc_policy.push_back(std::move(policy));
    }
    worker.version = to_version(record.buildkitversion());
    return worker;
}

UsageRecord to_usage(const control::UsageRecord& record) {
    UsageRecord usage;
    usage.id = record.id();
    usage.is_mutable = record.mutable_();
    usage.in_use = record.inuse();
    usage.shared = record.shared();
    usage.size_bytes = record.size();
    usage.parents.assign(record.parents().begin(), record.parents().end());
    if (usage.parents.empty() && !record.parent().empty()) usage.parents.push_back(record.parent());
    if (record.has_createdat()) usage.created = detail::to_time(record.createdat());
    if (record.has_lastusedat()) usage.last_used = detail::to_time(record.lastusedat());
    usage.usage_count = record.usagecount();
    usage.description = record.description();
    usage.type = record.recordtype();
    return usage;
}

Descriptor to_descriptor(const control::Descriptor& descriptor) {
    return {.media_type = descriptor.media_type(), .digest = descriptor.digest(), .size_bytes = descriptor.size()};
}

HistoryRecord to_history(const control::BuildHistoryEvent& event) {
    const control::BuildHistoryRecord& record = event.record();
    HistoryRecord history;
    history.event = control::BuildHistoryEventType_Name(event.type());
    history.ref = record.ref();
    history.frontend = record.frontend();
    history.frontend_attrs = Attributes(record.frontendattrs().begin(), record.frontendattrs().end());
    if (record.has_error()) history.error = record.error().message();
    if (record.has_createdat()) history.created = detail::to_time(record.createdat());
    if (record.has_completedat()) history.completed = detail::to_time(record.completedat());
    if (record.has_logs()) history.logs = to_descriptor(record.logs());
    if (record.has_trace()) history.trace = to_descriptor(record.trace());
    for (const auto& one : record.result().attestations()) history.attestations.emplace_back("", to_descriptor(one));
    for (const auto& [platform, result] : record.results()) {
        for (const auto& one : result.attestations()) history.attestations.emplace_back(platform, to_descriptor(one));
    }
    history.exporter_response = Attributes(record.exporterresponse().begin(), record.exporterresponse().end());
    history.generation = record.generation();
    history.pinned = record.pinned();
    history.cached_steps = record.numcachedsteps();
    history.completed_steps = record.numcompletedsteps();
    history.total_steps = record.numtotalsteps();
    history.warnings = record.numwarnings();
    return history;
}

}  // namespace

Result<std::vector<Worker>> list_workers(const Connection& connection, const std::vector<std::string>& filters,
                                         const Stop& stop) {
    Call call(stop);
    control::ListWorkersRequest request;
    for (const auto& filter : filters) request.add_filter(filter);
    control::ListWorkersResponse response;
    const auto stub = control::Control::NewStub(connection.channel());
    TRY(ended(connection, stub->ListWorkers(&call.context, request, &response), stop));
    std::vector<Worker> workers;
    for (const auto& record : response.record()) workers.push_back(to_worker(record));
    return workers;
}

Result<Version> info(const Connection& connection, const Stop& stop) {
    Call call(stop);
    control::InfoResponse response;
    const auto stub = control::Control::NewStub(connection.channel());
    TRY(ended(connection, stub->Info(&call.context, control::InfoRequest(), &response), stop));
    return to_version(response.buildkitversion());
}

Result<std::vector<UsageRecord>> disk_usage(const Connection& connection, const std::vector<std::string>& filters,
                                            const Stop& stop) {
    Call call(stop);
    control::DiskUsageRequest request;
    for (const auto& filter : filters) request.add_filter(filter);
    control::DiskUsageResponse response;
    const auto stub = control::Control::NewStub(connection.channel());
    TRY(ended(connection, stub->DiskUsage(&call.context, request, &response), stop));
    std::vector<UsageRecord> records;
    for (const auto& record : response.record()) records.push_back(to_usage(record));
    return records;
}

Result<> prune(const Connection& connection, const PruneSpec& spec,
               const std::function<void(const UsageRecord&)>& visit, const Stop& stop) {
    Call call(stop);
    control::PruneRequest request;
    for (const auto& filter : spec.filters) request.add_filter(filter);
    request.set_all(spec.all);
    request.set_keepduration(spec.keep_duration.count());
    request.set_reservedspace(spec.reserved_bytes);
    request.set_maxusedspace(spec.max_used_bytes);
    request.set_minfreespace(spec.min_free_bytes);
    const auto stub = control::Control::NewStub(connection.channel());
    const auto reader = stub->Prune(&call.context, request);
    control::UsageRecord record;
    while (reader->Read(&record)) visit(to_usage(record));
    return ended(connection, reader->Finish(), stop);
}

Result<> list_history(const Connection& connection, const HistoryFilter& filter,
                      const std::function<void(const HistoryRecord&)>& visit, const Stop& stop) {
    Call call(stop);
    control::BuildHistoryRequest request;
    request.set_activeonly(filter.active_only);
    request.set_ref(filter.ref);
    request.set_earlyexit(filter.early_exit);
    for (const auto& one : filter.filters) request.add_filter(one);
    request.set_limit(filter.limit);
    const auto stub = control::Control::NewStub(connection.channel());
    const auto reader = stub->ListenBuildHistory(&call.context, request);
    control::BuildHistoryEvent event;
    while (reader->Read(&event)) visit(to_history(event));
    return ended(connection, reader->Finish(), stop);
}

Result<> update_history(const Connection& connection, const std::string& ref, HistoryUpdate update, const Stop& stop) {
    Call call(stop);
    control::UpdateBuildHistoryRequest request;
    request.set_ref(ref);
    request.set_pinned(update == HistoryUpdate::pin);
    request.set_delete_(update == HistoryUpdate::remove);
    request.set_finalize(update == HistoryUpdate::finalize);
    control::UpdateBuildHistoryResponse response;
    const auto stub = control::Control::NewStub(connection.channel());
    return ended(connection, stub->UpdateBuildHistory(&call.context, request, &response), stop);
}

Result<> read_content(const Connection& connection, const std::string& digest, ByteSink& sink, const Stop& stop) {
    Call call(stop);
    content::ReadContentRequest request;
    request.set_digest(digest);
    const auto stub = content::Content::NewStub(connection.channel());
    const auto reader = stub->Read(&call.context, request);
    content::ReadContentResponse response;
    Result<> written;
    while (written && reader->Read(&response)) written = sink.write(as_bytes(response.data()));
    if (!written) call.context.TryCancel();
    const grpc::Status status = reader->Finish();
    TRY(written);
    return ended(connection, status, stop);
}

}  // namespace cooper::client
