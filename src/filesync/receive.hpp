// The receiving side of a transfer: makes a directory of this machine equal to what the other side offers, and asks for
// the content of only those files that differ from what is there. A daemon receives build contexts with it, a client
// exports.
//
// The other side is not trusted. Its paths must be relative, clean and in order, below directories it has sent; they
// are opened by descriptors and never through a symbolic link. Hard links lead to earlier files of the same transfer
// only. Entries, bytes, depth and files open at once are bounded.
//
// A file that is replaced keeps its old content under its name until the new one is complete. A transfer that fails
// leaves a mixture of old and new entries, of which none looks complete without being so: the next transfer mends it.
// Nobody else may write below dest meanwhile. Times of directories are set last.
#pragma once

#include "base/stop.hpp"
#include "filesync/packet.hpp"
#include "filesync/packet_stream.hpp"
#include "sys/rooted_dir.hpp"

#include <cstdint>
#include <functional>
#include <string_view>

namespace cooper::filesync {

// What happens to entries of dest that are not offered.
enum class Others : std::uint8_t { remove, keep };
// When a file is taken to be what is offered: with equal mode, owner, size and time, or never. Exports whose times all
// are one epoch need the latter.
enum class Compare : std::uint8_t { metadata, none };
// What happens when the file system or the caller's rights do not allow a device.
enum class Devices : std::uint8_t { require, leave_out };

struct ReceiveOptions {
    Others others = Others::remove;
    Compare compare = Compare::metadata;
    Devices devices = Devices::require;
    // Changes an entry before it is compared and written (its owner, say). Not its path or type.
    std::function<void(Stat&)> adjust;
    // Given: the transfer is of metadata only. All entries are listed in the file kMetadataFile of dest (each as its
    // length, four bytes little-endian, and a Stat); made are those for which this says true, and their parents.
    std::function<bool(std::string_view path)> materialize;
    // Asked before content is written; refuses by an error. By several threads at once.
    std::function<Result<>(std::uint64_t bytes)> before_write;
    // Bytes received so far, now and then. Called by the receiving thread.
    std::function<void(std::uint64_t bytes)> progress;
    std::uint64_t max_entries = 20'000'000;
    std::uint64_t max_bytes = std::uint64_t{1} << 44U;  // of content
};

constexpr std::string_view kMetadataFile = ".fsutil-metadata";

struct ReceiveStats {
    std::uint64_t entries = 0;   // offered
    std::uint64_t received = 0;  // files whose content came
    std::uint64_t bytes = 0;     // of content
    std::uint64_t removed = 0;   // entries that were not offered any more, a directory as one
    std::uint64_t left_out = 0;  // devices
};

// Returns after the other side has confirmed the end and closed its half of the stream.
[[nodiscard]] Result<ReceiveStats> receive(PacketStream& stream, const sys::RootedDir& dest,
                                           const ReceiveOptions& options, const Stop& stop);

}  // namespace cooper::filesync
