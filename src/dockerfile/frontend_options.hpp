// The options of the Dockerfile frontend, by the names that BuildKit's clients send (dockerfile.md §15).
// Pure, any thread. A bad value is bad input that names the option; options of others are passed over.
#pragma once

#include "dockerfile/convert_context.hpp"
#include "dockerfile/to_llb.hpp"

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace cooper::dockerfile {

struct FrontendOptions {
    ConvertOptions convert;  // of each platform; target_platform is to be set
    ContextOptions context;
    std::vector<oci::Platform> platforms;  // asked for; empty = whatever the base images say
    bool multi_platform = false;           // one result for each platform, even of one
    std::string request_id;                // a subrequest; empty = build
    std::vector<std::string> required_caps;
    // The frontend that the caller names instead of the file (BUILDKIT_SYNTAX); empty = none.
    std::string syntax;
    bool started_by_gateway = false;  // as an image: the file's own "# syntax=" counts no more
};

[[nodiscard]] Result<FrontendOptions> parse_frontend_options(const std::map<std::string, std::string>& options);

}  // namespace cooper::dockerfile
