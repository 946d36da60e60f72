// Exporters that a client chooses when it has seen what was built: moby.exporter.v1 on its session.
#pragma once

#include "daemon/remote_session.hpp"
#include "engine/build_job.hpp"

#include <map>
#include <string>
#include <vector>

namespace cooper::daemon {

struct TypedExporter {
    std::string type;
    std::map<std::string, std::string> attrs;
};

// None when the client does not serve it.
[[nodiscard]] Result<std::vector<TypedExporter>> find_exporters(const RemoteSession& client,
                                                                const engine::FrontendResult& result, const Stop& stop);
// Tells it what the exporters answered.
[[nodiscard]] Result<> finalize_export(const RemoteSession& client, const std::map<std::string, std::string>& response,
                                       const Stop& stop);

}  // namespace cooper::daemon
