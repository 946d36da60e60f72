// Build: one build as `cooper build` asks for it. Turns a BuildRequest into the options of a frontend and
// the offers of a session, and its answers into a BuildResponse.
#pragma once

#include "engine/local_job.hpp"
#include "session/local_session.hpp"
#include "sourcepolicy/lock.hpp"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace cooper::engine {

class Build {
public:
    Build(LocalEngine& engine, const BuildRequest& request, Recorder& progress, std::string ref, Stop stop)
        : engine_(engine), request_(request), progress_(progress), ref_(std::move(ref)), stop_(std::move(stop)) {}
    Result<BuildResponse> run();
    // What the names of its remote sources mean; builds nothing.
    Result<sourcepolicy::Lock> lock();

private:
    Result<> prepare_context();
    Result<> prepare_named_contexts();
    Result<> prepare_options();
    Result<> prepare_caches();
    // Caches in directories get a name in their index.json.
    // What tells builds of this from others, to compare them.
    [[nodiscard]] std::string project() const;
    Result<> name_caches(const ExportAnswer& answer) const;
    Result<> prepare_dockerfile_text();

    LocalEngine& engine_;
    const BuildRequest& request_;
    Recorder& progress_;
    std::string ref_;
    Stop stop_;
    session::LocalOffers offers_;
    std::map<std::string, std::string> options_;  // of the frontend
    std::vector<CacheSpec> cache_imports_;
    std::vector<CacheSpec> cache_exports_;
};

}  // namespace cooper::engine
