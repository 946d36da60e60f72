// The index.json of an OCI image layout (image-spec image-layout.md) that a client keeps: which manifest has which
// name.
#pragma once

#include "oci/descriptor.hpp"

#include <map>
#include <string>

namespace cooper::session {

// The digest of what has this tag; "latest" is also the only one there is. not_found when there is no layout, or
// nothing of that name in it.
[[nodiscard]] Result<std::string> digest_in_layout(const std::string& directory, const std::string& tag);

// What stands beside a cache with this tag in a directory: its names there are TAG-NAME. In a build they are attributes
// of the cache, "digest.NAME". None where there is no layout.
[[nodiscard]] Result<std::map<std::string, std::string>> digests_beside(const std::string& directory,
                                                                        const std::string& tag);
// Under this key a build answers what is to be named so in a directory: a descriptor. And names it.
[[nodiscard]] std::string answer_key_beside(const std::string& directory, const std::string& name);
[[nodiscard]] Result<> name_beside(const std::string& directory, const std::string& tag,
                                   const std::map<std::string, std::string>& answer);

// Puts a descriptor into index.json under a name, in the place of what had that name. Processes wait for each other.
[[nodiscard]] Result<> name_in_layout(const std::string& directory, oci::Descriptor descriptor,
                                      const std::string& name);
// When all names of a cache are given: removes caches without a name, which newer ones have replaced, and the blobs
// that nothing in index.json leads to and that nobody has written or asked for in the last hour.
[[nodiscard]] Result<> sweep_layout(const std::string& directory);

}  // namespace cooper::session
