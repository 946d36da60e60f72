// What the name of a base image tells of the C library and the versions in it. A guess from names that
// people follow: unknown images have no traits. Pure, any thread.
#pragma once

#include "oci/reference.hpp"

#include <cstdint>
#include <string>

namespace cooper::dockerfile {

enum class Libc : std::uint8_t { unknown, glibc, musl };

struct ImageTraits {
    std::string repository;  // "docker.io/library/python"
    std::string version;     // "3.11", of the tag; empty when it begins with none
    Libc libc = Libc::unknown;
    int debian = 0;  // 12 for bookworm; 0 = unknown
};
[[nodiscard]] ImageTraits image_traits(const oci::Reference& image);

// Whether one is the other or a more exact form of it: "3", "3.11", "3.11.4".
[[nodiscard]] bool same_version(const std::string& a, const std::string& b);

}  // namespace cooper::dockerfile
