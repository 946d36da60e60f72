// The attributes of `-o type=…,k=v` as BuildKit names them, checked. A door: unknown keys and bad values are bad input
// with a suggestion.
#pragma once

#include "exporter/packer.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::exporter {

enum class ExportType : std::uint8_t { image, oci, docker, local, tar, cacheonly };

// Annotations of one platform's image.
struct ImageAnnotations {
    oci::Annotations manifest;
    oci::Annotations descriptor;
};

struct ExportOptions {
    ExportType type = ExportType::image;
    std::vector<std::string>
        names;  // canonical, with tag ("docker.io/library/x:latest"), in the order given, no doubles
    PackOptions pack;
    std::map<std::string, ImageAnnotations> of_platforms;  // by format_platform; they win over those of all
    oci::Annotations index_annotations;                    // for an image of several platforms only
    oci::Annotations index_descriptor_annotations;
    bool push = false;
    bool push_by_digest = false;                // then names have no tag
    bool insecure_registry = false;             // registry.insecure
    bool store = true;                          // keep as an image here
    bool name_canonical = false;                // kept also as name@digest
    std::string dangling_prefix;                // kept also as prefix@digest; canonical, without tag; empty = not
    bool dangling_only = false;                 // but only when there is no other name
    std::optional<std::int64_t> epoch_seconds;  // source-date-epoch; wins over the build's
    // Files of each platform in a folder of its own; unset: when the frontend answered by platform.
    std::optional<bool> platform_split;
    bool squash_waste = false;                    // store nothing in vain above the base
    std::optional<std::uint64_t> max_size_bytes;  // of the files of all layers; a larger result is not exported
    bool delete_others = false;                   // local: what is at the destination and not in the result goes
    bool oci_artifact = true;         // attestations are artifacts with a subject, not images of no platform
    bool attestation_inline = false;  // also those that are for images only
    std::string attestation_prefix;   // of the names of their files; local, tar
    bool unpack = false;              // layers are on disk anyway; accepted
    bool tar = true;                  // oci, docker: false = a layout directory
    std::string dest;                 // host path, "-" = standard output
    // Of attributes that no exporter knows, as BuildKit's clients may give them; they win over the frontend's.
    std::map<std::string, std::string> metadata;
};

enum class UnknownAttribute : std::uint8_t { refuse, keep };

// type "registry" is image with push. tags (of --tag) are added to the names. dest may also be an attribute.
[[nodiscard]] Result<ExportOptions> parse_export_options(std::string_view type,
                                                         const std::map<std::string, std::string>& attrs,
                                                         std::string_view dest, const std::vector<std::string>& tags,
                                                         UnknownAttribute unknown);

}  // namespace cooper::exporter
