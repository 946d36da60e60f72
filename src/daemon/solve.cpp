#include "daemon/solve.hpp"

#include "attest/statement.hpp"
#include "base/text.hpp"
#include "daemon/call_watcher.hpp"
#include "daemon/conversations.hpp"
#include "daemon/frontend_process.hpp"
#include "daemon/gateway.hpp"
#include "daemon/history.hpp"
#include "daemon/session_exporters.hpp"
#include "daemon/sessions.hpp"
#include "daemon/source_judge.hpp"
#include "daemon/wire.hpp"
#include "engine/engine.hpp"
#include "engine/recorder.hpp"
#include "llb/marshal.hpp"
#include "proto/control.pb.h"
#include "rpc/status.hpp"

#include <algorithm>
#include <grpcpp/impl/service_type.h>
#include <set>

namespace cooper::daemon {

namespace {

namespace v1 = moby::buildkit::v1;

constexpr std::int64_t kCompatibilityVersions[] = {0, 10, 20, 30};

// Exporters of a request, and those that the client chooses later.
Result<std::vector<engine::ExportSpec>> exports_of(const v1::SolveRequest& request,
                                                   const std::vector<TypedExporter>& chosen) {
    std::vector<engine::ExportSpec> exports;
    std::optional<std::string> epoch;
    if (const auto found = request.frontendattrs().find("build-arg:SOURCE_DATE_EPOCH");
        found != request.frontendattrs().end() && parse_int(found->second)) {
        epoch = found->second;
    }
    const auto add = [&](const std::string& type, const auto& attrs) -> Result<> {
        engine::ExportSpec spec;
        spec.type = type;
        spec.keeps_unknown_attrs = true;
        for (const auto& [key, value] : attrs) spec.attrs[key] = value;
        if (epoch) spec.attrs.try_emplace("source-date-epoch", *epoch);
        // Images stay here or go to a registry; all else is for the client.
        if (type != "image") spec.client_exporter = static_cast<int>(exports.size());
        exports.push_back(std::move(spec));
        return {};
    };
    if (request.exporters().empty()) {
        if (!request.exporterdeprecated().empty())
            TRY(add(request.exporterdeprecated(), request.exporterattrsdeprecated()));
    }
    for (const auto& exporter : request.exporters()) TRY(add(exporter.type(), exporter.attrs()));
    for (const auto& exporter : chosen) TRY(add(exporter.type, exporter.attrs));
    return exports;
}

class EngineSolve final : public SolveService {
public:
    explicit EngineSolve(const SolveParts& parts)
        : parts_(parts),
          gateway_parts_{conversations_, watcher_, parts.worker},
          gateway_(make_gateway(gateway_parts_)),
          frontends_(make_frontend_process_host(gateway_parts_)) {}

    grpc::Status solve(const v1::SolveRequest& request, BuildProgress& progress, v1::SolveResponse& response,
                       Stop stop) override {
        const auto done = build(request, progress, response, stop);
        if (done) return grpc::Status::OK;
        const auto question = request.frontendattrs().find("requestid");
        return call_status(done.error(), question == request.frontendattrs().end() ? "" : question->second);
    }

    [[nodiscard]] std::vector<grpc::Service*> services() override { return {gateway_.get()}; }

private:
    Result<std::vector<std::string>> entitlements_of(const v1::SolveRequest& request) const {
        std::vector<std::string> wanted;
        for (const auto& one : request.entitlements()) {
            const std::string name = one.substr(0, one.find('='));
            if (std::ranges::find(parts_.allowed_entitlements, name) == parts_.allowed_entitlements.end()) {
                return fail(Code::permission_denied, Blame::user, "{} is not allowed", one)
                    .with_hint(fmt::format("start the daemon with --allow-insecure-entitlement={}", name));
            }
            wanted.push_back(one);
        }
        return wanted;
    }

    static Result<> check(const v1::SolveRequest& request) {
        if (std::ranges::find(kCompatibilityVersions, request.compatibilityversion()) ==
            std::end(kCompatibilityVersions)) {
            return bad_input("unsupported compatibility version {}", request.compatibilityversion());
        }
        if (request.proxynetwork()) return bad_input("this daemon has no recording proxy for networks");
        return {};
    }

    static std::vector<engine::CacheSpec> cache_imports_of(const v1::SolveRequest& request) {
        std::vector<engine::CacheSpec> imports;
        for (const auto& cache : request.cache().imports())
            imports.push_back({cache.type(), {cache.attrs().begin(), cache.attrs().end()}});
        for (const auto& ref : request.cache().importrefsdeprecated()) imports.push_back({"registry", {{"ref", ref}}});
        return imports;
    }

    // What two exporters would write to the same place is a mistake.
    static Result<std::vector<engine::CacheSpec>> cache_exports_of(const v1::SolveRequest& request) {
        std::vector<engine::CacheSpec> exports;
        for (const auto& cache : request.cache().exports())
            exports.push_back({cache.type(), {cache.attrs().begin(), cache.attrs().end()}});
        if (const auto& ref = request.cache().exportrefdeprecated(); !ref.empty()) {
            engine::CacheSpec old{"registry", {{"ref", ref}}};
            for (const auto& [key, value] : request.cache().exportattrsdeprecated()) old.attrs[key] = value;
            exports.push_back(std::move(old));
        }
        const std::set<engine::CacheSpec> different(exports.begin(), exports.end());
        if (different.size() != exports.size()) return bad_input("duplicate cache exports");
        return exports;
    }

    Result<> build(const v1::SolveRequest& request, BuildProgress& progress, v1::SolveResponse& response,
                   const Stop& stop) {
        TRY(check(request));
        engine::JobOptions options;
        options.ref = request.ref();
        options.entitlements = TRY(entitlements_of(request));
        std::shared_ptr<RemoteSession> client;
        if (!request.session().empty()) client = TRY(parts_.sessions.find(request.session(), stop));
        options.session = client == nullptr ? std::make_shared<session::Session>()
                                            : std::static_pointer_cast<session::Session>(client);
        options.find_session = [this](const std::string& id,
                                      const Stop& wait) -> Result<std::shared_ptr<session::Session>> {
            return std::static_pointer_cast<session::Session>(TRY(parts_.sessions.find(id, wait)));
        };
        if (request.has_sourcepolicy())
            options.policies = TRY(sourcepolicy::Policies::create({TRY(from_message(request.sourcepolicy()))}));
        if (!request.sourcepolicysession().empty())
            options.judge = make_client_judge(TRY(parts_.sessions.find(request.sourcepolicysession(), stop)));
        options.frontends = frontends_.get();
        options.attestations =
            TRY(engine::attestations_of({request.frontendattrs().begin(), request.frontendattrs().end()}));
        options.keep_provenance = !request.internal();
        options.cache_imports = cache_imports_of(request);
        options.cache_exports = TRY(cache_exports_of(request));
        const auto job = TRY(parts_.engine.start_job(std::move(options), progress));
        TRY(job->expect_failure(TRY(exports_of(request, {}))));
        const auto done = build_with(*job, request, client.get(), response, stop);
        if (done) return {};
        Error error = done.error();
        job->export_after_failure(error);
        return error;
    }

    Result<> build_with(engine::BuildJob& job, const v1::SolveRequest& request, const RemoteSession* client,
                        v1::SolveResponse& response, const Stop& stop) {
        engine::SolveCall call;
        for (const auto& [name, bytes] : request.frontendinputs())
            call.inputs[name] = TRY(llb::parse_definition(bytes));
        engine::FrontendResult result;
        if (!request.frontend().empty() || request.has_definition()) {
            call.frontend = request.frontend();
            // Some clients send an empty definition along with a frontend.
            if (request.has_definition() && (call.frontend.empty() || !request.definition().empty()))
                call.definition = TRY(llb::parse_definition(request.definition()));
            for (const auto& [key, value] : request.frontendattrs()) call.options[key] = value;
            result = TRY(job.solve(call, stop));
        } else {
            // The client is the frontend: it asks through the gateway and gives its answer there. It comes back for
            // containers and files of results until the exports are done.
            auto conversation = std::make_shared<Conversation>(job, call.inputs);
            const Conversations::Entry entry(conversations_, request.ref(), conversation);
            auto answered = conversation->wait(stop);
            conversation.reset();  // the entry waits until nobody holds it
            result = TRY(std::move(answered));
        }
        return finish(job, result, request, client, response, stop);
    }

    Result<> finish(engine::BuildJob& job, const engine::FrontendResult& result, const v1::SolveRequest& request,
                    const RemoteSession* client, v1::SolveResponse& response, const Stop& stop) {
        const bool asks = client != nullptr && request.enablesessionexporter();
        std::vector<TypedExporter> chosen;
        if (asks) chosen = TRY(find_exporters(*client, result, stop));
        const auto exports = TRY(exports_of(request, chosen));
        if (!chosen.empty()) TRY(job.expect_failure(exports));
        const engine::ExportAnswer answer = TRY(job.export_result(result, exports, {}, stop));
        for (const auto& [platform, predicate] : answer.provenance)
            parts_.history.attach(request.ref(), platform, attest::kSlsa1, predicate);
        auto& out = *response.mutable_exporterresponse();
        for (const auto& [key, value] : answer.response) out[key] = value;
        for (const auto& [key, value] : result.metadata) {
            if (key.starts_with("frontend.") || key.starts_with("result.") || key == "version") out[key] = value;
        }
        if (asks) TRY(finalize_export(*client, {out.begin(), out.end()}, stop));
        return {};
    }

    SolveParts parts_;
    Conversations conversations_;
    CallWatcher watcher_;
    GatewayParts gateway_parts_;
    std::unique_ptr<grpc::Service> gateway_;
    std::unique_ptr<engine::FrontendHost> frontends_;
};

}  // namespace

std::unique_ptr<SolveService> make_solve_service(const SolveParts& parts) {
    return std::make_unique<EngineSolve>(parts);
}

}  // namespace cooper::daemon
