// Credentials: who we are at a registry. CredentialSource is what the registry asks; DockerConfig is
// the usual answer: docker's config.json with its helpers, also written by login and logout.
#pragma once

#include "base/guarded.hpp"
#include "base/result.hpp"
#include "base/stop.hpp"

#include <functional>
#include <map>
#include <optional>
#include <string>

namespace cooper::registry {

struct Credential {
    std::string username;
    std::string password;
    std::string identity_token;  // an OAuth2 refresh token, instead of a password
    std::string registry_token;  // a bearer token to be sent as it is

    [[nodiscard]] bool anonymous() const {
        return username.empty() && password.empty() && identity_token.empty() && registry_token.empty();
    }
};

class CredentialSource {
public:
    virtual ~CredentialSource() = default;
    // host as in a Reference ("docker.io", "localhost:5000"). An anonymous Credential when none is
    // known. Any thread; may block on a helper process.
    virtual Result<Credential> find(const std::string& host, const Stop& stop) = 0;
};

class NoCredentials final : public CredentialSource {
public:
    Result<Credential> find(const std::string& /*host*/, const Stop& /*stop*/) override { return Credential{}; }
};

// Docker's config.json: auths (base64 user:password, identitytoken, registrytoken), credHelpers,
// credsStore. Helpers are programs docker-credential-NAME on PATH. Read afresh on each question;
// answers of helpers are remembered for the life of the object.
class DockerConfig final : public CredentialSource {
public:
    // directory holds config.json; empty = $DOCKER_CONFIG, else $HOME/.docker.
    explicit DockerConfig(std::string directory);

    Result<Credential> find(const std::string& host, const Stop& stop) override;

    // Saves (in a helper when one is configured for the host, else in the file: atomically, mode
    // 0600, other keys of the file kept).
    [[nodiscard]] Result<> store(const std::string& host, const Credential& credential, const Stop& stop);
    // False when there was nothing to erase.
    [[nodiscard]] Result<bool> erase(const std::string& host, const Stop& stop);
    // Where passwords go for that host: "the file …" or "the helper …", for the login message.
    [[nodiscard]] Result<std::string> describe_store(const std::string& host) const;

private:
    Result<std::optional<std::string>> helper_for(const std::string& host) const;
    std::string directory_;
    Guarded<std::map<std::string, Credential>> from_helpers_;
};

}  // namespace cooper::registry
