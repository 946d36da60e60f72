// One export under way, as the parts of LocalJob that export and attest see it.
#pragma once

#include "base/text.hpp"
#include "engine/local_job.hpp"
#include "exporter/options.hpp"

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace cooper::engine {

[[nodiscard]] oci::Platform to_oci(const llb::Platform& platform);
[[nodiscard]] llb::Platform to_llb(const oci::Platform& platform);

struct LocalJob::Exporting {
    const FrontendResult& result;
    const ExportSpec& spec;
    exporter::ExportOptions options;
    Activity& activity;
    const Stop& stop;
    ExportAnswer& answer;
    const BeforePush& before_push;

    [[nodiscard]] VertexProgress& progress() const { return activity.progress(); }
    [[nodiscard]] bool to_client() const { return spec.client_exporter >= 0; }
    // In the order of their names.
    [[nodiscard]] std::vector<std::pair<std::string, ResultRef>> parts() const {
        if (result.single) return {{"", result.ref}};
        return {result.refs.begin(), result.refs.end()};
    }
    [[nodiscard]] std::string metadata(const std::string& key, const std::string& platform) const {
        const std::string full = platform.empty() ? key : key + "/" + platform;
        for (const auto& name : {full, key}) {
            if (const auto said = options.metadata.find(name); said != options.metadata.end()) return said->second;
        }
        auto found = result.metadata.find(full);
        if (found == result.metadata.end()) found = result.metadata.find(key);
        return found == result.metadata.end() ? std::string() : found->second;
    }
    [[nodiscard]] std::optional<std::int64_t> epoch_of(const std::string& platform) const {
        return options.epoch_seconds ? options.epoch_seconds : parse_int(metadata("source.date.epoch", platform));
    }
};

}  // namespace cooper::engine
