// The inside of Registry: endpoints, authorised requests, and what is known about blobs on hosts.
#pragma once

#include "base/guarded.hpp"
#include "registry/detail/authorizer.hpp"
#include "registry/registry.hpp"

#include <map>
#include <set>
#include <string>
#include <vector>

namespace cooper::registry {

enum class Access : std::uint8_t { pull, push };

struct Registry::State {
    State(RegistryConfig given, CredentialSource& credentials, http::Client& http_client, http::RetryPolicy policy)
        : config(std::move(given)), client(http_client), retry(policy), authorizer(credentials, http_client, policy) {}

    RegistryConfig config;
    http::Client& client;
    http::RetryPolicy retry;
    detail::Authorizer authorizer;

    struct Blobs {
        std::map<std::string, std::set<std::string>> repositories;  // "host digest" -> paths that have it
        std::set<std::string> in_flight;                            // "host path digest"
    };
    Guarded<Blobs> blobs;

    // The registry itself.
    [[nodiscard]] detail::Endpoint origin(const std::string& domain) const;
    // Mirrors first, the registry itself last.
    [[nodiscard]] std::vector<detail::Endpoint> pull_endpoints(const oci::Reference& reference) const;
    [[nodiscard]] detail::Endpoint endpoint_of(const std::string& domain, const std::string& host,
                                               const std::string& prefix) const;

    // Sends with what authorisation is known; after a 401 once more with what the server asked for.
    // Any status may come back. With `policy` to allow no retries for bodies that are resumed instead.
    [[nodiscard]] Result<http::Response> call(const detail::Endpoint& endpoint, http::Request request,
                                              const detail::Scopes& scopes, const http::RetryPolicy& policy,
                                              const Stop& stop);
    [[nodiscard]] static http::Request request_to(const detail::Endpoint& endpoint, http::Method method,
                                                  const std::string& path);
    [[nodiscard]] bool is_known(const oci::Reference& repository, const Digest& digest);
    void remember(const oci::Reference& repository, const Digest& digest);
};

[[nodiscard]] detail::Scopes scopes_for(const oci::Reference& repository, Access access);

}  // namespace cooper::registry
