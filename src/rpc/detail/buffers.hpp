// Between gRPC's buffers and strings.
#pragma once

#include <grpcpp/support/byte_buffer.h>
#include <string>
#include <string_view>

namespace cooper::rpc::detail {

// Copies: gRPC's slices stay its own.
void append_to(std::string& out, const grpc::ByteBuffer& buffer);
[[nodiscard]] grpc::ByteBuffer to_buffer(std::string_view bytes);

}  // namespace cooper::rpc::detail
