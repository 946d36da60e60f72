#include "rpc/detail/buffers.hpp"

#include <vector>

namespace cooper::rpc::detail {

void append_to(std::string& out, const grpc::ByteBuffer& buffer) {
    std::vector<grpc::Slice> slices;
    if (!buffer.Dump(&slices).ok()) return;
    out.reserve(out.size() + buffer.Length());
    for (const auto& slice : slices) out.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
}

grpc::WriteOptions how_to_write(bool ahead) {
    grpc::WriteOptions options;
    if (ahead) options.set_buffer_hint();
    return options;
}

grpc::ByteBuffer to_buffer(std::string_view bytes) {
    const grpc::Slice slice(bytes.data(), bytes.size());
    return {&slice, 1};
}

}  // namespace cooper::rpc::detail
