// A call as the stream of packets that filesync speaks.
#pragma once

#include "base/guarded.hpp"
#include "filesync/packet_stream.hpp"
#include "rpc/message_stream.hpp"

namespace cooper::daemon::detail {

class CallPackets final : public filesync::PacketStream {
public:
    explicit CallPackets(rpc::MessageStream& call) : call_(call), writer_(&call) {}

    Result<> send(std::string_view message) override {
        auto writer = writer_.lock();
        return (*writer)->write(message);
    }
    Result<> send_ahead(std::string_view message) override {
        auto writer = writer_.lock();
        return (*writer)->write_ahead(message);
    }
    Result<std::optional<std::string>> receive() override {
        std::string message;
        if (!TRY(call_.read(message))) return std::optional<std::string>{};
        return std::optional<std::string>(std::move(message));
    }
    Result<> close_send() override {
        auto writer = writer_.lock();
        return (*writer)->close_write();
    }
    void cancel() override { call_.cancel(); }

private:
    rpc::MessageStream& call_;
    Guarded<rpc::MessageStream*> writer_;  // many send, one at a time
};

}  // namespace cooper::daemon::detail
