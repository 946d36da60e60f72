// `cooper --builder … build`: the request of `cooper build` as a daemon understands it, with the attributes that docker
// buildx sends for the same flags.
#pragma once

#include "buildctl/job.hpp"
#include "cli/remote_builder.hpp"

namespace cooper::buildctl {

class DaemonBuilder final : public cli::RemoteBuilder {
public:
    Result<engine::BuildResponse> build(const cli::RemoteAddress& address, const engine::BuildRequest& request,
                                        ProgressSink& progress, const Stop& stop) override;
    handover::DialGrpc dialer() override;
};

[[nodiscard]] Result<Job> to_job(const engine::BuildRequest& request);

}  // namespace cooper::buildctl
