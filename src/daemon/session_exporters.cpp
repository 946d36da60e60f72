#include "daemon/session_exporters.hpp"

#include "proto/exporter.pb.h"
#include "rpc/message_stream.hpp"

#include <chrono>

namespace cooper::daemon {

namespace {

namespace exporter = moby::exporter::v1;

constexpr std::chrono::minutes kPatience{5};
constexpr std::size_t kMaxExporters = 100;

}  // namespace

Result<std::vector<TypedExporter>> find_exporters(const RemoteSession& client, const engine::FrontendResult& result,
                                                  const Stop& stop) {
    std::vector<TypedExporter> found;
    if (!client.serves("/moby.exporter.v1.exporter/findexporters")) return found;
    exporter::FindExportersRequest request;
    for (const auto& [key, value] : result.metadata) (*request.mutable_metadata())[key] = value;
    for (const auto& [platform, ref] : result.refs) request.add_refs(platform);
    const std::string bytes = TRY_CONTEXT(
        rpc::ask(client.channel(),
                 {"/moby.exporter.v1.Exporter/FindExporters", request.SerializeAsString(), {}, kPatience}, stop),
        "exporters of the client");
    exporter::FindExportersResponse response;
    if (!response.ParseFromString(bytes)) return bad_input("the client's list of exporters cannot be read");
    if (static_cast<std::size_t>(response.exporters_size()) > kMaxExporters)
        return bad_input("the client wants {} exporters, {} are allowed", response.exporters_size(), kMaxExporters);
    for (const auto& one : response.exporters())
        found.push_back({one.type(), {one.attrs().begin(), one.attrs().end()}});
    return found;
}

Result<> finalize_export(const RemoteSession& client, const std::map<std::string, std::string>& response,
                         const Stop& stop) {
    if (!client.serves("/moby.exporter.v1.exporter/finalizeexport")) return {};
    exporter::FinalizeExportRequest request;
    request.mutable_exporter_response()->insert(response.begin(), response.end());
    TRY_CONTEXT(
        rpc::ask(client.channel(),
                 {"/moby.exporter.v1.Exporter/FinalizeExport", request.SerializeAsString(), {}, kPatience}, stop),
        "exporters of the client");
    return {};
}

}  // namespace cooper::daemon
