#include "proto/health.grpc.pb.h"
#include "rpc/channel.hpp"

#include <grpcpp/support/server_callback.h>

namespace cooper::rpc {

namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

// Says it once and then nothing until the client has enough.
class Watcher final : public grpc::ServerWriteReactor<HealthCheckResponse> {
public:
    Watcher() {
        answer_.set_status(HealthCheckResponse::SERVING);
        StartWrite(&answer_);
    }
    void OnWriteDone(bool /*ok*/) override {}
    void OnCancel() override { Finish(grpc::Status::CANCELLED); }
    void OnDone() override { delete this; }

private:
    HealthCheckResponse answer_;
};

class HealthService final : public grpc::health::v1::Health::CallbackService {
public:
    grpc::ServerUnaryReactor* Check(grpc::CallbackServerContext* context, const HealthCheckRequest* /*request*/,
                                    HealthCheckResponse* answer) override {
        answer->set_status(HealthCheckResponse::SERVING);
        grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
        reactor->Finish(grpc::Status::OK);
        return reactor;
    }
    grpc::ServerWriteReactor<HealthCheckResponse>* Watch(grpc::CallbackServerContext* /*context*/,
                                                         const HealthCheckRequest* /*request*/) override {
        return new Watcher;
    }
};

}  // namespace

std::unique_ptr<grpc::Service> make_health_service() { return std::make_unique<HealthService>(); }

}  // namespace cooper::rpc
