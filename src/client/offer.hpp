// OfferedSession: what the client of a daemon offers it while it builds: directories, secrets, agents, credentials,
// stores of blobs, and places for results. The daemon asks for them in calls that come through a tunnel.
//
// Directories are read and results written as the daemon asks, in threads of the session, until it is gone.
#pragma once

#include "base/result.hpp"
#include "client/connection.hpp"
#include "registry/credentials.hpp"
#include "session/session.hpp"

#include <map>
#include <memory>
#include <string>

namespace cooper::client {

// Where what an exporter sends goes to.
struct ExportTarget {
    enum class Kind : std::uint8_t { file, directory };
    Kind kind = Kind::file;
    std::string path;            // a file: replaced when all of it has come; "-" is standard output
    bool remove_others = false;  // a directory: what is not in the result goes, if the daemon agrees
};

struct Offer {
    std::string name;                                // of the client, for the daemon's log
    std::string shared_key;                          // transfers of sessions with one key differ little
    std::map<std::string, std::string> directories;  // name → path
    bool git_modes = false;                          // of their files: what git would record
    std::map<std::string, std::string> stores;  // "oci:NAME", "local:PATH", "export" → OCI layout; made when written to
    std::map<int, ExportTarget> exports;        // by the number of the exporter
    std::map<std::string, int> uploads;         // id of http://buildkit-session/ID → a file that is read to its end
    std::shared_ptr<session::Session> values;   // secrets and agents; may be null
    std::shared_ptr<registry::CredentialSource> credentials;  // may be null
};

class OfferedSession {
public:
    static Result<std::unique_ptr<OfferedSession>> start(const Connection& connection, Offer offer);
    virtual ~OfferedSession() = default;
    [[nodiscard]] virtual const std::string& id() const = 0;
    // The first thing that went wrong on this side (an unreadable directory, a full disk); what the daemon reports of
    // it may say less.
    [[nodiscard]] virtual std::optional<Error> failure() const = 0;
};

// 25 characters of base 36, as BuildKit names sessions and builds.
[[nodiscard]] std::string random_id();

}  // namespace cooper::client
