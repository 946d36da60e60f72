// In-toto statements: who (subjects) and what (a predicate). Pure, any thread.
// Specs: in-toto attestation framework v0.1; as BuildKit writes them.
#pragma once

#include "base/digest.hpp"

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::attest {

inline constexpr std::string_view kStatementType = "https://in-toto.io/Statement/v0.1";
inline constexpr std::string_view kMediaType = "application/vnd.in-toto+json";
inline constexpr std::string_view kPredicateAnnotation = "in-toto.io/predicate-type";
inline constexpr std::string_view kSlsa1 = "https://slsa.dev/provenance/v1";
inline constexpr std::string_view kSlsa02 = "https://slsa.dev/provenance/v0.2";
inline constexpr std::string_view kSpdx = "https://spdx.dev/Document";
inline constexpr std::string_view kCycloneDx = "https://cyclonedx.org/bom";

struct Subject {
    std::string name;
    Digest digest;
};

// Of whom something is said: of the result, perhaps under one more name, or of something else.
struct About {
    bool result = true;
    std::string name;
    std::map<std::string, std::string> digests;  // of something else: by algorithm
};

// What is said; the result is known when the image is packed.
struct Attestation {
    std::string predicate_type;
    std::string predicate;  // JSON
    std::string filename;   // in directories and tars, where it has one
    bool inline_only = false;
    std::vector<About> about{};  // empty = the result
};

// subjects: the names of the result.
[[nodiscard]] std::string make_statement(const Attestation& attestation, const std::vector<Subject>& subjects);

}  // namespace cooper::attest
