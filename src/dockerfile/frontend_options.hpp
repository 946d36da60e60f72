// The options of the Dockerfile frontend, by the names that BuildKit's clients send.
// Pure, any thread. A bad value is bad input in BuildKit's words; options of others are passed over.
#pragma once

#include "dockerfile/convert_context.hpp"
#include "dockerfile/to_llb.hpp"

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace cooper::dockerfile {

// Where a cache may be imported from: "registry", {{"ref", "host/cache"}}.
struct CacheImport {
    std::string type;
    std::map<std::string, std::string> attrs;
    friend bool operator==(const CacheImport&, const CacheImport&) = default;
};

// What is to be attested ("sbom", "provenance") and the parameters of each.
using Attestations = std::map<std::string, std::map<std::string, std::string>>;

struct FrontendOptions {
    ConvertOptions convert;  // of each platform; target_platform is to be set
    ContextOptions context;
    std::vector<oci::Platform> platforms;  // asked for; empty = whatever the base images say
    bool multi_platform = false;           // one result for each platform, even of one
    std::string request_id;                // a subrequest; empty = build
    // What the caller wants a frontend to be able to and this one is not: no error if the file is given
    // to another frontend.
    std::optional<std::string> missing_cap;
    // The frontend that the caller names instead of the file (BUILDKIT_SYNTAX); empty = none.
    std::string syntax;
    bool started_by_gateway = false;  // as an image: the file's own "# syntax=" counts no more
    std::vector<CacheImport> cache_imports;
    Attestations attestations;
};

// Of "attest:KIND" and of "build-arg:BUILDKIT_ATTEST_KIND".
[[nodiscard]] Result<Attestations> attestations_of(const std::map<std::string, std::string>& options);

// Of "cache-imports" and of "cache-from".
[[nodiscard]] Result<std::vector<CacheImport>> cache_imports_of(const std::map<std::string, std::string>& options);

[[nodiscard]] Result<FrontendOptions> parse_frontend_options(const std::map<std::string, std::string>& options);

// The error for FrontendOptions::missing_cap.
[[nodiscard]] Error unsupported_cap(const std::string& name);

}  // namespace cooper::dockerfile
