// The door from a Dockerfile to LLB: one platform of one build. Stages that the target does not need are
// neither resolved nor converted. Operations, step names, history and image configuration are
// BuildKit's.
//
// Blocks on `bridge` only; images of reachable stages are asked for in parallel. Thread rules: one call
// is one thread (plus those it starts and joins).
#pragma once

#include "base/clock.hpp"
#include "base/progress.hpp"
#include "base/result.hpp"
#include "base/stop.hpp"
#include "dockerfile/convert_outline.hpp"
#include "dockerfile/lint.hpp"
#include "frontend/bridge.hpp"
#include "llb/definition.hpp"
#include "llb/state.hpp"
#include "oci/image_config.hpp"
#include "oci/platform.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace cooper::dockerfile {

// The main build context: a directory of the client, or something already described in LLB.
struct BuildContext {
    std::string local_name = "context";
    std::vector<std::string> exclude_patterns;  // of .dockerignore
    std::optional<llb::State> remote;           // git, http, an input
    bool has_ignore_file = false;
};

struct ConvertOptions {
    std::string filename = "Dockerfile";  // for source ranges and messages
    BuildContext context;

    std::map<std::string, std::string> build_args;
    std::map<std::string, std::string> labels;
    std::string target;
    // What was asked for; nullopt = build for the first build platform, and believe base images.
    std::optional<oci::Platform> target_platform;
    std::vector<oci::Platform> build_platforms;  // empty = this machine
    bool multi_platform = false;                 // names show the platform
    frontend::ResolveMode resolve_mode = frontend::ResolveMode::standard;
    // nullopt = use the cache; empty = for no stage; else not for these.
    std::optional<std::vector<std::string>> no_cache;

    // NAME or NAME::PLATFORM = "docker-image://…", "local:NAME", "https://…", "git@…", "oci-layout://…",
    // "input:NAME".
    std::map<std::string, std::string> named_contexts;
    std::map<std::string, llb::Definition> inputs;
    std::map<std::string, std::string> input_metadata;     // by input: JSON with its image configuration
    std::map<std::string, std::string> local_shared_keys;  // by named context
    std::map<std::string, std::string> local_session_ids;  // by local context: another client has it
    std::string session_id;                                // of the client that has all others; empty: whoever builds

    std::vector<llb::HostIp> extra_hosts;
    llb::NetMode network = llb::NetMode::unset;
    std::int64_t shm_size_bytes = 0;
    std::vector<llb::Ulimit> ulimits;
    std::vector<llb::CdiDevice> devices;
    std::string cgroup_parent;
    std::optional<llb::LinuxResources> linux_resources;
    std::string hostname;
    std::string cache_mount_namespace;  // BUILDKIT_CACHE_MOUNT_NS
    // Checks that a "check=" directive would set; nullopt = believe BUILDKIT_DOCKERFILE_CHECK of the build
    // arguments, and without it the file.
    std::optional<std::string> check_options;
    // Hears of every warning when it is found, also in a file that is then refused. Of a build for several
    // platforms only the first is given one. May be empty.
    std::function<void(WarningEvent)> warn;
};

// A stage, or the context, whose packages are to be looked for besides those of the result: what the switches
// BUILDKIT_SBOM_SCAN_STAGE and BUILDKIT_SBOM_SCAN_CONTEXT ask for.
struct ScanTarget {
    std::string name;  // of the stage, or its number; "context"
    llb::Definition definition;
};

struct BuildPlan {
    llb::Definition definition;                  // scratch when the result is empty
    oci::ImageConfig image;                      // without rootfs of the new layers; its history has all entries
    std::optional<oci::ImageConfig> base_image;  // as it came from the registry
    std::optional<std::int64_t> epoch_seconds;   // SOURCE_DATE_EPOCH
    bool ignore_cache = false;                   // of the target stage
    std::vector<ScanTarget> scans;               // of what was built for the result
    oci::Platform platform;                      // of the result
    std::set<std::string> context_paths;         // of the main context, rooted; "/" = everything
    std::string target_name;                     // stage that was built; empty when it has no name
};

[[nodiscard]] Result<BuildPlan> to_llb(const std::string& dockerfile, const ConvertOptions& options,
                                       frontend::Bridge& bridge, Stop stop);

// What such a build takes. Converts all that the target needs, as a build does.
[[nodiscard]] Result<Outline> outline_of(const std::string& dockerfile, const ConvertOptions& options,
                                         frontend::Bridge& bridge, Stop stop);

// What the checks find, of all stages when no target is named, as far as the file can be converted.
struct LintResult {
    std::vector<LintWarning> warnings;
    std::optional<Error> error;
};
[[nodiscard]] LintResult lint(const std::string& dockerfile, const ConvertOptions& options, frontend::Bridge& bridge,
                              Stop stop);

}  // namespace cooper::dockerfile
