#include "client/call_peer.hpp"

#include "client/connection.hpp"
#include "rpc/channel.hpp"
#include "rpc/message_stream.hpp"

namespace cooper::client {
namespace {

constexpr std::chrono::seconds kPatience{5};

class Call final : public handover::GrpcCall {
public:
    explicit Call(std::unique_ptr<rpc::RawCall> raw) : raw_(std::move(raw)) {}
    Result<bool> read(std::string& message) override { return raw_->read(message); }
    Result<> write(std::string_view message) override { return raw_->write(message); }
    Result<> close_write() override { return raw_->close_write(); }

private:
    std::unique_ptr<rpc::RawCall> raw_;
};

class Peer final : public handover::GrpcPeer {
public:
    explicit Peer(std::shared_ptr<grpc::Channel> channel) : channel_(std::move(channel)) {}
    std::unique_ptr<handover::GrpcCall> call(const std::string& method,
                                             const std::vector<std::pair<std::string, std::string>>& metadata,
                                             const Stop& stop) override {
        return std::make_unique<Call>(rpc::RawCall::start(channel_, method, metadata, stop));
    }

private:
    std::shared_ptr<grpc::Channel> channel_;
};

}  // namespace

Result<std::unique_ptr<handover::GrpcPeer>> dial_socket(const std::string& socket, const Stop& stop) {
    rpc::start_library();
    sys::Fd connected = TRY(connect_socket("unix://" + socket, kPatience, stop));
    return std::make_unique<Peer>(rpc::channel_over(std::move(connected)));
}

}  // namespace cooper::client
