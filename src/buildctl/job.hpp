// One build at a daemon from both sides of the command line: `buildctl build` and `cooper --builder … build`.
#pragma once

#include "base/progress.hpp"
#include "base/result.hpp"
#include "base/stop.hpp"
#include "client/connection.hpp"
#include "client/offer.hpp"
#include "client/solve.hpp"
#include "sys/temp_dir.hpp"

#include <map>
#include <string>
#include <vector>

namespace cooper::buildctl {

struct Job {
    client::Offer offer;
    client::SolveSpec spec;
    bool ask = false;                                  // a question to the frontend instead of a build
    std::map<std::string, std::string> layouts;        // directory → name: gets an index.json of the result
    std::map<std::string, std::string> cache_layouts;  // directory → tag: gets one of the exported cache
    std::vector<sys::TempDir> temporary;               // lives as long as the build
};

// Secrets and agents by what --secret and --ssh said.
[[nodiscard]] Result<> offer_values(Job& job, std::map<std::string, std::string> secret_files,
                                    std::map<std::string, std::string> secret_variables,
                                    std::map<std::string, std::vector<std::string>> ssh);
// An exporter. `dest` is a path, "-" or empty; what it means depends on the type.
[[nodiscard]] Result<> add_exporter(Job& job, client::TypedAttributes exporter, const std::string& dest);
// type=local needs a directory (attribute dest, src) that the daemon reads or writes through the session.
[[nodiscard]] Result<> add_cache_export(Job& job, client::TypedAttributes cache);
[[nodiscard]] Result<> add_cache_import(Job& job, client::TypedAttributes cache);
// A directory with this one file, offered under a name.
[[nodiscard]] Result<> offer_file(Job& job, const std::string& name, const std::string& file, std::string_view content);

[[nodiscard]] Result<client::Attributes> run_job(Job& job, const client::ConnectOptions& daemon, ProgressSink& progress,
                                                 const Stop& stop);

// What --metadata-file holds: the answer of the exporters, with documents in base64 unpacked. Values are JSON.
[[nodiscard]] std::map<std::string, std::string> metadata_values(const client::Attributes& answer);
[[nodiscard]] std::string metadata_text(const client::Attributes& answer);

// ca.pem, cert.pem, key.pem of a directory, as far as they are there.
[[nodiscard]] client::TlsFiles tls_of_directory(const std::string& directory);

}  // namespace cooper::buildctl
