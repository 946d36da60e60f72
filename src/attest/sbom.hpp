// What is in an image, as documents: SPDX 2.3 and CycloneDX 1.5 in JSON. Same facts, same bytes: the time in a document
// is SOURCE_DATE_EPOCH, or 1970, and its identity is the digest of what it says. Pure, any thread.
#pragma once

#include "attest/find_packages.hpp"
#include "attest/request.hpp"
#include "base/digest.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::attest {

struct SbomLayer {
    Digest digest;            // of its blob
    std::string instruction;  // that made it; may be empty
};

struct SbomFacts {
    std::string name;  // of what is described
    Inventory inventory;
    std::vector<SbomLayer> layers;  // as Package::layer counts them
    std::optional<std::int64_t> epoch_seconds;
};

[[nodiscard]] std::string make_sbom(const SbomFacts& facts, SbomFormat format);
[[nodiscard]] std::string_view predicate_type_of(SbomFormat format);
[[nodiscard]] std::string_view file_name_of(SbomFormat format);

// Whether a text is an SPDX license expression of well-known licenses.
[[nodiscard]] bool is_license_expression(std::string_view text);

}  // namespace cooper::attest
