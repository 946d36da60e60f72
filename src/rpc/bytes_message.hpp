// BytesMessage: the message of BuildKit's services that carry plain bytes (field 1, bytes), in all their packages.
// Pure; any thread.
#pragma once

#include "base/result.hpp"

#include <string>
#include <string_view>

namespace cooper::rpc {

// Replaces message by the one that carries data.
void wrap_bytes(std::string_view data, std::string& message);
// A view into the message. Unknown fields are skipped.
[[nodiscard]] Result<std::string_view> unwrap_bytes(std::string_view message);

}  // namespace cooper::rpc
