#include "client/offer.hpp"

#include "client/detail/services.hpp"
#include "rpc/carrier.hpp"
#include "rpc/channel.hpp"
#include "rpc/joint.hpp"
#include "rpc/message_stream.hpp"

#include <grpcpp/channel.h>
#include <random>
#include <thread>

namespace cooper::client {

namespace {

// What daemons look up to know what may be asked.
const std::vector<std::string>& methods() {
    static const std::vector<std::string> all = {"/grpc.health.v1.Health/Check",
                                                 "/grpc.health.v1.Health/Watch",
                                                 "/moby.filesync.v1.FileSync/DiffCopy",
                                                 "/moby.filesync.v1.FileSync/TarStream",
                                                 "/moby.filesync.v1.FileSend/DiffCopy",
                                                 "/moby.filesync.v1.Auth/Credentials",
                                                 "/moby.buildkit.secrets.v1.Secrets/GetSecret",
                                                 "/moby.sshforward.v1.SSH/CheckAgent",
                                                 "/moby.sshforward.v1.SSH/ForwardAgent",
                                                 "/moby.upload.v1.Upload/Pull",
                                                 "/containerd.services.content.v1.Content/Info",
                                                 "/containerd.services.content.v1.Content/Read",
                                                 "/containerd.services.content.v1.Content/Status",
                                                 "/containerd.services.content.v1.Content/Write",
                                                 "/containerd.services.content.v1.Content/Abort"};
    return all;
}

bool offers(const Offer& offer, const std::string& method) {
    if (method.contains("FileSync")) return !offer.directories.empty();
    if (method.contains("FileSend")) return !offer.exports.empty();
    if (method.contains("Auth/")) return offer.credentials != nullptr;
    if (method.contains("Secrets") || method.contains("SSH")) return offer.values != nullptr;
    if (method.contains("Upload")) return !offer.uploads.empty();
    if (method.contains("Content")) return !offer.stores.empty();
    return true;
}

class RunningSession final : public OfferedSession {
public:
    explicit RunningSession(Offer offer) : id_(random_id()) {
        shared_.offer = std::move(offer);
        shared_.stop = ending_.get_token();
    }
    RunningSession(const RunningSession&) = delete;
    RunningSession& operator=(const RunningSession&) = delete;
    ~RunningSession() override {
        ending_.request_stop();
        if (joint_ != nullptr) joint_->close();
        if (thread_.joinable()) thread_.join();
    }

    Result<> run(const Connection& connection) {
        services_ = detail::value_services(shared_);
        services_.push_back(detail::content_service(shared_));
        services_.push_back(rpc::make_raw_service(detail::file_methods(shared_)));
        services_.push_back(rpc::make_health_service());
        std::vector<grpc::Service*> all;
        for (const auto& service : services_) all.push_back(service.get());
        server_ = TRY(rpc::StreamServer::start(all));
        rpc::Metadata metadata = {{"x-docker-expose-session-uuid", id_},
                                  {"x-docker-expose-session-name", shared_.offer.name},
                                  {"x-docker-expose-session-sharedkey", shared_.offer.shared_key}};
        for (const std::string& method : methods()) {
            if (offers(shared_.offer, method)) {
                metadata.emplace_back("x-docker-expose-session-grpc-method", method);
            }
        }
        joint_ = TRY(rpc::Joint::create(
            rpc::carry_in_call(connection.channel(), "/moby.buildkit.v1.Control/Session", metadata)));
        server_->add(joint_->take_socket());
        thread_ = std::jthread([this] { joint_->run(); });
        return {};
    }

    [[nodiscard]] const std::string& id() const override { return id_; }
    [[nodiscard]] std::optional<Error> failure() const override { return *shared_.failure.lock(); }

private:
    std::string id_;
    StopSource ending_;
    mutable detail::Shared shared_;
    std::vector<std::unique_ptr<grpc::Service>> services_;
    std::unique_ptr<rpc::StreamServer> server_;
    std::unique_ptr<rpc::Joint> joint_;
    std::jthread thread_;
};

}  // namespace

Result<std::unique_ptr<OfferedSession>> OfferedSession::start(const Connection& connection, Offer offer) {
    auto session = std::make_unique<RunningSession>(std::move(offer));
    TRY(session->run(connection));
    return std::unique_ptr<OfferedSession>(std::move(session));
}

std::string random_id() {
    std::random_device device;
    std::string id;
    for (int i = 0; i < 25; ++i) id += "0123456789abcdefghijklmnopqrstuvwxyz"[device() % 36];
    return id;
}

}  // namespace cooper::client
