// Joint: connects a Carrier to gRPC, which can only use sockets: one end of a socket pair is for gRPC, and two threads
// move bytes between the other end and the carrier.
#pragma once

#include "rpc/carrier.hpp"
#include "sys/fd.hpp"

#include <memory>

namespace cooper::rpc {

class Joint {
public:
    static Result<std::unique_ptr<Joint>> create(std::unique_ptr<Carrier> carrier);
    Joint(const Joint&) = delete;
    Joint& operator=(const Joint&) = delete;
    // run() has returned, or was never called.
    ~Joint() = default;

    // For channel_over() or StreamServer::add(); once.
    [[nodiscard]] sys::Fd take_socket() { return std::move(far_); }
    // Moves bytes until the peer, gRPC or close() ends the connection. Uses the calling thread and one more, which is
    // gone when it returns.
    void run() noexcept;
    // Any thread.
    void close() noexcept;

private:
    Joint() = default;
    void receive() noexcept;
    void send() noexcept;

    std::unique_ptr<Carrier> carrier_;
    sys::Fd near_;
    sys::Fd far_;
};

}  // namespace cooper::rpc
