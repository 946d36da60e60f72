// The Dockerfile frontend as a client calls it: options by BuildKit's names in, definitions and metadata
// out.
#pragma once

#include "dockerfile/to_llb.hpp"

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace cooper::dockerfile {

struct FrontendRequest {
    std::map<std::string, std::string> options;     // "filename", "target", "build-arg:X", …
    std::map<std::string, llb::Definition> inputs;  // by name
    // Hears of every warning when it is found, also of a file that is then refused. May be empty.
    std::function<void(WarningEvent)> warn;
    // Of the client whose local contexts are meant. The definition says so, as other builds may build upon it.
    std::string session_id;
};

// The file ("# syntax=") or BUILDKIT_SYNTAX asks for another frontend.
struct Forward {
    std::string image;
    std::string command_line;  // the whole value
    SourceText source;         // of the file
    int line = 0;              // that asks; 0: the build argument does
};

struct FrontendAnswer {
    bool single = true;  // one result, not one per platform
    std::vector<std::pair<std::string, llb::Definition>>
        platforms;  // id ("linux/arm64") and result; none: a question was answered
    std::map<std::string, std::vector<ScanTarget>> scans;  // by platform, as above
    std::map<std::string, std::string> metadata;           // containerimage.config, refs.platforms, …
    std::optional<Forward> forward;
};

// Errors carry the range and an excerpt of the file they are about.
[[nodiscard]] Result<FrontendAnswer> run_frontend(const FrontendRequest& request, frontend::Bridge& bridge, Stop stop);

// What the frontend that was asked for failed with, shown at the line that asks for it.
[[nodiscard]] Error forward_failed(const Error& error, const Forward& forward);

// Whether an image named by "# syntax=" is this frontend: docker/dockerfile and its upstream twin, with
// any tag but without a digest.
[[nodiscard]] bool is_own_frontend(const std::string& image);

}  // namespace cooper::dockerfile
