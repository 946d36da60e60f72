// Engine: one wired cooper over one state directory, as a library. `cooper build` opens one in its own
// process; a daemon opens one and keeps it. Several engines, in several processes, may share a state
// directory. All calls may come from any thread and block; Stop ends them.
#pragma once

#include "base/progress.hpp"
#include "base/stop.hpp"
#include "engine/build_job.hpp"
#include "engine/build_request.hpp"
#include "engine/config.hpp"
#include "handover/grpc_peer.hpp"
#include "inside/image.hpp"
#include "sourcepolicy/lock.hpp"
#include "sys/fd.hpp"
#include "why/cause.hpp"

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace cooper::engine {

struct ImageRow {
    std::string name;              // "docker.io/library/x:1"; empty for an image without a name
    Digest id;                     // config digest (index digest when several platforms)
    Digest manifest;               // digest of the manifest or index
    Timestamp created;             // of the image config; epoch when unknown
    std::uint64_t size_bytes = 0;  // unpacked content of all layers
};

struct UsageRow {
    std::string id;
    std::string description;
    std::string record_type;  // regular, source.local, exec.cachemount, …
    std::uint64_t size_bytes = 0;
    bool in_use = false;
    bool shared = false;
    bool mutable_record = false;
    std::int64_t usage_count = 0;
    std::optional<Timestamp> created;
    std::optional<Timestamp> last_used;
    std::vector<std::string> parents;  // ids of what it is on top of
};

// Why a record is there and what would free it, in words.
struct KeptRow {
    UsageRow usage;
    std::vector<std::string> by;
    std::vector<std::string> freed_by;
};

struct PruneRequest {
    bool all = false;
    bool dry_run = false;              // only says what would go
    std::vector<std::string> filters;  // until=24h, type==…, id==…
    std::uint64_t keep_storage_bytes = 0;
    std::chrono::seconds unused_for{0};                // only what nobody has used for so long
    std::function<bool(const UsageRow& record)> only;  // only what it says yes to; empty = everything
};
struct PruneResponse {
    std::vector<UsageRow> removed;
    std::uint64_t freed_bytes = 0;
};

struct BuildRow {
    std::string ref;
    std::string description;  // context and target
    Timestamp started;
    std::optional<Timestamp> completed;
    std::string error;  // empty = succeeded
    int steps = 0;
    int cached_steps = 0;
};

// Why the steps of a build ran.
struct WhyAnswer {
    std::string ref;
    std::string description;
    int steps = 0;
    int cached_steps = 0;
    std::vector<why::Miss> misses;  // in the order in which they began
};

struct RunRequest {
    std::string image;
    std::vector<std::string> command;       // empty = the image's
    std::optional<std::string> entrypoint;  // set and empty = none
    std::vector<std::string> env;           // K=V or K (taken from the caller)
    std::vector<std::string> volumes;       // HOST:CONTAINER[:ro]
    std::vector<std::string> publish;       // [IP:]HOST:CONTAINER[/proto]
    std::string workdir;
    std::string user;
    std::string hostname;
    std::string network = "default";  // default, none, host
    std::vector<std::pair<std::string, std::string>> add_hosts;
    bool tty = false;
    bool interactive = false;
    bool read_only = false;
    bool pull = false;
};

struct InfoRow {
    std::string key;
    std::string value;
};

// What an image is made of, for one platform.
struct ImagePart {
    std::string platform;
    Digest manifest;
    std::size_t layers = 0;
    std::optional<std::uint64_t> packed_bytes;    // as it travels; unknown where nothing was packed yet
    std::optional<std::uint64_t> unpacked_bytes;  // of what is kept here
};
struct ImageParts {
    std::string name;
    oci::Descriptor target;  // a manifest or an index
    std::vector<ImagePart> parts;
    std::size_t attestations = 0;  // manifests of them
};

// A statement about an image.
struct Attested {
    std::string platform;  // of the image; may be empty
    Digest subject;        // its manifest
    std::string predicate_type;
    std::string statement;  // JSON, by whoever wrote it
};

class Engine {
public:
    static Result<std::unique_ptr<Engine>> open(std::string root, Config config);
    virtual ~Engine() = default;

    // The job must end before the engine; progress outlives the job.
    virtual Result<std::unique_ptr<BuildJob>> start_job(JobOptions options, ProgressSink& progress) = 0;
    // What the names of all remote sources of a Dockerfile mean now; builds nothing.
    virtual Result<sourcepolicy::Lock> lock_sources(const BuildRequest& request, ProgressSink& progress, Stop stop) = 0;
    virtual Result<BuildResponse> build(const BuildRequest& request, ProgressSink& progress, Stop stop) = 0;

    // Images. Names are as users type them; "not found" errors suggest near names.
    virtual Result<std::vector<ImageRow>> list_images() = 0;
    // Removes a name, or an image by id with all its names when force is set. Returns what was removed.
    enum class Force : std::uint8_t { no, yes };
    virtual Result<std::vector<std::string>> remove_image(const std::string& name_or_id, Force force) = 0;
    virtual Result<> tag_image(const std::string& source, const std::string& target) = 0;
    virtual Result<oci::Descriptor> pull_image(const std::string& name, const std::optional<oci::Platform>& platform,
                                               ProgressSink& progress, Stop stop) = 0;
    virtual Result<oci::Descriptor> push_image(const std::string& name, ProgressSink& progress, Stop stop) = 0;
    // Writes a tar that docker load, podman and skopeo read (OCI layout plus manifest.json).
    virtual Result<> save_images(const std::vector<std::string>& names, int out_fd, Stop stop) = 0;
    // Into an engine of this machine, which is sent only what it lacks.
    struct HandOverRequest {
        std::vector<std::string> names;
        std::string to;           // docker, podman or containerd
        std::string address;      // empty = where that engine usually is (handover::Address)
        std::string name_space;   // of containerd
        handover::DialGrpc dial;  // to containerd
    };
    struct HandOverRow {
        std::string name;
        std::uint64_t layers = 0;
        std::uint64_t layers_sent = 0;
        std::uint64_t bytes_sent = 0;
    };
    virtual Result<std::vector<HandOverRow>> hand_over_images(const HandOverRequest& request, Stop stop) = 0;
    // Reads an OCI or docker archive; returns the names (or ids) that are there now.
    virtual Result<std::vector<std::string>> load_images(int in_fd, Stop stop) = 0;
    // What is said of an image that is kept here, else of one in a registry.
    virtual Result<std::vector<Attested>> image_attestations(const std::string& name, Stop stop) = 0;
    // A JSON document about the image, as docker image inspect prints one element.
    virtual Result<std::string> inspect_image(const std::string& name) = 0;
    // Of an image named as for open_image. No layer is read.
    virtual Result<ImageParts> image_parts(const std::string& name, Stop stop) = 0;
    struct HistoryRow {
        std::string created;
        std::string created_by;
        std::string comment;
        std::uint64_t size_bytes = 0;
        bool empty_layer = false;
    };
    virtual Result<std::vector<HistoryRow>> image_history(const std::string& name) = 0;  // newest first

    // An image to look into: by its name or id here, a name at a registry, oci-layout://DIR[:TAG|@DIGEST], a layout
    // directory or an archive file. Nothing is unpacked; a registry's layers are streamed when they are read. The image
    // must not outlive the engine.
    virtual Result<inside::Image> open_image(const std::string& name, const std::optional<oci::Platform>& platform,
                                             Stop stop) = 0;

    // Runs a container on the caller's terminal; returns its exit status.
    virtual Result<int> run(const RunRequest& request, ProgressSink& progress, Stop stop) = 0;

    virtual Result<std::vector<UsageRow>> disk_usage() = 0;
    virtual Result<std::vector<KeptRow>> why_kept() = 0;
    [[nodiscard]] virtual const std::string& root() const = 0;
    // A blob of the state directory, to be read; not_found.
    virtual Result<sys::Fd> open_blob(const Digest& digest) = 0;
    // So many bytes are about to be written below root() by others than the engine; see store::Space.
    virtual Result<> charge_space(std::uint64_t bytes, std::string_view what) = 0;
    virtual Result<PruneResponse> prune(const PruneRequest& request) = 0;
    // Cache mounts of RUN, by their ids. A mount with a content to begin with (from=) is ID:CHAIN.
    struct CacheMountRow {
        std::string id;
        std::string description;
        std::uint64_t size_bytes = 0;
        std::int64_t usage_count = 0;
        Timestamp last_used{};
    };
    virtual Result<std::vector<CacheMountRow>> cache_mounts() = 0;
    // All directories of that id. Waits for steps that use it. not_found.
    virtual Result<> remove_cache_mount(const std::string& id, Stop stop) = 0;
    // As a tar. Steps that use the mount are waited for.
    virtual Result<> export_cache_mount(const std::string& id, int out_fd, Stop stop) = 0;
    // From a tar, also compressed; takes the place of what is there.
    virtual Result<> import_cache_mount(const std::string& id, int in_fd, Stop stop) = 0;
    virtual Result<std::vector<BuildRow>> list_builds() = 0;
    // Log of one build in the plain form; ref may be a unique prefix, empty = the newest.
    virtual Result<std::string> build_log(const std::string& ref) = 0;
    // As build_log.
    virtual Result<WhyAnswer> why(const std::string& ref) = 0;
    virtual Result<std::vector<InfoRow>> info() = 0;
    // Whose steps run here through an emulator, as in platforms ("arm64").
    virtual std::vector<std::string> emulated_architectures() = 0;

    // Credentials. password empty = the stored ones are checked.
    virtual Result<> login(const std::string& host, const std::string& user, const std::string& password,
                           Stop stop) = 0;
    virtual Result<> logout(const std::string& host) = 0;
};

}  // namespace cooper::engine
