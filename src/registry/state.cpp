#include "registry/detail/state.hpp"

#include "base/text.hpp"
#include "http/url.hpp"

#include <algorithm>

namespace cooper::registry {

detail::Scopes scopes_for(const oci::Reference& repository, Access access) {
    return {"repository:" + repository.path() + (access == Access::push ? ":pull,push" : ":pull")};
}

detail::Endpoint Registry::State::endpoint_of(const std::string& domain, const std::string& host,
                                              const std::string& prefix) const {
    const HostConfig& settings = config.host(domain);
    const bool plain = settings.scheme == Scheme::http || (settings.scheme == Scheme::automatic && is_loopback(host));
    return detail::Endpoint{.domain = domain,
                            .base = (plain ? "http://" : "https://") + host + "/v2/" + prefix,
                            .config = &settings,
                            .for_domain = domain};
}

detail::Endpoint Registry::State::origin(const std::string& domain) const {
    return endpoint_of(domain, endpoint_host(domain), "");
}

std::vector<detail::Endpoint> Registry::State::pull_endpoints(const oci::Reference& reference) const {
    std::vector<detail::Endpoint> all;
    for (const std::string& mirror : config.host(reference.domain()).mirrors) {
        const auto [host, path] = cut(mirror, '/');
        std::string prefix(path.value_or(""));
        while (prefix.ends_with('/')) prefix.pop_back();
        if (!prefix.empty()) prefix += '/';
        detail::Endpoint endpoint = endpoint_of(std::string(host), endpoint_host(std::string(host)), prefix);
        endpoint.mirror = true;
        endpoint.for_domain = reference.domain();
        all.push_back(std::move(endpoint));
    }
    all.push_back(origin(reference.domain()));
    return all;
}

http::Request Registry::State::request_to(const detail::Endpoint& endpoint, http::Method method,
                                          const std::string& path) {
    http::Request request{.method = method, .url = endpoint.base + path, .tls = endpoint.config->tls};
    if (endpoint.mirror && endpoint.domain != endpoint.for_domain) {
        request.url += (path.contains('?') ? "&ns=" : "?ns=") + http::percent_encode(endpoint.for_domain);
    }
    return request;
}

Result<http::Response> Registry::State::call(const detail::Endpoint& endpoint, http::Request request,
                                             const detail::Scopes& scopes, const http::RetryPolicy& policy,
                                             const Stop& stop) {
    // An upload may be sent to another host, which must not see our token.
    const http::Url base = TRY(http::Url::parse(endpoint.base));
    const http::Url target = TRY(http::Url::parse(request.url));
    const bool ours = base.same_origin(target);
    const std::string known = ours ? authorizer.known(endpoint, scopes) : std::string();
    if (!known.empty()) request.headers.set("Authorization", known);
    http::Response response = TRY(client.send_with_retry(request, policy, stop));
    if (response.status != 401 || !ours) return response;
    const std::string header = TRY(authorizer.answer(endpoint, scopes, response.headers, stop));
    if (header.empty() || header == known) return response;
    request.headers.set("Authorization", header);
    response.body.reset();
    return client.send_with_retry(request, policy, stop);
}

bool Registry::State::is_known(const oci::Reference& repository, const Digest& digest) {
    auto known = blobs.lock();
    const auto found = known->repositories.find(repository.domain() + " " + digest.to_string());
    return found != known->repositories.end() && found->second.contains(repository.path());
}

void Registry::State::remember(const oci::Reference& repository, const Digest& digest) {
    auto known = blobs.lock();
    known->repositories[repository.domain() + " " + digest.to_string()].insert(repository.path());
}

}  // namespace cooper::registry
