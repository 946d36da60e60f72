// Between errors and gRPC's statuses. Details travel as BuildKit's do: a google.protobuf.Any whose value is JSON, so
// that its clients print the line of the Dockerfile, and ours gets back what was put in.
//
// to_status: SourceText with the SourceRanges of its file becomes errdefs.Source, FailedVertex errdefs.Vertex,
// ExitStatus gatewayapi.ExitMessage. The hint stands in parentheses behind the message, and is found again there.
#pragma once

#include "base/result.hpp"
#include "rpc/grpc_types.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace google::rpc {
class Status;
}

namespace cooper::rpc {

// A detail of a kind that errors of ours do not carry: "errdefs.Solve", and its JSON.
struct WireDetail {
    std::string name;
    std::string json;
};

[[nodiscard]] grpc::Status to_status(const Error& error);
[[nodiscard]] grpc::Status to_status(const Error& error, const std::vector<WireDetail>& more);
// As a message: a frontend's answer, a record of the history. Fills what is empty.
void to_message(const Error& error, const std::vector<WireDetail>& more, google::rpc::Status& message);

// Not for a status that is OK. Details that are unknown or malformed are dropped.
[[nodiscard]] Error from_status(const grpc::Status& status);
[[nodiscard]] Error from_message(const google::rpc::Status& message);

// errdefs.Solve: what failed, for clients that open a shell in it.
struct SolveFailure {
    std::string op;  // bytes of pb.Op
    std::vector<std::string> input_ids;
    std::vector<std::string> mount_ids;
};
[[nodiscard]] Result<WireDetail> to_detail(const SolveFailure& failure);

}  // namespace cooper::rpc
