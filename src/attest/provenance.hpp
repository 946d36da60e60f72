// Provenance: how a result came to be, as a SLSA predicate in the form that BuildKit gives it. Pure, any thread.
// Specs: SLSA provenance v1 and v0.2; BuildKit's extensions of both. Ours: `cooper_steps`, when each step of an LLB
// ran.
//
// What is written here has no secrets: their values and credentials inside of URLs are replaced (see Facts::hide).
#pragma once

#include "attest/request.hpp"
#include "base/clock.hpp"
#include "base/result.hpp"
#include "llb/definition.hpp"
#include "llb/load.hpp"
#include "oci/descriptor.hpp"

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cooper::attest {

// What a source was when it was used.
struct Material {
    std::string uri;
    std::string algorithm;  // "sha256", "sha1"
    std::string hex;
    friend auto operator<=>(const Material&, const Material&) = default;
};

struct StepTimes {
    std::optional<Timestamp> started;
    std::optional<Timestamp> completed;
    bool cached = false;
};

struct Facts {
    std::string frontend;                     // empty: the client sent LLB
    std::map<std::string, std::string> args;  // of the frontend
    llb::Definition definition;
    llb::Graph graph;                      // of the definition
    std::map<Digest, Material> materials;  // by source operation; those that are known by content
    std::map<Digest, StepTimes> times;     // by operation
    // Of outputs (place in the graph, number), as far as they are in the image.
    std::map<std::pair<std::size_t, std::int64_t>, std::vector<oci::Descriptor>> layers;
    std::string builder_platform;
    std::map<std::string, std::string> environment;  // what whoever runs the builder says of it: JSON by its key
    // What stays unsaid makes builds of one thing equal.
    std::optional<std::string> invocation;
    std::optional<Timestamp> started;
    std::optional<Timestamp> finished;
    std::function<std::string(std::string_view)> hide;  // replaces the values of secrets
};

// The keys of a file of whoever runs the builder, a JSON object, go to `environment`; a later file's win. Keys that
// provenance has itself are refused.
[[nodiscard]] Result<> add_environment(std::string_view text, std::map<std::string, std::string>& environment);

// Sources that no content names. With complete_materials they are an error: failed_precondition.
[[nodiscard]] std::vector<std::string> unnamed_sources(const Facts& facts);

// The predicate; its type is predicate_type_of.
[[nodiscard]] Result<std::string> make_provenance(const Facts& facts, const ProvenanceRequest& request);
[[nodiscard]] std::string_view predicate_type_of(const ProvenanceRequest& request);

}  // namespace cooper::attest
