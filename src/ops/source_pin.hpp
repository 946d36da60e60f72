// What a source was found to be: "sha256" of an image's manifest or of a file, "sha1" of a commit.
#pragma once

#include <string>

namespace cooper::ops {

struct SourcePin {
    std::string algorithm;
    std::string hex;
};

}  // namespace cooper::ops
