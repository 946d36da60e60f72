// Doors between the gateway's messages and the engine's values.
#pragma once

#include "base/result.hpp"
#include "engine/build_job.hpp"
#include "filesync/packet.hpp"
#include "llb/op.hpp"
#include "rpc/grpc_types.hpp"
#include "sourcepolicy/policy.hpp"

#include <string>
#include <vector>

namespace moby::buildkit::v1::frontend {
class ResolveSourceMetaResponse;
class Result;
}  // namespace moby::buildkit::v1::frontend
namespace moby::buildkit::v1::sourcepolicy {
class Policy;
}
namespace google::protobuf {
template <typename Element>
class RepeatedPtrField;
}
namespace fsutil::types {
class Stat;
}
namespace pb {
class Platform;
class SourceOp;
}  // namespace pb

namespace cooper::daemon {

class Conversation;

// Refs are known to the conversation from now on.
void to_message(const engine::FrontendResult& result, Conversation& conversation,
                moby::buildkit::v1::frontend::Result& message);
[[nodiscard]] Result<engine::FrontendResult> from_message(const moby::buildkit::v1::frontend::Result& message,
                                                          Conversation& conversation);
void to_message(const filesync::Stat& stat, fsutil::types::Stat& message);
[[nodiscard]] llb::Platform from_message(const pb::Platform& message);
[[nodiscard]] Result<sourcepolicy::Policy> from_message(const moby::buildkit::v1::sourcepolicy::Policy& message);
// Those of one request; none for an empty list.
[[nodiscard]] Result<sourcepolicy::Policies> from_messages(
    const google::protobuf::RepeatedPtrField<moby::buildkit::v1::sourcepolicy::Policy>& messages);
[[nodiscard]] llb::SourceOp from_message(const pb::SourceOp& message);
void to_message(const llb::SourceOp& source, pb::SourceOp& message);
// By the scheme of the identifier: the answer for git or for http.
void to_message(const std::string& identifier, const engine::SourceMeta& meta,
                moby::buildkit::v1::frontend::ResolveSourceMetaResponse& message);
[[nodiscard]] frontend::ResolveMode to_resolve_mode(const std::string& text);
void to_message(const llb::Platform& platform, pb::Platform& message);
// Of a call to a frontend. A question that nobody answers is told apart by a detail, errdefs.Subrequest.
[[nodiscard]] grpc::Status call_status(const Error& error, const std::string& request_id);

// What clients may use: ids of BuildKit's capabilities that this daemon has.
[[nodiscard]] const std::vector<std::string>& gateway_capabilities();
[[nodiscard]] const std::vector<std::string>& llb_capabilities();

}  // namespace cooper::daemon
