// Options of gRPC that hold for every connection of ours.
#pragma once

#include "rpc/grpc_types.hpp"

#include <grpcpp/server_builder.h>
#include <grpcpp/support/channel_arguments.h>

namespace cooper::rpc::detail {

// What a stream may send before it is read. gRPC's 64 KiB makes every large file wait for the other side.
inline constexpr int kWindowBytes = 4 << 20;

[[nodiscard]] grpc::ChannelArguments channel_arguments();
void set_options(grpc::ServerBuilder& builder);

}  // namespace cooper::rpc::detail
