// Descriptor: a typed, sized, content-addressed pointer. Spec: OCI image-spec descriptor.md.
#pragma once

#include "base/digest.hpp"
#include "oci/platform.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace cooper::oci {

using Annotations = std::map<std::string, std::string>;

struct Descriptor {
    std::string media_type;
    Digest digest;
    std::uint64_t size = 0;
    std::vector<std::string> urls;
    Annotations annotations;
    std::string data;  // the content itself, base64 as on the wire; usually empty
    std::optional<Platform> platform;
    std::string artifact_type;

    friend bool operator==(const Descriptor&, const Descriptor&) = default;
};

// JSON of one descriptor, fields in the order of the Go struct.
[[nodiscard]] Result<Descriptor> parse_descriptor(std::string_view json);
[[nodiscard]] std::string marshal_descriptor(const Descriptor& descriptor);

}  // namespace cooper::oci
