// Gateway: the LLBBridge service, what a frontend may ask of the daemon. On the daemon's own socket the call's
// metadata names the build; a frontend that runs as a program has a service of its own.
#pragma once

#include "daemon/conversations.hpp"
#include "daemon/worker.hpp"
#include "rpc/grpc_types.hpp"

#include <memory>

namespace cooper::daemon {

class CallWatcher;

struct GatewayParts {
    Conversations& conversations;
    CallWatcher& watcher;
    const Worker& worker;
};

// For the socket: builds are found by the metadata "buildkit-controlapi-buildid". What it is given outlives it.
[[nodiscard]] std::unique_ptr<grpc::Service> make_gateway(const GatewayParts& parts);
// For one frontend: every call is about this build.
[[nodiscard]] std::unique_ptr<grpc::Service> make_gateway(const GatewayParts& parts,
                                                          std::shared_ptr<Conversation> conversation);

}  // namespace cooper::daemon
