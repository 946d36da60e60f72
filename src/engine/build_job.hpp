// BuildJob: one build as a conversation. Definitions and frontends are turned into results, which are
// built when somebody needs them, looked into, and exported. `cooper build` holds it with itself; a
// daemon lets its clients hold it.
//
// Any thread; calls block and end at the stop.
#pragma once

#include "attest/request.hpp"
#include "base/progress.hpp"
#include "base/stop.hpp"
#include "engine/build_request.hpp"
#include "frontend/bridge.hpp"
#include "llb/definition.hpp"
#include "llb/op.hpp"
#include "run/executor.hpp"
#include "session/session.hpp"
#include "snapshot/tree.hpp"
#include "sourcepolicy/policy.hpp"

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace cooper::engine {

// One result: a definition and, once somebody has asked, what it built to. nullptr is scratch.
class LazyResult;
using ResultRef = std::shared_ptr<const LazyResult>;

// A statement that a frontend makes of a result of its, in a file of another result.
struct FrontendStatement {
    bool bundle = false;  // path is a directory of whole statements; else the file of a predicate
    std::map<std::string, std::string> metadata;  // "inline-only", "sbom-core", "reason"
    ResultRef ref;
    std::string path;
    std::string predicate_type;  // of a bundle: what all of it is, when it is not empty
    struct Subject {
        bool result = true;  // it is about the result
        std::string name;
        std::vector<std::string> digests;  // "sha256:…", of something else
    };
    std::vector<Subject> subjects;
};

// What a frontend answers: one result, or one for each platform, and metadata under BuildKit's keys
// (containerimage.config, refs.platforms, …; exptypes in BuildKit).
struct FrontendResult {
    bool single = true;
    ResultRef ref;                          // single
    std::map<std::string, ResultRef> refs;  // not single: by platform id ("linux/arm64")
    std::map<std::string, std::string> metadata;
    std::map<std::string, std::vector<FrontendStatement>> statements;  // by platform id
};

struct SolveCall {
    // Either a definition or a frontend with its options.
    std::optional<llb::Definition> definition;
    std::string frontend;  // "dockerfile.v0", "gateway.v0"
    std::map<std::string, std::string> options;
    std::map<std::string, llb::Definition> inputs;
    std::vector<CacheSpec> cache_imports;
    // In addition to those of the job, for the definition.
    sourcepolicy::Policies policies;
    bool evaluate = false;  // build now, not when somebody looks
};

// What exports answer, under BuildKit's keys ("containerimage.digest", …).
struct ExportAnswer {
    std::map<std::string, std::string> response;
    std::optional<Digest> image_id;         // config digest
    std::optional<oci::Descriptor> target;  // manifest or index
    std::vector<std::string> names;
    // How the result came to be, with all details, when it was to be kept: by platform, "" = of the only one.
    std::map<std::string, std::string> provenance;
    std::map<Digest, std::string> steps;  // by diff id of its layer: "Dockerfile:3: [2/2] RUN make"
};

// What is said of a build in all its images, by the options of its frontend ("attest:provenance" …).
[[nodiscard]] Result<attest::Requests> attestations_of(const std::map<std::string, std::string>& frontend_options);

class BuildJob;

// Runs a frontend that is an image (`# syntax=`): serves it the gateway protocol.
class FrontendHost {
public:
    virtual ~FrontendHost() = default;
    virtual Result<FrontendResult> run(BuildJob& job, const std::string& image, const SolveCall& call, Stop stop) = 0;
};

// What a git or http source is now.
struct SourceMeta {
    std::string checksum;  // git: the object that the ref names; http: digest of the bytes
    std::string ref;       // git
    std::string commit;    // git, when it is another object than the checksum
    std::string filename;  // http
    std::optional<std::int64_t> last_modified_s;
};

// Answers of a source that its judge may ask for. No policy is applied to these questions.
class SourceFacts {
public:
    virtual ~SourceFacts() = default;
    virtual Result<frontend::ResolvedImage> image(const std::string& reference, const llb::Platform& platform,
                                                  frontend::ResolveMode mode, Stop stop) = 0;
    virtual Result<SourceMeta> other(const llb::SourceOp& source, Stop stop) = 0;
};

// Decides about each source after the policies did. Any thread.
class SourceJudge {
public:
    virtual ~SourceJudge() = default;
    // Whether it changed the source. permission_denied.
    virtual Result<bool> judge(llb::SourceOp& source, const llb::Platform& platform, SourceFacts& facts, Stop stop) = 0;
};

using FindSession = std::function<Result<std::shared_ptr<session::Session>>(const std::string& id, const Stop& stop)>;

struct JobOptions {
    std::string ref;                            // of the build
    std::shared_ptr<session::Session> session;  // the client
    FindSession find_session;                   // other clients by their ids; may be empty
    std::vector<std::string> entitlements;      // what steps may be allowed: network.host, security.insecure
    std::string project;                        // what tells builds of one thing from others, to compare them
    bool git_modes = false;                     // of directories of this process, as git would record them
    bool own_credentials = false;               // registries are asked as whoever runs this process, not as the client
    std::vector<CacheSpec> cache_imports;       // looked up before the first solve; what fails is told and left out
    std::vector<CacheSpec> cache_exports;       // written with the exports
    sourcepolicy::Policies policies;            // for every source, frontends that are images included
    std::shared_ptr<SourceJudge> judge;         // may be null
    // What stands for the value of a secret in the keys of the steps that use it, by its id.
    std::map<std::string, std::string> secret_keys;
    attest::Requests attestations;
    bool keep_provenance = false;       // exports answer with it
    FrontendHost* frontends = nullptr;  // outlives the job; null: only our own frontend
};

// A mount of a container: `llb` says how; its input is `ref`.
struct ContainerMount {
    llb::Mount llb;
    ResultRef ref;  // nullptr: scratch
};

struct ContainerSpec {
    std::vector<ContainerMount> mounts;  // one is "/"
    llb::NetMode network = llb::NetMode::unset;
    std::vector<llb::HostIp> extra_hosts;
    std::string hostname;
    std::string log_name;  // the step that its output is shown under; empty = none is shown
};

struct ContainerProcess {
    llb::Meta meta;
    llb::SecurityMode security = llb::SecurityMode::sandbox;
    std::vector<llb::SecretEnv> secret_env;
    bool tty = false;
    // Where input comes from and output goes to. Descriptors win over the callback.
    run::Streams streams;
};

// Processes on one set of mounts; what one writes the next one sees, and nothing of it is kept. The
// first is waited for by whoever runs it; the container ends with the object, when none runs any more.
class Container {
public:
    virtual ~Container() = default;
    virtual Result<ExitStatus> run(const ContainerProcess& process, Stop stop) = 0;
    // The files of a mount as they are now, by its place in the spec.
    virtual Result<snapshot::TreeRef> tree(std::size_t mount, Stop stop) = 0;
};

class BuildJob {
public:
    virtual ~BuildJob() = default;
    [[nodiscard]] virtual const std::string& ref() const = 0;
    [[nodiscard]] virtual session::Session& session() = 0;
    [[nodiscard]] virtual ProgressSink& progress() = 0;
    [[nodiscard]] virtual const Clock& clock() const = 0;

    virtual Result<FrontendResult> solve(const SolveCall& call, Stop stop) = 0;
    virtual Result<> evaluate(const ResultRef& ref, Stop stop) = 0;
    // The files of a result, built if need be. Valid as long as the job.
    virtual Result<snapshot::TreeRef> tree(const ResultRef& ref, Stop stop) = 0;
    // The definition a result was made from; scratch for nullptr.
    [[nodiscard]] virtual llb::Definition definition(const ResultRef& ref) const = 0;
    // A frontend's other questions.
    [[nodiscard]] virtual frontend::Bridge& bridge() = 0;

    // Applies the job's policies, these, and the judge, to what a frontend asks about. Whether the source was changed.
    virtual Result<bool> permit(llb::SourceOp& source, const std::optional<llb::Platform>& platform,
                                const sourcepolicy::Policies& more, const Stop& stop) = 0;
    virtual Result<SourceMeta> resolve_source(const llb::SourceOp& source, const std::string& log_name, Stop stop) = 0;
    // Must end before the job.
    virtual Result<std::unique_ptr<Container>> start_container(ContainerSpec spec, Stop stop) = 0;

    // Exports with on-failure=true among these, in the place of earlier ones: the files of the first step that fails
    // from here on are kept for them.
    virtual Result<> expect_failure(const std::vector<ExportSpec>& exports) = 0;
    // The build has failed or was interrupted: files of the step that failed are brought out, and caches that are
    // wanted even then (on-failure=true) are written, with what has finished. What fails is told, and of files as a
    // hint of `error`. Call once, at the end; nothing of the job may be running.
    virtual ExportAnswer export_after_failure(Error& error) = 0;
    // Every export gets the whole result; in order, but for those of a failure. Caches are written beside the first
    // push.
    virtual Result<ExportAnswer> export_result(const FrontendResult& result, const std::vector<ExportSpec>& exports,
                                               const std::vector<std::string>& tags, Stop stop) = 0;
};

}  // namespace cooper::engine
