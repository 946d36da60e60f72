// Connection: to a daemon that speaks BuildKit's API, ours or buildkitd.
//
//     unix:///run/cooper/cooperd.sock   tcp://host:1234   ssh://user@host
//     docker-container://NAME   podman-container://NAME   nerdctl-container://NAME   kube-pod://POD?namespace=N
//
// The last ones run `buildctl dial-stdio` there, through the program of that name.
// Errors: unavailable when nobody answers, with the address. Any thread.
#pragma once

#include "base/result.hpp"
#include "base/stop.hpp"
#include "rpc/grpc_types.hpp"
#include "sys/process.hpp"

#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace cooper::client {

// Files in PEM; any may be empty.
struct TlsFiles {
    std::string ca;
    std::string certificate;
    std::string key;
    std::string server_name;

    [[nodiscard]] bool empty() const { return ca.empty() && certificate.empty() && key.empty() && server_name.empty(); }
};

struct ConnectOptions {
    std::string address;
    TlsFiles tls;  // for tcp
    std::chrono::milliseconds timeout{5000};
};

class Connection {
public:
    static Result<std::unique_ptr<Connection>> open(const ConnectOptions& options, const Stop& stop);

    [[nodiscard]] const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }
    [[nodiscard]] const std::string& address() const { return address_; }
    // Of a call that was not OK.
    [[nodiscard]] Error to_error(const grpc::Status& status) const;

private:
    Connection() = default;
    std::string address_;
    sys::Child proxy_;  // after the channel is gone
    std::shared_ptr<grpc::Channel> channel_;
};

// $BUILDKIT_HOST, else where a daemon of ours or buildkitd listens by itself.
[[nodiscard]] std::string default_address();

// The socket of an address without TLS, connected; for `dial-stdio`.
[[nodiscard]] Result<sys::Fd> connect_socket(const std::string& address, std::chrono::milliseconds timeout,
                                             const Stop& stop);
// What is run for an address that needs a program; empty for others.
[[nodiscard]] Result<std::vector<std::string>> proxy_command(const std::string& address);

}  // namespace cooper::client
