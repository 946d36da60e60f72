// Where two builds of the same image differ first: which file of which layer, and how.
//
// Images are OCI layouts with uncompressed layers of ours (those that both have need not be). Both are our own files.
#pragma once

#include "base/digest.hpp"
#include "base/result.hpp"
#include "base/stop.hpp"
#include "sys/rooted_dir.hpp"

#include <optional>
#include <string>

namespace cooper::cli {

struct ImageDifference {
    std::string platform;  // of the image, when the result has several
    Digest layer;          // diff id of the first build's layer; empty = not in a layer
    std::string what;      // "/stamp: content differs from byte 7 on: …"
    bool of_time = false;  // nothing differs but times
};

// Nothing when they are the same to the last byte.
[[nodiscard]] Result<std::optional<ImageDifference>> first_difference(const sys::RootedDir& first,
                                                                      const sys::RootedDir& second, const Stop& stop);

}  // namespace cooper::cli
