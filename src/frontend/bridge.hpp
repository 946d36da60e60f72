// Bridge: the questions a frontend asks the engine while it turns text into LLB. Implemented by the
// engine (and by a fake in tests). Every method may be called from several threads at once and may
// block; Stop is last. Also the vocabulary of build contexts.
#pragma once

#include "base/digest.hpp"
#include "base/result.hpp"
#include "base/stop.hpp"
#include "llb/definition.hpp"
#include "llb/op.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::frontend {

enum class ResolveMode : std::uint8_t { standard, pull, local };  // "default", "pull", "local"

struct ResolvedImage {
    std::string reference;    // normalised, "docker.io/library/alpine:3.20", without the digest
    Digest digest;            // of the manifest or index the reference names
    std::string config_json;  // of the image of the platform asked for
};

// An image in a store of the client, named by "oci-layout://store@digest".
struct OciLayout {
    std::string reference;  // "store@sha256:…"
    std::string store_id;
    std::string session_id;  // may be empty
};

struct ContextStat {
    bool is_directory = false;
    std::uint64_t size_bytes = 0;
};

// How large a local context is, as far as somebody looked.
struct ContextSize {
    std::uint64_t files = 0;
    std::uint64_t bytes = 0;
    bool more = false;                 // there are more files than were counted
    std::vector<std::string> notable;  // at its top, seldom meant for an image: ".git", "node_modules"
};

class Bridge {
public:
    virtual ~Bridge() = default;

    // `reference` is normalised. `log_name` is what progress shows: "[internal] load metadata for …".
    // not_found when there is no such image.
    virtual Result<ResolvedImage> resolve_image_config(const std::string& reference, const llb::Platform& platform,
                                                       ResolveMode mode, const std::string& log_name, Stop stop) = 0;
    virtual Result<ResolvedImage> resolve_oci_layout(const OciLayout& layout, const llb::Platform& platform,
                                                     const std::string& log_name, Stop stop) = 0;

    // Files of a local context by its name on the session ("context", "dockerfile", a named one), in one step;
    // nullopt for one that does not exist. Of a larger file the first limit_bytes. `log_name` as above.
    virtual Result<std::vector<std::optional<std::string>>> read_local_files(const std::string& local_name,
                                                                             const std::vector<std::string>& paths,
                                                                             std::size_t limit_bytes,
                                                                             const std::string& log_name,
                                                                             Stop stop) = 0;
    // The same of what a definition (git, http, image) builds to.
    virtual Result<std::optional<std::string>> read_file_of(const llb::Definition& definition, const std::string& path,
                                                            std::size_t limit_bytes, Stop stop) = 0;
    virtual Result<std::optional<ContextStat>> stat_of(const llb::Definition& definition, const std::string& path,
                                                       Stop stop) = 0;
    // Of the whole directory, nothing ignored; nullopt when it cannot be known cheaply. Only checks ask.
    virtual Result<std::optional<ContextSize>> measure_local(const std::string& /*local_name*/, Stop /*stop*/) {
        return std::nullopt;
    }
    // Seconds since 1970: of the one git commit or URL a definition reads, for a URL without a Last-Modified of
    // the newest file in its archive. nullopt when it reads something else, or nothing says.
    virtual Result<std::optional<std::int64_t>> time_of(const llb::Definition& /*definition*/,
                                                        const std::string& /*log_name*/, Stop /*stop*/) {
        return std::nullopt;
    }
    // The first bytes (at most limit_bytes) of what a URL gives, to tell an archive from a Dockerfile.
    // Fetched through the same cache as the build's own http source.
    virtual Result<std::string> peek_http(const std::string& url, std::size_t limit_bytes, Stop stop) = 0;
};

}  // namespace cooper::frontend
