// Names of gRPC's classes, so that headers can mention them without including it.
#pragma once

#include <cstddef>

namespace grpc {
class ByteBuffer;
class Channel;
class Server;
class ServerContext;
class Service;
class Status;
template <class W, class R>
class ServerReaderWriter;
}  // namespace grpc

namespace cooper::rpc {

// BuildKit's limit for a message in either direction.
inline constexpr int kMaxMessageBytes = 16 << 20;
// Patterns and error details travel as metadata; Go's side takes as much.
inline constexpr int kMaxMetadataBytes = 16 << 20;

}  // namespace cooper::rpc
