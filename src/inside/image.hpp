// Image: what is looked into: a configuration, and layers that can be read. Where they come from is the caller's.
#pragma once

#include "base/bytes.hpp"
#include "base/stop.hpp"
#include "oci/descriptor.hpp"
#include "oci/image_config.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::inside {

struct LayerSource {
    Digest diff_id;                            // empty: not known; then it is read for itself
    Digest blob;                               // as the manifest names it
    std::optional<std::uint64_t> packed_size;  // nullopt: it has never been compressed
    // The layer's tar from its start, compressed or not. Verified by the stream itself.
    std::function<Result<std::unique_ptr<ByteSource>>(const Stop& stop)> open;
};

struct Image {
    std::string name;  // for people
    Digest manifest;
    Digest config_digest;
    oci::ImageConfig config;
    std::vector<LayerSource> layers;  // bottom first
};

// What made a layer, as far as the history says it.
struct Instruction {
    std::string text;     // as people wrote it: "RUN apt-get update"; "" = unknown
    std::string created;  // RFC 3339, or ""
};
// One for each layer; all unknown when history and layers do not match in number.
[[nodiscard]] std::vector<Instruction> instructions_of(const oci::ImageConfig& config, std::size_t layers);
// "/bin/sh -c #(nop) CMD …" and "RUN /bin/sh -c … # buildkit" as they stood in the Dockerfile.
[[nodiscard]] std::string instruction_text(std::string_view created_by);

}  // namespace cooper::inside
