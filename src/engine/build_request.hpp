// What a build is asked for and what it answers: the only types that cli and daemon exchange with the
// engine. Plain values; validated where flags or messages are parsed.
#pragma once

#include "base/digest.hpp"
#include "oci/descriptor.hpp"
#include "oci/platform.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace cooper::engine {

// Where the files of a build come from. `text` by kind: directory: host path; git: URL with
// #ref:subdir; http: URL of an archive or a Dockerfile; stdin_dockerfile: empty context.
struct ContextSpec {
    enum class Kind : std::uint8_t { directory, git, http, tar_stream, empty };
    Kind kind = Kind::directory;
    std::string text;
    int tar_fd = -1;  // tar_stream: read to its end by the build; stays the caller's
};

// A secret is read when a step needs it, and only then.
struct SecretSpec {
    std::string id;
    std::string file;           // host path, or
    std::string env;            // name of an environment variable of the caller
    bool leak_allowed = false;  // steps may leave its value in the result
    bool invalidate = false;    // a step that uses it runs again when its value is another
};

struct SshSpec {
    std::string id;                  // "default" when not named
    std::vector<std::string> paths;  // agent socket, or private key files; empty = $SSH_AUTH_SOCK
};

// -o type=oci,dest=out.tar,… With the attribute on-failure=true (type=local only): the files below `src` of the step
// that failed, and nothing when none fails.
struct ExportSpec {
    std::string type;  // image, registry is image with push=true, oci, docker, local, tar, cacheonly
    std::map<std::string, std::string> attrs;
    std::string dest;  // host path; "-" = standard output; empty where none applies
    // >= 0: files go to the client, to its exporter of this number, and dest is ignored.
    int client_exporter = -1;
    // The client speaks BuildKit's API: what is no attribute of an exporter is metadata of the result, or means
    // nothing.
    bool keeps_unknown_attrs = false;
};

// --cache-to, --cache-from: cachestore's types, and inline, with BuildKit's attributes.
struct CacheSpec {
    std::string type;
    std::map<std::string, std::string> attrs;
    friend auto operator<=>(const CacheSpec&, const CacheSpec&) = default;
};

enum class NetworkMode : std::uint8_t { sandbox, none, host };

struct BuildRequest {
    ContextSpec context;
    // Path of the Dockerfile as the user typed it (host path for directory contexts, path inside the
    // context otherwise); empty = "Dockerfile" of the context.
    std::string dockerfile;
    // The Dockerfile itself (-f - or a Dockerfile on standard input).
    std::optional<std::string> dockerfile_text;

    // A question instead of a build, by the id of its subrequest ("frontend.lint"); empty = build.
    std::string call;

    std::string target;
    std::map<std::string, std::string> build_args;
    std::map<std::string, std::string> labels;
    std::map<std::string, std::string> named_contexts;
    std::vector<oci::Platform> platforms;  // empty = this machine's
    bool git_modes = false;                // files of local contexts have the modes that git would record
    bool no_cache = false;
    std::vector<std::string> no_cache_filter;
    bool pull = false;
    // Set: steps that are not in the cache fail the build; of all stages, or of these ("builder,test").
    std::optional<std::string> expect_cached;
    std::vector<SecretSpec> secrets;
    std::vector<SshSpec> ssh;
    std::vector<std::pair<std::string, std::string>> add_hosts;  // name, address or "host-gateway"
    NetworkMode network = NetworkMode::sandbox;
    std::vector<std::string> allow;  // entitlements: network.host, security.insecure, device[=NAME[,alias=NAME]]
    std::int64_t shm_size_bytes = 0;
    std::vector<std::string> ulimits;  // name=soft[:hard]
    std::string cgroup_parent;
    // Limits of every step by their frontend options: memory, memswap, cpushares, cpuperiod, cpuquota,
    // cpusetcpus, cpusetmems.
    std::map<std::string, std::string> limits;

    // A policy for sources, as JSON; empty = none.
    std::string source_policy_json;
    // What is in cooper.lock; empty = nothing is locked. frozen: all remote sources must be locked, or pinned in the
    // Dockerfile itself.
    std::string lock_json;
    bool frozen = false;

    // What is said of the images: kind (provenance, sbom) and its parameters as one line of comma separated values.
    std::map<std::string, std::string> attestations;

    std::vector<CacheSpec> cache_imports;
    std::vector<CacheSpec> cache_exports;
    std::vector<std::string> tags;
    std::vector<ExportSpec> exports;  // empty = keep as an image when tagged, else only in the cache
};

struct BuildResponse {
    std::string ref;                        // id of this build: `cooper logs REF`
    std::optional<Digest> image_id;         // config digest
    std::optional<oci::Descriptor> target;  // manifest or index
    std::vector<std::string> names;
    std::map<std::string, std::string> metadata;  // what --metadata-file prints: values are JSON text
    std::map<std::string, std::string> answer;    // of a call: "result.json", "result.txt", …
    std::map<Digest, std::string> steps;          // what made a layer, by its diff id: "Dockerfile:3: [2/2] RUN make"
};

}  // namespace cooper::engine
