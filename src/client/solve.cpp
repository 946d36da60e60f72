#include "client/solve.hpp"

#include "base/defer.hpp"
#include "base/guarded.hpp"
#include "client/detail/timestamps.hpp"
#include "codec/sha256.hpp"
#include "proto/control.grpc.pb.h"
#include "proto/gateway.grpc.pb.h"
#include "rpc/status.hpp"

#include <chrono>
#include <google/protobuf/util/json_util.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <optional>
#include <stop_token>
#include <thread>

namespace cooper::client {

namespace {

namespace control = moby::buildkit::v1;
namespace gateway = moby::buildkit::v1::frontend;

// A daemon keeps a finished build's progress for a while; what has not come by then will not.
constexpr std::chrono::seconds kLastProgress{3};

Digest digest_of(const std::string& text) {
    auto digest = Digest::parse(text);
    return digest ? *digest : codec::sha256_of(text);
}

VertexEvent to_event(const control::Vertex& vertex) {
    VertexEvent event;
    event.digest = digest_of(vertex.digest());
    for (const auto& input : vertex.inputs()) event.inputs.push_back(digest_of(input));
    event.name = vertex.name();
    if (vertex.has_started()) event.started = detail::to_time(vertex.started());
    if (vertex.has_completed()) event.completed = detail::to_time(vertex.completed());
    event.cached = vertex.cached();
    event.error = vertex.error();
    event.cancelled = vertex.error().ends_with("context canceled");
    if (vertex.has_progressgroup()) {
        event.group = ProgressGroup{.id = vertex.progressgroup().id(),
                                    .name = vertex.progressgroup().name(),
                                    .weak = vertex.progressgroup().weak()};
    }
    return event;
}

StatusEvent to_event(const control::VertexStatus& status) {
    StatusEvent event;
    event.id = status.id();
    event.vertex = digest_of(status.vertex());
    // Rows of layers have an id and no name.
    event.name = status.name().empty() ? status.id() : status.name();
    event.current = status.current();
    event.total = status.total();
    event.timestamp = detail::to_time(status.timestamp());
    if (status.has_started()) event.started = detail::to_time(status.started());
    if (status.has_completed()) event.completed = detail::to_time(status.completed());
    return event;
}

WarningEvent to_event(const control::VertexWarning& warning) {
    WarningEvent event;
    event.vertex = digest_of(warning.vertex());
    event.level = static_cast<int>(warning.level());
    event.short_text = warning.short_();
    for (const auto& line : warning.detail()) event.detail.push_back(line);
    event.url = warning.url();
    if (warning.has_info() && warning.ranges_size() > 0) {
        event.range = SourceRange{.file = warning.info().filename(),
                                  .first_line = warning.ranges(0).start().line(),
                                  .last_line = warning.ranges(0).end().line()};
    }
    return event;
}

void emit(const control::StatusResponse& response, ProgressSink& progress) {
    for (const auto& vertex : response.vertexes()) progress.emit(to_event(vertex));
    for (const auto& status : response.statuses()) progress.emit(to_event(status));
    for (const auto& log : response.logs()) {
        progress.emit(LogEvent{.vertex = digest_of(log.vertex()),
                               .stream = static_cast<int>(log.stream()),
                               .data = log.msg(),
                               .timestamp = detail::to_time(log.timestamp())});
    }
    for (const auto& warning : response.warnings()) progress.emit(to_event(warning));
}

// Progress of a build while it is waited for elsewhere.
class Follower {
public:
    Follower(const Connection& connection, const std::string& ref, ProgressSink& progress)
        : progress_(progress), stub_(control::Control::NewStub(connection.channel())) {
        request_.set_ref(ref);
        thread_ = std::jthread([this] { run(); });
    }
    Follower(const Follower&) = delete;
    Follower& operator=(const Follower&) = delete;
    // The last events are waited for, not for long.
    ~Follower() {
        ended_.lock().wait_for(Stop(), kLastProgress, [this] { return done_.load(); });
        context_.TryCancel();
    }

private:
    void run() {
        const auto reader = stub_->Status(&context_, request_);
        control::StatusResponse response;
        while (reader->Read(&response)) emit(response, progress_);
        static_cast<void>(reader->Finish());
        {
            const auto lock = ended_.lock();
            done_ = true;
        }
        ended_.notify_all();
    }
    ProgressSink& progress_;
    std::unique_ptr<control::Control::Stub> stub_;
    control::StatusRequest request_;
    grpc::ClientContext context_;
    struct Nothing {};
    Guarded<Nothing> ended_;
    std::atomic<bool> done_ = false;
    std::jthread thread_;
};

void add(control::CacheOptionsEntry& entry, const TypedAttributes& cache) {
    entry.set_type(cache.type);
    entry.mutable_attrs()->insert(cache.attrs.begin(), cache.attrs.end());
}

Result<control::SolveRequest> to_request(const OfferedSession& session, const SolveSpec& spec) {
    control::SolveRequest request;
    request.set_ref(spec.ref);
    // An empty one is a definition, too: that of scratch.
    if (!spec.definition.empty()) request.set_definition(spec.definition);
    request.set_session(session.id());
    request.set_frontend(spec.frontend);
    request.mutable_frontendattrs()->insert(spec.frontend_attrs.begin(), spec.frontend_attrs.end());
    request.mutable_frontendinputs()->insert(spec.frontend_inputs.begin(), spec.frontend_inputs.end());
    for (const auto& exporter : spec.exporters) {
        auto& entry = *request.add_exporters();
        entry.set_type(exporter.type);
        entry.mutable_attrs()->insert(exporter.attrs.begin(), exporter.attrs.end());
    }
    // For daemons that know one exporter.
    if (!spec.exporters.empty()) {
        request.set_exporterdeprecated(spec.exporters[0].type);
        request.mutable_exporterattrsdeprecated()->insert(spec.exporters[0].attrs.begin(),
                                                          spec.exporters[0].attrs.end());
    }
    request.mutable_cache();
    for (const auto& cache : spec.cache_exports) add(*request.mutable_cache()->add_exports(), cache);
    for (const auto& cache : spec.cache_imports) add(*request.mutable_cache()->add_imports(), cache);
    for (const auto& entitlement : spec.entitlements) request.add_entitlements(entitlement);
    if (!spec.source_policy_json.empty()) {
        const auto parsed =
            google::protobuf::util::JsonStringToMessage(spec.source_policy_json, request.mutable_sourcepolicy());
        if (!parsed.ok()) return bad_input("source policy: {}", std::string(parsed.message()));
    }
    return request;
}

// What went wrong on this side says more than what the daemon heard of it.
Error with_own_failure(const Error& error, const OfferedSession& session) {
    const auto own = session.failure();
    if (!own || error.is_cancelled() || error.to_string().contains(own->message())) return error;
    return error.with_hint(own->to_string());
}

Result<Attributes> run_solve(const Connection& connection, const OfferedSession& session,
                             const control::SolveRequest& request, const Stop& stop) {
    const auto stub = control::Control::NewStub(connection.channel());
    grpc::ClientContext context;
    const std::stop_callback on_stop(stop, [&context] { context.TryCancel(); });
    control::SolveResponse response;
    const grpc::Status status = stub->Solve(&context, request, &response);
    if (stop.stop_requested()) return cancelled();
    if (!status.ok()) return with_own_failure(connection.to_error(status), session);
    return Attributes(response.exporterresponse().begin(), response.exporterresponse().end());
}

}  // namespace

Result<Attributes> solve(const Connection& connection, const OfferedSession& session, const SolveSpec& spec,
                         ProgressSink& progress, const Stop& stop) {
    const control::SolveRequest request = TRY(to_request(session, spec));
    const Follower follower(connection, spec.ref, progress);
    return run_solve(connection, session, request, stop);
}

// The build has no frontend and no definition: it waits until its client, as the frontend, says what the result is.
Result<Attributes> ask_frontend(const Connection& connection, const OfferedSession& session, const SolveSpec& spec,
                                ProgressSink& progress, const Stop& stop) {
    SolveSpec outer = spec;
    outer.frontend.clear();
    outer.definition.clear();
    outer.frontend_attrs.clear();
    outer.frontend_inputs.clear();
    outer.exporters.clear();
    outer.cache_exports.clear();
    control::SolveRequest request = TRY(to_request(session, outer));
    request.set_internal(true);
    const Follower follower(connection, spec.ref, progress);
    Result<Attributes> solved = Attributes();
    std::jthread solving([&] { solved = run_solve(connection, session, request, stop); });

    const auto stub = gateway::LLBBridge::NewStub(connection.channel());
    gateway::SolveRequest question;
    question.set_frontend(spec.frontend);
    question.set_definition(spec.definition);
    question.mutable_frontendopt()->insert(spec.frontend_attrs.begin(), spec.frontend_attrs.end());
    question.mutable_frontendinputs()->insert(spec.frontend_inputs.begin(), spec.frontend_inputs.end());
    question.set_allowresultreturn(true);
    question.set_allowresultarrayref(true);
    gateway::SolveResponse answer;
    grpc::Status asked;
    {
        grpc::ClientContext context;
        context.AddMetadata("buildkit-controlapi-buildid", spec.ref);
        const std::stop_callback on_stop(stop, [&context] { context.TryCancel(); });
        asked = stub->Solve(&context, question, &answer);
    }
    gateway::ReturnRequest done;
    if (asked.ok()) {
        *done.mutable_result() = answer.result();
    } else {
        rpc::to_message(rpc::from_status(asked), {}, *done.mutable_error());
    }
    {
        grpc::ClientContext context;
        context.AddMetadata("buildkit-controlapi-buildid", spec.ref);
        const std::stop_callback on_stop(stop, [&context] { context.TryCancel(); });
        gateway::ReturnResponse nothing;
        static_cast<void>(stub->Return(&context, done, &nothing));
    }
    solving.join();
    if (stop.stop_requested()) return cancelled();
    if (!asked.ok()) return with_own_failure(connection.to_error(asked), session);
    TRY(solved);
    return Attributes(answer.result().metadata().begin(), answer.result().metadata().end());
}

Result<> follow(const Connection& connection, const std::string& ref, ProgressSink& progress, const Stop& stop) {
    const auto stub = control::Control::NewStub(connection.channel());
    grpc::ClientContext context;
    const std::stop_callback on_stop(stop, [&context] { context.TryCancel(); });
    control::StatusRequest request;
    request.set_ref(ref);
    const auto reader = stub->Status(&context, request);
    control::StatusResponse response;
    while (reader->Read(&response)) emit(response, progress);
    const grpc::Status status = reader->Finish();
    if (stop.stop_requested()) return cancelled();
    if (!status.ok()) return connection.to_error(status);
    return {};
}

}  // namespace cooper::client
