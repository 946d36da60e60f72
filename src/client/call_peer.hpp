// Calls of gRPC to a service of this machine that is no builder: containerd, that images are handed over to.
#pragma once

#include "handover/grpc_peer.hpp"

namespace cooper::client {

// Its errors: as of Connection::open.
[[nodiscard]] Result<std::unique_ptr<handover::GrpcPeer>> dial_socket(const std::string& socket, const Stop& stop);

}  // namespace cooper::client
