// A build at a daemon: Control.Solve, with its progress. What the daemon asks meanwhile goes to an OfferedSession.
#pragma once

#include "base/progress.hpp"
#include "base/result.hpp"
#include "base/stop.hpp"
#include "client/connection.hpp"
#include "client/offer.hpp"

#include <map>
#include <string>
#include <vector>

namespace cooper::client {

using Attributes = std::map<std::string, std::string>;

// An exporter or a cache: {"image", {{"name", "shop/api"}}}.
struct TypedAttributes {
    std::string type;
    Attributes attrs;
};

struct SolveSpec {
    std::string ref;         // random_id()
    std::string definition;  // pb.Definition; or
    std::string frontend;    // "dockerfile.v0", "gateway.v0"
    Attributes frontend_attrs;
    Attributes frontend_inputs;  // name → pb.Definition
    std::vector<TypedAttributes> exporters;
    std::vector<TypedAttributes> cache_exports;
    std::vector<TypedAttributes> cache_imports;
    std::vector<std::string> entitlements;
    std::string source_policy_json;  // of sourcepolicy.Policy; empty = none
};

// What the exporters answered ("containerimage.digest", …). A stop cancels the build.
[[nodiscard]] Result<Attributes> solve(const Connection& connection, const OfferedSession& session,
                                       const SolveSpec& spec, ProgressSink& progress, const Stop& stop);

// Asks the frontend of the spec instead of building (attribute "requestid"): the metadata of its result ("result.json",
// "result.txt"). Exporters and caches to export to are not used.
[[nodiscard]] Result<Attributes> ask_frontend(const Connection& connection, const OfferedSession& session,
                                              const SolveSpec& spec, ProgressSink& progress, const Stop& stop);

// Progress of a build that runs or is in the daemon's history, to its end.
[[nodiscard]] Result<> follow(const Connection& connection, const std::string& ref, ProgressSink& progress,
                              const Stop& stop);

}  // namespace cooper::client
