// Between gRPC's buffers and strings.
#pragma once

#include <grpcpp/impl/codegen/call_op_set.h>
#include <grpcpp/support/byte_buffer.h>
#include <string>
#include <string_view>

namespace cooper::rpc::detail {

// Copies: gRPC's slices stay its own.
void append_to(std::string& out, const grpc::ByteBuffer& buffer);
[[nodiscard]] grpc::ByteBuffer to_buffer(std::string_view bytes);
// ahead: gRPC takes it and begins nothing until there is more.
[[nodiscard]] grpc::WriteOptions how_to_write(bool ahead);

}  // namespace cooper::rpc::detail
