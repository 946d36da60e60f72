// Package URLs: what a package or an image is called in attestations ("pkg:deb/debian/curl@7.88?arch=amd64").
// Pure, any thread. Spec: package-url/purl-spec.
#pragma once

#include "oci/platform.hpp"
#include "oci/reference.hpp"

#include <map>
#include <optional>
#include <string>

namespace cooper::attest {

struct Purl {
    std::string type;
    std::string space;  // namespace; its segments are separated by "/"
    std::string name;
    std::string version;
    std::map<std::string, std::string> qualifiers;  // empty ones are left out
};

[[nodiscard]] std::string to_string(const Purl& purl);

// "pkg:docker/busybox@latest?platform=linux%2Famd64", with the digest when the reference has one. As BuildKit names
// images: by their familiar name.
[[nodiscard]] std::string image_purl(const oci::Reference& reference, const std::optional<oci::Platform>& platform);

}  // namespace cooper::attest
