// The tar of a layer that is on disk, written or read as a stream; and sources that own what they verify.
#pragma once

#include "base/bytes.hpp"
#include "base/stop.hpp"
#include "layer/diff.hpp"
#include "oci/descriptor.hpp"

#include <memory>
#include <string>

namespace cooper::exporter::detail {

// layer_path: the layer's directory (trusted: the store's own).
[[nodiscard]] Result<> write_layer_stream(const std::string& layer_path, ByteSink& out,
                                          const layer::DiffOptions& options, const Stop& stop);
// The same from a thread of its own; destroying it ends the thread.
[[nodiscard]] std::unique_ptr<ByteSource> read_layer_stream(std::string layer_path, const layer::DiffOptions& options,
                                                            const Stop& stop);
// Fails where the stream ends (or gets too long) when it is not what blob says.
[[nodiscard]] std::unique_ptr<ByteSource> verified(std::unique_ptr<ByteSource> source, const oci::Descriptor& blob);

class NullSink final : public ByteSink {
public:
    Result<> write(std::span<const std::byte> /*data*/) override { return {}; }
};

// Copies to the end in large pieces; returns the number of bytes.
[[nodiscard]] Result<std::uint64_t> copy_stream(ByteSource& source, ByteSink& out, const Stop& stop);

}  // namespace cooper::exporter::detail
