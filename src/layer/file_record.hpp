// The digest of one name as BuildKit's contenthash makes it: docker's tarsum v1 header (no name, no times), the xattrs
// that count, then a regular file's bytes.
#pragma once

#include "layer/digest_table.hpp"
#include "snapshot/tree.hpp"

namespace cooper::layer {

// For a regular file, reads it; node is corrected when the file changed since it was looked at, and a file that keeps
// changing is an error. bytes_read is added to.
[[nodiscard]] Result<RawDigest> digest_record(const snapshot::Directory& dir, const std::string& name,
                                              snapshot::Node& node, std::uint64_t& bytes_read);
// A directory's own record (not its contents), as node has it.
[[nodiscard]] Result<RawDigest> digest_header(const snapshot::Directory& dir, const snapshot::Node& node);

}  // namespace cooper::layer
