// Doors between LLB values and protobuf bytes. Writing is deterministic and byte for byte what Go's
// deterministic marshal gives (fields by number, map keys sorted, zero values left out), because the
// sha256 of an operation's bytes is its identity. Reading skips unknown fields, bounds depth and
// counts, and refuses bad UTF-8-independent framing only; meaning is checked by load.hpp.
// Pure, any thread.
#pragma once

#include "llb/definition.hpp"
#include "llb/op.hpp"

#include <string>
#include <string_view>

namespace cooper::llb {

[[nodiscard]] std::string marshal(const Op& op);
[[nodiscard]] std::string marshal(const Definition& definition);
[[nodiscard]] std::string marshal(const OpMetadata& metadata);

[[nodiscard]] Result<Op> parse_op(std::string_view bytes);
[[nodiscard]] Result<Definition> parse_definition(std::string_view bytes);

// sha256 of the bytes of an operation: the digest of its vertex.
[[nodiscard]] Digest op_digest(std::string_view op_bytes);

}  // namespace cooper::llb
