// Git repositories as sources: a ref becomes a commit, a commit becomes one layer
// with its files. Uses the system's git; one bare repository per remote is kept in <state>/git, shared
// by all builds and processes under a lock. Any thread.
#pragma once

#include "base/progress.hpp"
#include "base/stop.hpp"
#include "session/session.hpp"
#include "source/git_command.hpp"
#include "source/git_url.hpp"
#include "store/store.hpp"
#include "sys/file_lock.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <string>

namespace cooper::source {

enum class GitMtime : std::uint8_t { checkout, commit };

struct GitRequest {
    GitUrl url;  // with ref and subdir
    bool keep_git_dir = false;
    bool skip_submodules = false;
    bool fetch_by_commit = false;
    std::string checksum;  // hex prefix the commit (or its annotated tag) must have
    GitMtime mtime = GitMtime::checkout;
    std::string auth_header_secret;
    std::string auth_token_secret;
    std::string known_ssh_hosts;  // content of a known_hosts file
    std::string ssh_id;           // of an agent on the session
};

// From an LLB source op: identifier without "git://", attributes. Attributes that would change what
// comes out and that we cannot honour (signatures, bundles) are refused.
[[nodiscard]] Result<GitRequest> git_request(const std::string& identifier,
                                             const std::map<std::string, std::string>& attributes);

struct GitPin {
    std::string key;     // BuildKit's cache key, plain text
    std::string commit;  // what is checked out
    std::string object;  // what the ref names: the commit, or an annotated tag when it is kept
    std::string ref;     // full name ("refs/heads/main"), or the commit
};

class GitSource {
public:
    // offline: what is not here already is refused.
    explicit GitSource(store::Store& store, bool offline = false) : store_(store), offline_(offline) {}

    // One ls-remote; none when the ref is a commit.
    [[nodiscard]] Result<GitPin> pin(const GitRequest& request, session::Session& session, VertexProgress* progress,
                                     const Stop& stop);
    // A chain of one layer.
    [[nodiscard]] Result<store::Chain> fetch(const GitRequest& request, const GitPin& pinned, session::Session& session,
                                             VertexProgress* progress, const Stop& stop);
    // The committer's time in seconds since 1970. Fetches the commit.
    [[nodiscard]] Result<std::int64_t> commit_time(const GitRequest& request, const GitPin& pinned,
                                                   session::Session& session, VertexProgress* progress,
                                                   const Stop& stop);

private:
    struct Access;  // identity with what must outlive it
    struct Checkout;
    Result<std::unique_ptr<Access>> open_access(const GitRequest& request, session::Session& session, const Stop& stop);
    Result<std::string> bare_repository(const GitRequest& request, const Git& git, sys::FileLock& lock,
                                        const Stop& stop);
    Result<store::Chain> fetch_anew(const GitRequest& request, const GitPin& pinned, session::Session& session,
                                    VertexProgress* progress, const Stop& stop);
    Result<> check_out(const Checkout& checkout, const Stop& stop);

    store::Store& store_;
    bool offline_;
};

}  // namespace cooper::source
