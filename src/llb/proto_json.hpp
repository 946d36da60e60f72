// Operations as the canonical JSON of their protobuf messages: names in camel case, 64-bit numbers as text,
// enumerations by name, bytes in base64, zero values left out. For people and tools; never an identity.
// Pure, any thread.
#pragma once

#include "base/result.hpp"
#include "codec/go_json.hpp"
#include "llb/definition.hpp"

#include <string_view>

namespace cooper::llb {

// The message Op of these bytes as one value; unknown fields are left out. A broken message is bad input,
// and what was written by then is of no use.
[[nodiscard]] Result<> put_proto_json(codec::GoJson& json, std::string_view op_bytes);
void put_proto_json(codec::GoJson& json, const SourceMap& source);

}  // namespace cooper::llb
