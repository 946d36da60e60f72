// PacketStream: the two-way stream of messages that a transfer runs over, whatever carries it.
#pragma once

#include "base/result.hpp"

#include <optional>
#include <string>
#include <string_view>

namespace cooper::filesync {

class PacketStream {
public:
    virtual ~PacketStream() = default;
    // Takes all of one message (it may keep it in a buffer, but not for longer than the wire is busy) or fails.
    // Several threads may send at once: messages stay whole, those of one thread stay in order. Blocks while the other
    // side does not read.
    virtual Result<> send(std::string_view message) = 0;
    // The same, but the message may wait until somebody calls send(), which somebody will do at once.
    virtual Result<> send_ahead(std::string_view message) = 0;
    // The next message; nullopt when the other side has properly ended its half. One thread at a time, beside senders.
    virtual Result<std::optional<std::string>> receive() = 0;
    // Nothing more will be sent. A server's side may leave this to the end of its handler.
    virtual Result<> close_send() = 0;
    // Blocked and later calls fail soon. Any thread, any number of times; does not block.
    virtual void cancel() = 0;
};

}  // namespace cooper::filesync
