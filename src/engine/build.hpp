// Build: one build from request to response. Reads the Dockerfile, has it converted to LLB, solves, and
// exports. Also answers the frontend's questions (Bridge).
#pragma once

#include "dockerfile/to_llb.hpp"
#include "engine/local_engine.hpp"
#include "engine/recorder.hpp"
#include "frontend/bridge.hpp"
#include "llb/load.hpp"
#include "ops/environment.hpp"
#include "session/local_session.hpp"
#include "solver/solver.hpp"

#include <map>

namespace cooper::engine {

class Build final : private frontend::Bridge {
public:
    Build(LocalEngine& engine, const BuildRequest& request, Recorder& progress, std::string ref, Stop stop)
        : engine_(engine), request_(request), progress_(progress), ref_(std::move(ref)), stop_(std::move(stop)) {}
    Result<BuildResponse> run();

private:
    // A local context by its name: a directory of the user, or layers (a tar from standard input).
    struct Local {
        std::string host_path;
        std::optional<store::Chain> chain;
    };
    struct Opened {
        std::vector<std::string> exclude;
        std::shared_ptr<source::LocalContext> context;
    };

    Result<frontend::ResolvedImage> ask_image_config(const std::string& reference, const llb::Platform& platform,
                                                     frontend::ResolveMode mode, const std::string& log_name,
                                                     const Stop& stop);

    // frontend::Bridge
    Result<frontend::ResolvedImage> resolve_image_config(const std::string& reference, const llb::Platform& platform,
                                                         frontend::ResolveMode mode, const std::string& log_name,
                                                         Stop stop) override;
    Result<frontend::ResolvedImage> resolve_oci_layout(const frontend::OciLayout& layout, const llb::Platform& platform,
                                                       const std::string& log_name, Stop stop) override;
    Result<std::optional<std::string>> read_local_file(const std::string& local_name, const std::string& path,
                                                       std::size_t limit_bytes, const std::string& log_name,
                                                       Stop stop) override;
    Result<std::optional<std::string>> read_file_of(const llb::Definition& definition, const std::string& path,
                                                    std::size_t limit_bytes, Stop stop) override;
    Result<std::optional<frontend::ContextStat>> stat_of(const llb::Definition& definition, const std::string& path,
                                                         Stop stop) override;
    Result<std::string> peek_http(const std::string& url, std::size_t limit_bytes, Stop stop) override;

    Result<> prepare_session();
    Result<> prepare_environment();
    Result<> prepare_context();
    Result<> prepare_named_contexts();
    Result<> unpack_tar_context();
    Result<solver::SharedResult> open_local(const std::string& name,
                                            const std::map<std::string, std::string>& attributes);
    Result<solver::Output> to_vertices(const llb::Graph& graph);
    Result<std::shared_ptr<solver::Op>> to_op(const llb::LoadedVertex& vertex);
    Result<> check_entitlements(const llb::LoadedVertex& vertex, const llb::ExecOp& exec) const;
    Result<solver::SharedResult> solve(const llb::Definition& definition, Stop stop);
    [[nodiscard]] Error explain(Error error, const llb::Graph& graph, const std::optional<Digest>& failed) const;

    struct Planned;
    // Reads the Dockerfile, too.
    Result<dockerfile::ConvertOptions> convert_options();
    Result<Planned> plan();
    Result<BuildResponse> answer();
    [[nodiscard]] Error of_dockerfile(Error error) const;
    Result<> export_all(const Planned& planned, const solver::SharedResult& result, BuildResponse& response);
    Result<> export_one(const Planned& planned, const solver::SharedResult& result, const ExportSpec& spec,
                        BuildResponse& response);

    LocalEngine& engine_;
    const BuildRequest& request_;
    Recorder& progress_;
    std::string ref_;
    Stop stop_;
    std::unique_ptr<session::LocalSession> session_;
    std::unique_ptr<ops::Environment> environment_;
    std::unique_ptr<solver::Solver> solver_;
    std::unique_ptr<solver::Job> job_;
    std::map<std::string, Local> locals_;
    std::map<std::string, std::string> named_contexts_;  // as to_llb wants them
    std::map<std::string, std::string> layouts_;         // store id → host path
    std::string dockerfile_text_;
    std::string dockerfile_name_;
    Guarded<std::map<std::string, std::vector<Opened>>> opened_;
    // Images asked for, by what was asked; nullopt while the first who asked is finding out.
    Guarded<std::map<std::string, std::optional<Result<frontend::ResolvedImage>>>> resolved_;
};

}  // namespace cooper::engine
