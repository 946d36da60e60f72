// What a daemon says of a failure, as its clients read it: a google.rpc.Status whose details are JSON; and the frames
// of messages of bytes.
#include "proto/status.pb.h"
#include "rpc/bytes_message.hpp"
#include "rpc/status.hpp"

#include <cstddef>
#include <cstdint>
#include <grpcpp/support/status.h>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string text(reinterpret_cast<const char*>(data), size);
    const auto error = cooper::rpc::from_status({grpc::StatusCode::UNKNOWN, "x", text});
    // What was read can be said again.
    static_cast<void>(cooper::rpc::from_status(cooper::rpc::to_status(error)));

    google::rpc::Status status;
    for (const char* name :
         {"errdefs.Source+json", "errdefs.Vertex+json", "gatewayapi.ExitMessage+json", "cooper.Hint+json"}) {
        auto* any = status.add_details();
        any->set_type_url(std::string("github.com/moby/buildkit/") + name);
        any->set_value(text);
    }
    static_cast<void>(cooper::rpc::from_message(status));

    if (const auto bytes = cooper::rpc::unwrap_bytes(text)) {
        std::string again;
        cooper::rpc::wrap_bytes(*bytes, again);
        if (cooper::rpc::unwrap_bytes(again).value_or("?") != *bytes) __builtin_trap();
    }
    return 0;
}
