// Git: running the system's git so that it asks nobody, reads nobody's configuration and runs no hooks.
#pragma once

#include "base/stop.hpp"
#include "session/session.hpp"

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace cooper::source {

struct GitIdentity {
    // "Authorization: …" for URLs below scope; travels in the environment, not on the command line.
    std::string auth_header;
    std::string auth_scope;
    std::string ssh_auth_sock;     // host path of an agent's socket
    std::string known_hosts_file;  // empty = host keys are not checked
    bool offline = false;          // only repositories of this machine
};

class Git {
public:
    explicit Git(GitIdentity identity) : identity_(std::move(identity)) {}

    struct Place {
        std::string git_dir;    // empty = git finds it from work_tree
        std::string work_tree;  // empty = none; else also the working directory
        std::string index_file;
    };
    // Standard output. A failure quotes git's last words.
    [[nodiscard]] Result<std::string> run(const Place& place, const std::vector<std::string>& args,
                                          const Stop& stop) const;
    // Whether it succeeds.
    [[nodiscard]] Result<bool> test(const Place& place, const std::vector<std::string>& args, const Stop& stop) const;

private:
    struct Outcome {
        bool good = false;
        std::string out;
        std::string err;
    };
    Result<Outcome> execute(const Place& place, const std::vector<std::string>& args, const Stop& stop) const;
    GitIdentity identity_;
};

}  // namespace cooper::source
