// The client's word about each source of its build: PolicyVerifier/CheckPolicy on its session. It may ask for more of
// a source before it decides (moby.buildkit.v1.sourcepolicy.policysession).
#pragma once

#include "daemon/remote_session.hpp"
#include "engine/build_job.hpp"

#include <memory>

namespace cooper::daemon {

[[nodiscard]] std::shared_ptr<engine::SourceJudge> make_client_judge(std::shared_ptr<RemoteSession> client);

}  // namespace cooper::daemon
