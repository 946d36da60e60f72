// Frontends that are images ("# syntax=", gateway.v0): run in a container of their own, with the gateway
// protocol over standard input and output.
#pragma once

#include "daemon/gateway.hpp"
#include "engine/build_job.hpp"

#include <memory>

namespace cooper::daemon {

// What parts refer to outlives the host.
[[nodiscard]] std::unique_ptr<engine::FrontendHost> make_frontend_process_host(const GatewayParts& parts);

}  // namespace cooper::daemon
