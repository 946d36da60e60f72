// The sending side of a transfer: offers the entries of trees in order and gives the content of those files that the
// other side asks for. A client sends its build context with it, a daemon the result of an export.
//
// One thread walks, some read files, the caller's reads requests. The stream is not drained after the last packet.
// Errors: what the receiver said (its text), a tree that cannot be read, a stream that broke; `cancelled` when stopped.
// The receiver is told of an error before the stream is cancelled.
#pragma once

#include "base/stop.hpp"
#include "filesync/packet_stream.hpp"
#include "snapshot/tree.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace cooper::filesync {

struct SentTree {
    std::string name;  // a directory of this name holds the tree; empty: the tree itself, and no other
    snapshot::TreeRef tree;
};

struct SendOptions {
    std::optional<std::int64_t> epoch_seconds;  // all times become it
};

struct SendStats {
    std::uint64_t entries = 0;
    std::uint64_t requested = 0;  // files whose content was sent
    std::uint64_t bytes = 0;      // of content
};

// Sockets are left out; hard links within one tree stay links. A file that vanishes meanwhile arrives empty, as
// BuildKit's client has it; one that may not be read is an error.
[[nodiscard]] Result<SendStats> send(PacketStream& stream, const std::vector<SentTree>& trees,
                                     const SendOptions& options, const Stop& stop);

}  // namespace cooper::filesync
