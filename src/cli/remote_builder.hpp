// RemoteBuilder: `cooper build` at a daemon, and images into containerd. Declared here and implemented by the program
// that links gRPC, which `cooper` does not: it executes that program, `cooperd`, with its own arguments.
#pragma once

#include "base/progress.hpp"
#include "base/result.hpp"
#include "base/stop.hpp"
#include "engine/build_request.hpp"
#include "handover/grpc_peer.hpp"

#include <string>
#include <vector>

namespace cooper::cli {

struct RemoteAddress {
    std::string address;  // unix:///run/cooper/cooperd.sock
    std::string tls_dir;  // ca.pem, cert.pem, key.pem; empty = no TLS
};

class RemoteBuilder {
public:
    virtual ~RemoteBuilder() = default;
    virtual Result<engine::BuildResponse> build(const RemoteAddress& address, const engine::BuildRequest& request,
                                                ProgressSink& progress, const Stop& stop) = 0;
    [[nodiscard]] virtual handover::DialGrpc dialer() = 0;
};

// Becomes the program beside this one that can talk to daemons, under another name (its first word). Returns only when
// that fails.
[[nodiscard]] Error become_client(const char* name, std::vector<char*> arguments);

}  // namespace cooper::cli
