// Carrier: a way for bytes in both directions that gRPC cannot use by itself: the messages of an outer call (a
// session's tunnel), or two pipes (a frontend's standard input and output). Joint connects one to gRPC.
#pragma once

#include "base/result.hpp"
#include "base/stop.hpp"
#include "rpc/grpc_types.hpp"
#include "rpc/message_stream.hpp"
#include "sys/fd.hpp"

#include <memory>
#include <string>

namespace cooper::rpc {

// One thread receives, another sends. Sockets given to it block.
class Carrier {
public:
    virtual ~Carrier() = default;
    // Waits for bytes of the peer and puts them all into the socket. false: the peer sends no more.
    virtual Result<bool> receive_into(int socket) = 0;
    // Waits for bytes of the socket and sends them. false: the socket has ended.
    virtual Result<bool> send_from(int socket) = 0;
    // After the last byte; by the thread that sends.
    virtual void finish_sending() = 0;
    // Any thread, any number of times: whatever blocks returns, now and later.
    virtual void abort() = 0;
};

// A server's side of a call whose messages are BuildKit's BytesMessage, received and sent as they are. The context and
// the stream must outlive it. finish_sending() cancels the call of a peer that still sends: a handler has no other way
// to say it while it reads.
[[nodiscard]] std::unique_ptr<Carrier> carry_in_handler(
    grpc::ServerContext& context, grpc::ServerReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>& stream);

// A client's side: starts the call.
[[nodiscard]] std::unique_ptr<Carrier> carry_in_call(std::shared_ptr<grpc::Channel> channel, const std::string& method,
                                                     const Metadata& metadata);

// Pipes or sockets, made non-blocking for it. input may be the same file as output, duplicated.
[[nodiscard]] Result<std::unique_ptr<Carrier>> carry_in_files(sys::Fd input, sys::Fd output);

}  // namespace cooper::rpc
