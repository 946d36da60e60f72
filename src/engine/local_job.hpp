// LocalJob: the BuildJob of a LocalEngine. Turns LLB into operations, has them solved, answers the
// Dockerfile frontend, and exports.
#pragma once

#include "attest/provenance.hpp"
#include "attest/statement.hpp"
#include "cachestore/open.hpp"
#include "engine/build_job.hpp"
#include "engine/build_op.hpp"
#include "engine/recorder.hpp"
#include "engine/step_notes.hpp"
#include "engine/workshop.hpp"
#include "exporter/index.hpp"
#include "llb/load.hpp"
#include "remotecache/key_records.hpp"
#include "run/cdi.hpp"
#include "solver/solver.hpp"

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace cooper::engine {

class LazyResult {
public:
    LazyResult(std::shared_ptr<const Plan> plan, solver::Output output)
        : plan_(std::move(plan)), output_(std::move(output)) {}
    [[nodiscard]] const std::shared_ptr<const Plan>& plan() const { return plan_; }
    [[nodiscard]] const llb::Definition& definition() const { return plan_->definition; }
    [[nodiscard]] const llb::Graph& graph() const { return plan_->graph; }
    [[nodiscard]] const solver::Output& output() const { return output_; }

private:
    std::shared_ptr<const Plan> plan_;
    solver::Output output_;
};

class LocalJob final : public BuildJob, private frontend::Bridge {
public:
    LocalJob(LocalEngine& engine, std::shared_ptr<store::Store> store, JobOptions options, ProgressSink& progress);
    ~LocalJob() override;

    [[nodiscard]] const std::string& ref() const override { return options_.ref; }
    [[nodiscard]] session::Session& session() override { return workshop_->session(); }
    [[nodiscard]] ProgressSink& progress() override { return progress_; }
    [[nodiscard]] const Clock& clock() const override;
    Result<FrontendResult> solve(const SolveCall& call, Stop stop) override;
    Result<> evaluate(const ResultRef& ref, Stop stop) override;
    Result<snapshot::TreeRef> tree(const ResultRef& ref, Stop stop) override;
    [[nodiscard]] llb::Definition definition(const ResultRef& ref) const override;
    [[nodiscard]] frontend::Bridge& bridge() override { return *this; }
    // Every source passes here before anything is asked of it: the policies, then the judge. Whether it was changed.
    Result<bool> permit(llb::SourceOp& source, const std::optional<llb::Platform>& platform,
                        const sourcepolicy::Policies& more, const Stop& stop) override;
    Result<SourceMeta> resolve_source(const llb::SourceOp& source, const std::string& log_name, Stop stop) override;
    Result<std::unique_ptr<Container>> start_container(ContainerSpec spec, Stop stop) override;
    Result<ExportAnswer> export_result(const FrontendResult& result, const std::vector<ExportSpec>& exports,
                                       const std::vector<std::string>& tags, Stop stop) override;
    Result<> expect_failure(const std::vector<ExportSpec>& exports) override;
    ExportAnswer export_after_failure(Error& error) override;

    [[nodiscard]] Workshop& workshop() { return *workshop_; }
    // A tar of a build context that is standard input, as the local contexts "context" and "dockerfile".
    Result<> unpack_tar_context(int tar_fd, const Stop& stop);

private:
    class JobContainer;
    class Facts;
    // frontend::Bridge
    Result<frontend::ResolvedImage> resolve_image_config(const std::string& reference, const llb::Platform& platform,
                                                         frontend::ResolveMode mode, const std::string& log_name,
                                                         Stop stop) override;
    Result<frontend::ResolvedImage> resolve_oci_layout(const frontend::OciLayout& layout, const llb::Platform& platform,
                                                       const std::string& log_name, Stop stop) override;
    Result<std::vector<std::optional<std::string>>> read_local_files(const std::string& local_name,
                                                                     const std::vector<std::string>& paths,
                                                                     std::size_t limit_bytes,
                                                                     const std::string& log_name, Stop stop) override;
    Result<std::optional<std::string>> read_file_of(const llb::Definition& definition, const std::string& path,
                                                    std::size_t limit_bytes, Stop stop) override;
    Result<std::optional<frontend::ContextStat>> stat_of(const llb::Definition& definition, const std::string& path,
                                                         Stop stop) override;
    Result<std::optional<frontend::ContextSize>> measure_local(const std::string& local_name, Stop stop) override;
    Result<std::optional<std::int64_t>> time_of(const llb::Definition& definition, const std::string& log_name,
                                                Stop stop) override;
    Result<std::string> peek_http(const std::string& url, std::size_t limit_bytes, Stop stop) override;

    Result<frontend::ResolvedImage> permitted_image_config(const std::string& reference, const llb::Platform& platform,
                                                           frontend::ResolveMode mode, const std::string& log_name,
                                                           const Stop& stop);
    Result<SourceMeta> ask_source(const llb::SourceOp& source, const std::string& log_name, const Stop& stop);
    Result<std::optional<std::int64_t>> time_of_source(const llb::SourceOp& source, VertexProgress& progress,
                                                       const Stop& stop);
    Result<frontend::ResolvedImage> ask_image_config(const std::string& reference, const llb::Platform& platform,
                                                     frontend::ResolveMode mode, const std::string& log_name,
                                                     const Stop& stop);
    Result<ResultRef> load(const llb::Definition& definition, const sourcepolicy::Policies& more, const Stop& stop) {
        return load(definition, more, std::nullopt, stop);
    }
    // parent: the build operation that the definition is of.
    Result<ResultRef> load(const llb::Definition& definition, const sourcepolicy::Policies& more,
                           const std::optional<Digest>& parent, const Stop& stop);
    // scope: vertices are shared with those of equal scope only.
    Result<solver::Output> to_vertices(const std::shared_ptr<const Plan>& plan, const std::string& scope);
    Result<std::shared_ptr<solver::Op>> to_op(const std::shared_ptr<const Plan>& plan, std::size_t index);
    void add_secret_keys(const llb::ExecOp& exec, llb::OpCacheInfo& cache) const;
    // Of the secrets that it uses and that are to be in keys, by id.
    [[nodiscard]] std::map<std::string, std::string> secret_keys_of(const llb::ExecOp& exec) const;
    std::shared_ptr<solver::Op> build_op(const llb::LoadedVertex& vertex, const llb::BuildOp& op,
                                         llb::OpCacheInfo cache);
    // The one place that says who may have the host's network or no sandbox.
    Result<> check_entitlements(llb::NetMode network, llb::SecurityMode security, const std::string& name) const;
    // What a step gets for the devices it asks for, when it may have them.
    Result<run::DeviceEdits> devices_of(const llb::ExecOp& exec, const std::string& step) const;
    Result<solver::SharedResult> build(const ResultRef& ref, const Stop& stop);
    // Once more, without what was lost meanwhile.
    Result<solver::SharedResult> build_again(const ResultRef& ref, const Stop& stop);
    // The output that has it built: another one once something that it needed was lost.
    [[nodiscard]] solver::Output output_of(const ResultRef& ref);
    Result<FrontendResult> call_dockerfile(const SolveCall& call, const Stop& stop);
    Result<FrontendResult> call_image(const SolveCall& call, const Stop& stop);

    // job_caches.cpp
    // Each at most once in this job; what fails is told and makes the build slower, not wrong.
    void import_caches(const std::vector<CacheSpec>& specs, const Stop& stop);
    // What is wrong with the attributes of a cache is said before anything is built. Asks nobody.
    Result<> check_cache_exports();
    Result<> import_cache(const CacheSpec& spec, const Stop& stop);
    Result<> import_index(const std::shared_ptr<cachestore::CacheStore>& store, const cachestore::Index& index);
    Result<std::shared_ptr<cachestore::CacheStore>> open_cache(const CacheSpec& spec, cachestore::Way way);
    // What is to be found again: keys, and the layers that they give when those are the result's.
    struct CacheContent {
        std::vector<solver::SharedKey> keys;
        std::vector<store::Chain> chains;
    };
    // Writes all caches on a thread of its own.
    class CacheWriting;
    Result<> export_caches(const FrontendResult& result, ExportAnswer& answer, const Stop& stop);
    Result<> export_mounts(const CacheSpec& spec, const FrontendResult& result, ExportAnswer& answer,
                           Activity& activity, const Stop& stop);
    Result<CacheContent> content_of(const FrontendResult& result, const Stop& stop);
    [[nodiscard]] bool wants_cache_of_failure() const;
    // Everything that has ended well, of all that was asked for.
    CacheContent finished_content();
    // Whether what is there already is replaced, or stays beside what is written.
    enum class Earlier : std::uint8_t { replaced, kept };
    Result<> export_cache(const CacheSpec& spec, const CacheContent& content, remotecache::CacheMode mode,
                          Earlier earlier, ExportAnswer& answer, Activity& activity, const Stop& stop);
    // Sends layers, in this order, until the budget is spent; says of which blobs it can be relied on.
    struct Sending;
    Result<std::set<Digest>> send_layers(const Sending& sending, const Stop& stop);
    Result<> put_layer(cachestore::CacheStore& cache, const exporter::PackedLayer& layer, VertexProgress& progress,
                       const Stop& stop);
    // What the image's own configuration says of the cache, when an inline export is wanted.
    Result<> add_inline_cache(const ResultRef& ref, exporter::ImageResult& image);

    // job_exports.cpp
    using BeforePush = std::function<void()>;
    struct FailureExport {
        std::string source;  // path in the failed step
        std::string dest;
        int client_exporter = -1;
    };
    static Result<FailureExport> failure_export_of(const ExportSpec& spec);
    void export_failed_files(Error& error, const Stop& stop);
    Result<> export_failure(const store::Chain& files, const std::string& step, const FailureExport& wanted,
                            const Stop& stop);
    struct Exporting;
    Result<> export_one(const FrontendResult& result, const ExportSpec& spec, const std::vector<std::string>& tags,
                        ExportAnswer& answer, const BeforePush& before_push, const Stop& stop);
    Result<> export_files(Exporting& exporting);
    // "linux_amd64", also of a result that names no platform.
    [[nodiscard]] static std::string folder_of(const Exporting& exporting, const std::string& platform);
    // What is packed: the layers, squashed when that is wanted, and the configuration of the frontend.
    Result<exporter::ImageResult> image_of(Exporting& exporting, const std::string& platform, const ResultRef& ref);
    // Fails when an export has a limit that the result does not keep. Before anything leaves.
    Result<> check_sizes(const FrontendResult& result, const std::vector<ExportSpec>& exports,
                         const std::vector<std::string>& tags, const Stop& stop);
    Result<> check_size(Exporting& exporting, const std::string& platform, const ResultRef& ref);
    Result<exporter::PackedImage> pack_image(Exporting& exporting, const std::string& platform, const ResultRef& ref,
                                             const exporter::PackOptions& pack);
    Result<exporter::PackedResult> pack_result(Exporting& exporting);
    Result<std::string> step_of(store::LayerId id);
    Result<> export_image(Exporting& exporting);
    Result<> push(Exporting& exporting, const exporter::PackedResult& packed,
                  const std::vector<oci::Reference>& references);

    // job_attests.cpp
    // Who made a result, and how it was asked.
    struct Asked {
        std::string frontend;
        std::map<std::string, std::string> args;
    };
    void note_asked(const SolveCall& call, const FrontendResult& result);
    // What of the build's attestations this export takes.
    [[nodiscard]] attest::Requests wanted_by(const Exporting& exporting) const;
    Result<attest::Facts> build_facts(const ResultRef& ref, const exporter::PackedImage* image, bool timeless);
    // frontend_statements.cpp
    // What of the frontend's statements of a platform this export takes.
    [[nodiscard]] Result<std::vector<const FrontendStatement*>> stated_by_frontend(const Exporting& exporting,
                                                                                   const std::string& platform) const;
    Result<std::vector<attest::Attestation>> read_statements(Exporting& exporting,
                                                             const std::vector<const FrontendStatement*>& statements);
    // Whether anything is attested of it.
    [[nodiscard]] Result<bool> attests(const Exporting& exporting, const std::string& platform) const;
    // image: null for plain files.
    Result<std::vector<attest::Attestation>> attest_result(Exporting& exporting, const std::string& platform,
                                                           const ResultRef& ref, const exporter::PackedImage* image);
    // job_sboms.cpp
    // What is to be looked at besides a result.
    struct Scan {
        std::string name;
        ResultRef ref;
    };
    [[nodiscard]] std::vector<Scan> scans_of(const ResultRef& ref);
    Result<std::vector<attest::Attestation>> sboms_of(Exporting& exporting, const std::string& platform,
                                                      const ResultRef& ref, const exporter::PackedImage* image,
                                                      const attest::SbomRequest& request);
    Result<std::vector<attest::Attestation>> scan_by(Exporting& exporting, const std::string& platform,
                                                     const ResultRef& ref, const attest::SbomRequest& request);
    Result<exporter::PackedAttestation> attest_image(Exporting& exporting, const std::string& platform,
                                                     const ResultRef& ref, const exporter::PackedImage& image);
    Result<> keep_provenance(const FrontendResult& result, ExportAnswer& answer);
    struct AttestedTree {
        std::optional<store::LayerDraft> draft;  // holds the files of the tree that are only there for the export
        snapshot::TreeRef tree;
    };
    // The tree with files of attestations in its root; suffix tells platforms apart.
    Result<AttestedTree> attest_tree(Exporting& exporting, const std::string& platform, const ResultRef& ref,
                                     const std::string& suffix);

    // The job as under way, from before its first use of the store until after its last.
    class Presence {
    public:
        Presence(LocalEngine& engine, std::shared_ptr<const void> use) : engine_(engine), use_(std::move(use)) {
            ++*engine_.live_jobs_.lock();
        }
        ~Presence();
        Presence(const Presence&) = delete;
        Presence& operator=(const Presence&) = delete;

    private:
        LocalEngine& engine_;
        std::shared_ptr<const void> use_;
    };

    LocalEngine& engine_;
    Presence presence_;
    JobOptions options_;
    ProgressSink& progress_;
    StepClock step_clock_;
    Timestamp started_;
    std::shared_ptr<Workshop> workshop_;
    std::shared_ptr<StepNotes> notes_;
    std::unique_ptr<solver::Job> job_;
    Guarded<std::set<CacheSpec>> imported_;
    Guarded<std::map<ResultRef, Asked>> asked_;
    // What was asked for so far, when a failure is to leave a cache of it.
    std::vector<FailureExport> on_failure_;
    Guarded<std::vector<ResultRef>> asked_for_;
    std::atomic<bool> caches_begun_ = false;
    Guarded<std::map<ResultRef, std::vector<Scan>>> scans_;
    BuildOrder build_order_;
    Guarded<std::map<ResultRef, solver::Output>> rebuilt_;
    Guarded<std::map<std::string, std::string>> places_;  // "Dockerfile:3", by the name of the step
    std::atomic<int> rebuilds_ = 0;
    // Images asked for, by what was asked; nullopt while the first who asked is finding out.
    Guarded<std::map<std::string, std::optional<Result<frontend::ResolvedImage>>>> resolved_;
};

}  // namespace cooper::engine
