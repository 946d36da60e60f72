// LocalEngine: the Engine over a state directory of this machine. Members are in the order in which
// they are needed; destruction goes the other way.
#pragma once

#include "base/guarded.hpp"
#include "engine/engine.hpp"
#include "engine/solver_store.hpp"
#include "exporter/packer.hpp"
#include "http/client.hpp"
#include "ops/source_pin.hpp"
#include "ops/trees.hpp"
#include "registry/registry.hpp"
#include "run/executor.hpp"
#include "solver/solver.hpp"
#include "source/git.hpp"
#include "source/http.hpp"
#include "source/image.hpp"
#include "store/store.hpp"

#include <mutex>

namespace cooper::engine {

[[nodiscard]] std::size_t core_count();
[[nodiscard]] registry::RegistryConfig registry_config(const Config& config);
[[nodiscard]] layer::ApplyLimits apply_limits(const Config& config, store::Store& store);

class LocalEngine final : public Engine, private ops::LayerFetcher {
public:
    static Result<std::unique_ptr<Engine>> create(const std::string& root, Config config);
    ~LocalEngine() override;

    Result<std::unique_ptr<BuildJob>> start_job(JobOptions options, ProgressSink& progress) override;
    Result<sourcepolicy::Lock> lock_sources(const BuildRequest& request, ProgressSink& progress, Stop stop) override;
    Result<BuildResponse> build(const BuildRequest& request, ProgressSink& progress, Stop stop) override;
    Result<std::vector<ImageRow>> list_images() override;
    Result<std::vector<std::string>> remove_image(const std::string& name_or_id, Force force) override;
    Result<> tag_image(const std::string& source, const std::string& target) override;
    Result<oci::Descriptor> pull_image(const std::string& name, const std::optional<oci::Platform>& platform,
                                       ProgressSink& progress, Stop stop) override;
    Result<oci::Descriptor> push_image(const std::string& name, ProgressSink& progress, Stop stop) override;
    Result<> save_images(const std::vector<std::string>& names, int out_fd, Stop stop) override;
    Result<std::vector<HandOverRow>> hand_over_images(const HandOverRequest& request, Stop stop) override;
    Result<std::vector<std::string>> load_images(int in_fd, Stop stop) override;
    Result<ImageParts> image_parts(const std::string& name, Stop stop) override;
    Result<std::vector<Attested>> image_attestations(const std::string& name, Stop stop) override;
    Result<std::string> inspect_image(const std::string& name) override;
    Result<std::vector<HistoryRow>> image_history(const std::string& name) override;
    Result<inside::Image> open_image(const std::string& name, const std::optional<oci::Platform>& platform,
                                     Stop stop) override;
    Result<int> run(const RunRequest& request, ProgressSink& progress, Stop stop) override;
    Result<std::vector<UsageRow>> disk_usage() override;
    Result<std::vector<KeptRow>> why_kept() override;
    [[nodiscard]] const std::string& root() const override { return store_->root(); }
    Result<sys::Fd> open_blob(const Digest& digest) override { return store_->open_blob(digest); }
    Result<> charge_space(std::uint64_t bytes, std::string_view what) override {
        return store_->space().charge(bytes, what);
    }
    Result<PruneResponse> prune(const PruneRequest& request) override;
    Result<std::vector<CacheMountRow>> cache_mounts() override;
    Result<> remove_cache_mount(const std::string& id, Stop stop) override;
    Result<> export_cache_mount(const std::string& id, int out_fd, Stop stop) override;
    Result<> import_cache_mount(const std::string& id, int in_fd, Stop stop) override;
    Result<std::vector<BuildRow>> list_builds() override;
    Result<std::string> build_log(const std::string& ref) override;
    Result<WhyAnswer> why(const std::string& ref) override;
    Result<std::vector<InfoRow>> info() override;
    std::vector<std::string> emulated_architectures() override;
    Result<> login(const std::string& host, const std::string& user, const std::string& password, Stop stop) override;
    Result<> logout(const std::string& host) override;

private:
    friend class Build;
    friend class LocalJob;
    friend class Workshop;
    LocalEngine(std::unique_ptr<store::Store> store, Config config);
    Result<> materialize(const store::Chain& chain, VertexProgress& progress, Stop stop) override;
    Result<run::Executor*> executor();
    // What stands for a secret in a cache key: nobody without the key of this state directory can try values out.
    Result<std::string> secret_key(std::string_view value);
    // One solver for all builds of this process, so that they share work.
    solver::Solver& solver();
    // A process that serves for weeks does not keep all it ever used: with no build under way nothing is in use.
    Result<> release_if_idle();
    // Removes what was used longest ago when the state is larger than the configuration allows. One
    // cheap question when it is not.
    Result<> collect_garbage();
    // By name as typed, by id or by a prefix of an id.
    Result<store::ImageRecord> find_image(const std::string& name_or_id);
    Result<ImageParts> parts_of(const store::ImageRecord& record);
    // Of an archive that holds one image.
    Result<store::ImageRecord> load_only(const std::string& path, const std::optional<oci::Platform>& platform,
                                         const Stop& stop);
    Result<inside::Image> contents_of(const std::string& name, const store::ImageRecord& record,
                                      const std::optional<oci::Platform>& platform);
    Result<inside::Image> contents_of(const source::ResolvedImage& image, std::shared_ptr<source::ImageOrigin> origin);
    Result<oci::ImageConfig> config_of(const store::ImageRecord& image);
    Result<std::uint64_t> size_of(const store::Chain& chain);
    Result<store::ImageRecord> ensure_image(const std::string& name, const std::optional<oci::Platform>& platform,
                                            source::ImageResolve mode, VertexProgress& progress, Stop stop);

    SystemClock clock_;
    Guarded<std::size_t> live_jobs_{0};
    Config config_;
    std::unique_ptr<store::Store> store_;
    http::Client http_;
    registry::DockerConfig credentials_;
    registry::Registry registry_;
    source::RegistryOrigin origin_;
    source::ImageSource images_;
    ops::Trees trees_;
    exporter::Packer packer_;
    SolverCache solver_cache_;
    SolverResults solver_results_;
    std::once_flag solver_once_;
    std::unique_ptr<solver::Solver> solver_;
    // What sources were last found to be, by operation: a build may share the work of another.
    Guarded<std::map<Digest, ops::SourcePin>> source_pins_;
    std::mutex executor_mutex_;
    std::unique_ptr<run::Executor> executor_;
};

}  // namespace cooper::engine
