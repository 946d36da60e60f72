// The index.json of an OCI image layout (image-spec image-layout.md) that a client keeps: which manifest has which
// name.
#pragma once

#include "oci/descriptor.hpp"

#include <string>

namespace cooper::session {

// The digest of what has this tag; "latest" is also the only one there is. not_found when there is no layout, or
// nothing of that name in it.
[[nodiscard]] Result<std::string> digest_in_layout(const std::string& directory, const std::string& tag);

// Puts a descriptor into index.json under a name, in the place of what had that name.
[[nodiscard]] Result<> name_in_layout(const std::string& directory, oci::Descriptor descriptor,
                                      const std::string& name);

}  // namespace cooper::session
