// Connections of gRPC over sockets that exist already, in both roles. No TLS: what needs it has it around the socket.
//
// start_library() comes first in a program.
#pragma once

#include "base/result.hpp"
#include "rpc/grpc_types.hpp"
#include "sys/fd.hpp"

#include <chrono>
#include <memory>
#include <vector>

namespace cooper::rpc {

// What this room needs of the process: SIGPIPE ignored, gRPC's own log lines at debug level. Any number of times.
void start_library();

// The client's side of a connected stream socket. The authority is "localhost", as BuildKit's is.
[[nodiscard]] std::shared_ptr<grpc::Channel> channel_over(sys::Fd socket);

// A server without an address: sockets are given to it. Used for a client's session and for frontends.
class StreamServer {
public:
    // The services outlive it.
    static Result<std::unique_ptr<StreamServer>> start(const std::vector<grpc::Service*>& services);
    StreamServer(const StreamServer&) = delete;
    StreamServer& operator=(const StreamServer&) = delete;
    // Cancels what runs and waits for handlers to return.
    ~StreamServer();

    void add(sys::Fd socket);
    // No new calls; running ones have this long, then they are cancelled. Returns when handlers have returned.
    void shutdown(std::chrono::milliseconds grace);

private:
    StreamServer() = default;
    std::unique_ptr<grpc::Server> server_;
};

// grpc.health.v1: whoever can ask is told that all is well.
[[nodiscard]] std::unique_ptr<grpc::Service> make_health_service();

}  // namespace cooper::rpc
