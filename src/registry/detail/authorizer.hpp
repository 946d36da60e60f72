// Authorizer: adds the Authorization header a host wants, and keeps tokens until they expire.
#pragma once

#include "base/guarded.hpp"
#include "base/stop.hpp"
#include "http/client.hpp"
#include "registry/auth_challenge.hpp"
#include "registry/config.hpp"
#include "registry/credentials.hpp"

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace cooper::registry::detail {

using Scopes = std::vector<std::string>;  // "repository:library/alpine:pull"

// Where requests of a repository go.
struct Endpoint {
    std::string domain;        // for credentials and messages: "docker.io", or the mirror's host
    std::string base;          // "https://host/v2/" and a mirror's path prefix with '/'
    const HostConfig* config;  // lives as long as the Registry
    bool mirror = false;
    std::string for_domain;  // a mirror is told whom it stands for ("ns")
};

struct TokenAnswer {
    std::string token;
    std::string refresh_token;
    std::chrono::seconds lives{60};
};

class Authorizer {
public:
    Authorizer(CredentialSource& credentials, http::Client& client, http::RetryPolicy retry)
        : credentials_(credentials), client_(client), retry_(retry) {}

    // What is known already; empty = nothing.
    [[nodiscard]] std::string known(const Endpoint& endpoint, const Scopes& scopes);
    // After a 401: a new value for the header. Empty when nothing better can be had.
    [[nodiscard]] Result<std::string> answer(const Endpoint& endpoint, const Scopes& scopes,
                                             const http::Headers& headers, const Stop& stop);
    [[nodiscard]] Result<TokenAnswer> fetch_token(const Endpoint& endpoint, const Challenge& challenge, Scopes scopes,
                                                  const Credential& credential, const Stop& stop);

private:
    struct Known {
        std::string header;
        std::chrono::steady_clock::time_point until;
    };
    static std::string key_of(const Endpoint& endpoint, const Scopes& scopes);
    CredentialSource& credentials_;
    http::Client& client_;
    http::RetryPolicy retry_;
    Guarded<std::map<std::string, Known>> known_;
};

[[nodiscard]] std::string basic_header(const Credential& credential);
// The challenge we can answer best; bearer before basic.
[[nodiscard]] std::optional<Challenge> choose_challenge(const http::Headers& headers);

}  // namespace cooper::registry::detail
