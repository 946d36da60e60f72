#include "daemon/control.hpp"
#include "proto/otlp.grpc.pb.h"

#include <cstdlib>
#include <grpcpp/grpcpp.h>

namespace cooper::daemon {

namespace {

namespace otlp = opentelemetry::proto::collector::trace::v1;
constexpr auto kPatience = std::chrono::seconds(10);

class TraceService final : public otlp::TraceService::Service {
public:
    explicit TraceService(const std::string& endpoint) {
        if (endpoint.empty()) return;
        std::string target = endpoint;
        for (const std::string_view scheme : {"http://", "grpc://"}) {
            if (target.starts_with(scheme)) target = target.substr(scheme.size());
        }
        auto credentials = grpc::InsecureChannelCredentials();
        if (target.starts_with("https://")) {
            target = target.substr(8);
            credentials = grpc::SslCredentials({});
        }
        collector_ = otlp::TraceService::NewStub(grpc::CreateChannel(target.substr(0, target.find('/')), credentials));
    }

    grpc::Status Export(grpc::ServerContext* /*context*/, const otlp::ExportTraceServiceRequest* request,
                        otlp::ExportTraceServiceResponse* response) override {
        if (collector_ == nullptr) return {grpc::StatusCode::UNAVAILABLE, "trace collector not configured"};
        grpc::ClientContext call;
        call.set_deadline(std::chrono::system_clock::now() + kPatience);
        return collector_->Export(&call, *request, response);
    }

private:
    std::unique_ptr<otlp::TraceService::Stub> collector_;
};

}  // namespace

std::unique_ptr<grpc::Service> make_trace_service(const std::string& endpoint) {
    return std::make_unique<TraceService>(endpoint);
}

std::string trace_endpoint_of_environment() {
    for (const char* name : {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"}) {
        if (const char* value = std::getenv(name); value != nullptr && *value != '\0') return value;
    }
    return {};
}

}  // namespace cooper::daemon
