// Doors between the gateway's messages and the engine's values.
#pragma once

#include "base/result.hpp"
#include "engine/build_job.hpp"
#include "filesync/packet.hpp"
#include "llb/op.hpp"

#include <string>
#include <vector>

namespace moby::buildkit::v1::frontend {
class Result;
}
namespace fsutil::types {
class Stat;
}
namespace pb {
class Platform;
}

namespace cooper::daemon {

class Conversation;

// Refs are known to the conversation from now on.
void to_message(const engine::FrontendResult& result, Conversation& conversation,
                moby::buildkit::v1::frontend::Result& message);
[[nodiscard]] Result<engine::FrontendResult> from_message(const moby::buildkit::v1::frontend::Result& message,
                                                          Conversation& conversation);
void to_message(const filesync::Stat& stat, fsutil::types::Stat& message);
[[nodiscard]] llb::Platform from_message(const pb::Platform& message);

// What clients may use: ids of BuildKit's capabilities that this daemon has.
[[nodiscard]] const std::vector<std::string>& gateway_capabilities();
[[nodiscard]] const std::vector<std::string>& llb_capabilities();

}  // namespace cooper::daemon
