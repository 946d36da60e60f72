// What attestations a build shall have: the parameters of `attest:provenance` and `attest:sbom`, checked. A door.
// Pure, any thread.
#pragma once

#include "base/result.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace cooper::attest {

enum class Slsa : std::uint8_t { v1, v02 };
enum class Detail : std::uint8_t { min, max };

struct ProvenanceRequest {
    Slsa version = Slsa::v1;
    Detail detail = Detail::max;
    bool inline_only = false;  // with images that are kept or pushed, not in archives and directories
    std::string filename = "provenance.json";
    std::string builder_id;
    bool reproducible = false;        // what the user claims of the build
    bool complete_materials = false;  // sources that cannot be named by content fail the build
};

enum class SbomFormat : std::uint8_t { spdx, cyclonedx };

struct SbomRequest {
    std::string generator;  // image of a scanner; empty = made here
    SbomFormat format = SbomFormat::spdx;
    std::map<std::string, std::string> parameters;  // for the scanner
};

struct Requests {
    std::optional<ProvenanceRequest> provenance;
    std::optional<SbomRequest> sbom;
    [[nodiscard]] bool empty() const { return !provenance && !sbom; }
};

// By kind ("provenance", "sbom") the parameters as they were written.
[[nodiscard]] Result<Requests> parse_requests(
    const std::map<std::string, std::map<std::string, std::string>>& attestations);

}  // namespace cooper::attest
