// Registry: resolve and fetch.
#include "base/log.hpp"
#include "base/text.hpp"
#include "codec/sha256.hpp"
#include "oci/manifest.hpp"
#include "oci/media_type.hpp"
#include "registry/blob_stream.hpp"
#include "registry/detail/answer.hpp"
#include "registry/detail/state.hpp"
#include "registry/registry.hpp"

#include <functional>

namespace cooper::registry {
namespace {

using detail::Endpoint;

std::string accept_header() {
    return fmt::format("{}, {}, {}, {}, */*", oci::kDockerManifest, oci::kDockerIndex, oci::kOciManifest,
                       oci::kOciIndex);
}

std::string manifest_path(const oci::Reference& reference) {
    const std::string name = reference.digest().empty() ? reference.tag() : reference.digest().to_string();
    return reference.path() + "/manifests/" + (name.empty() ? "latest" : name);
}

std::string media_type_of(const http::Response& response) {
    const std::string value = response.headers.find("Content-Type").value_or("");
    return std::string(trim(cut(value, ';').first));
}

Error schema1_refused(const oci::Reference& reference) {
    return fail(Code::failed_precondition, Blame::user, "{} has the obsolete Docker schema 1 format",
                reference.familiar())
        .with_hint("push it again with a current docker or skopeo, which write schema 2 or OCI");
}

Error digest_differs(const std::string& what, const Digest& wanted, const Digest& got) {
    return fail(Code::data_loss, Blame::world, "{}: the registry sent {} instead of {}", what, got.to_string(),
                wanted.to_string())
        .with_hint("the registry or a proxy on the way changes what it hands out");
}

// What a HEAD says, when it says enough.
std::optional<oci::Descriptor> descriptor_from_head(const http::Response& response) {
    const auto digest = Digest::parse(response.headers.find("Docker-Content-Digest").value_or(""));
    const auto size = parse_int(response.headers.find("Content-Length").value_or(""));
    const std::string media_type = media_type_of(response);
    if (!digest || !size || *size <= 0) return std::nullopt;
    if (!oci::is_manifest(media_type) && !oci::is_index(media_type)) return std::nullopt;
    return oci::Descriptor{.media_type = media_type, .digest = *digest, .size = static_cast<std::uint64_t>(*size)};
}

// One answer from the first endpoint that has one; the last error (the registry's own) otherwise.
template <class T>
Result<T> first_of(const std::vector<Endpoint>& endpoints, const std::function<Result<T>(const Endpoint&)>& ask) {
    for (const Endpoint& endpoint : endpoints) {
        Result<T> result = ask(endpoint);
        if (result || !endpoint.mirror || result.error().is_cancelled()) return result;
        log::debug("mirror does not help", {{"mirror", endpoint.domain}, {"error", result.error().to_string()}});
    }
    UNREACHABLE();
}

http::RetryPolicy policy_for(const Endpoint& endpoint, const http::RetryPolicy& policy) {
    // A mirror that fails has a stand-in; do not wait long for it.
    http::RetryPolicy mine = policy;
    if (endpoint.mirror) mine.attempts = std::min(mine.attempts, 2);
    return mine;
}

}  // namespace

Registry::Registry(RegistryConfig config, CredentialSource& credentials, http::Client& client, http::RetryPolicy retry)
    : state_(std::make_unique<State>(std::move(config), credentials, client, retry)) {}
Registry::~Registry() = default;

namespace {

struct FetchedManifest {
    std::string bytes;
    std::string media_type;
    Digest digest;
};

}  // namespace

// GET of a manifest by whatever the reference names; verified when that is a digest.
static Result<FetchedManifest> get_manifest(Registry::State& state, const Endpoint& endpoint,
                                            const oci::Reference& reference, const Stop& stop);

Result<oci::Descriptor> Registry::resolve(const oci::Reference& reference, const Stop& stop) {
    const std::string what = "resolve " + reference.familiar();
    return first_of<oci::Descriptor>(state_->pull_endpoints(reference), [&](const Endpoint& endpoint) {
        return [&]() -> Result<oci::Descriptor> {
            http::Request head = State::request_to(endpoint, http::Method::head, manifest_path(reference));
            head.headers.add("Accept", accept_header());
            http::Response response = TRY_CONTEXT(state_->call(endpoint, head, scopes_for(reference, Access::pull),
                                                               policy_for(endpoint, state_->retry), stop),
                                                  "{}", what);
            if (response.status == 200) {
                if (oci::is_schema1(media_type_of(response))) return schema1_refused(reference);
                if (auto found = descriptor_from_head(response)) {
                    if (reference.digest().empty() || found->digest == reference.digest()) return *found;
                    return digest_differs(what, reference.digest(), found->digest);
                }
            } else if (response.status == 401 || response.status == 403 || response.status == 404 ||
                       response.status == 429 || response.status >= 500) {
                // The answer to a HEAD has no body; the status says it all.
                return detail::error_of(response, what, endpoint.domain);
            }
            // A registry that does not know HEAD, or leaves the digest out.
            response.body.reset();
            const FetchedManifest got = TRY(get_manifest(*state_, endpoint, reference, stop));
            return oci::Descriptor{.media_type = got.media_type, .digest = got.digest, .size = got.bytes.size()};
        }();
    });
}

static Result<FetchedManifest> get_manifest(Registry::State& state, const Endpoint& endpoint,
                                            const oci::Reference& reference, const Stop& stop) {
    const std::string what = "fetch the manifest of " + reference.familiar();
    http::Request get = Registry::State::request_to(endpoint, http::Method::get, manifest_path(reference));
    get.headers.add("Accept", accept_header());
    http::Response response = TRY_CONTEXT(
        state.call(endpoint, get, scopes_for(reference, Access::pull), policy_for(endpoint, state.retry), stop), "{}",
        what);
    if (response.status != 200) return detail::error_of(response, what, endpoint.domain);
    FetchedManifest got;
    got.bytes = TRY_CONTEXT(read_all(*response.body, oci::kMaxManifestBytes), "{}", what);
    got.digest = codec::sha256_of(got.bytes);
    const Digest wanted =
        reference.digest().empty()
            ? Digest::parse(response.headers.find("Docker-Content-Digest").value_or("")).value_or(got.digest)
            : reference.digest();
    if (wanted.algorithm() == Digest::Algorithm::sha256 && wanted != got.digest) {
        return digest_differs(what, wanted, got.digest);
    }
    if (wanted.algorithm() != Digest::Algorithm::sha256) {
        return fail(Code::unimplemented, Blame::user, "{}: only sha256 digests can be verified", what);
    }
    const std::string said = media_type_of(response);
    if (oci::is_schema1(said)) return schema1_refused(reference);
    got.media_type = TRY_CONTEXT(oci::sniff_media_type(got.bytes), "{}", what);
    if ((oci::is_manifest(said) || oci::is_index(said)) && oci::is_index(said) == oci::is_index(got.media_type)) {
        got.media_type = said;
    }
    return got;
}

Result<std::string> Registry::fetch_manifest(const oci::Reference& repository, const Digest& digest, const Stop& stop) {
    const oci::Reference reference = repository.with_digest(digest);
    return first_of<std::string>(state_->pull_endpoints(reference), [&](const Endpoint& endpoint) {
        return [&]() -> Result<std::string> {
            FetchedManifest got = TRY(get_manifest(*state_, endpoint, reference, stop));
            return std::move(got.bytes);
        }();
    });
}

namespace {

// How a blob is asked for again from some offset: same endpoint, Range.
Result<http::Response> open_range(Registry::State& state, const Endpoint& endpoint, const oci::Reference& repository,
                                  const oci::Descriptor& blob, std::uint64_t offset, const Stop& stop) {
    const std::string what = fmt::format("fetch blob {} of {}", blob.digest.to_string(), repository.familiar());
    http::Request get = Registry::State::request_to(endpoint, http::Method::get,
                                                    repository.path() + "/blobs/" + blob.digest.to_string());
    if (offset > 0) get.headers.add("Range", fmt::format("bytes={}-", offset));
    http::Response response = TRY_CONTEXT(state.call(endpoint, std::move(get), scopes_for(repository, Access::pull),
                                                     policy_for(endpoint, state.retry), stop),
                                          "{}", what);
    if (response.status != 200 && response.status != 206) return detail::error_of(response, what, endpoint.domain);
    return response;
}

Result<http::Response> open_url(Registry::State& state, const std::string& url, std::uint64_t offset,
                                const Stop& stop) {
    http::Request get{.url = url};
    if (offset > 0) get.headers.add("Range", fmt::format("bytes={}-", offset));
    http::Response response = TRY(state.client.send_with_retry(get, state.retry, stop));
    if (response.status != 200 && response.status != 206) {
        const auto host = url.substr(0, url.find('/', 8));
        return detail::error_of(response, "fetch foreign layer", host);
    }
    return response;
}

}  // namespace

Result<std::unique_ptr<ByteSource>> Registry::fetch_blob(const oci::Reference& repository, const oci::Descriptor& blob,
                                                         std::uint64_t offset, const Stop& stop) {
    State& state = *state_;
    using Stream = std::unique_ptr<ByteSource>;
    auto found = first_of<Stream>(state.pull_endpoints(repository), [&](const Endpoint& endpoint) {
        return BlobStream::open(
            [&state, endpoint, repository, blob, stop](std::uint64_t from) {
                return open_range(state, endpoint, repository, blob, from, stop);
            },
            offset, blob.size, state.retry, stop);
    });
    if (found || blob.urls.empty() || found.error().is_cancelled()) return found;
    for (const std::string& url : blob.urls) {
        auto elsewhere =
            BlobStream::open([&state, url, stop](std::uint64_t from) { return open_url(state, url, from, stop); },
                             offset, blob.size, state.retry, stop);
        if (elsewhere) return elsewhere;
    }
    return found;
}

namespace {

// VerifyingSource that owns what it reads.
class OwnedVerifyingSource final : public ByteSource {
public:
    OwnedVerifyingSource(std::unique_ptr<ByteSource> inner, const oci::Descriptor& blob)
        : inner_(std::move(inner)), verifying_(*inner_, blob.digest, blob.size) {}
    Result<std::size_t> read(std::span<std::byte> buffer) override { return verifying_.read(buffer); }

private:
    std::unique_ptr<ByteSource> inner_;
    codec::VerifyingSource verifying_;
};

}  // namespace

Result<std::unique_ptr<ByteSource>> Registry::fetch_blob_verified(const oci::Reference& repository,
                                                                  const oci::Descriptor& blob, const Stop& stop) {
    auto stream = TRY(fetch_blob(repository, blob, 0, stop));
    return std::make_unique<OwnedVerifyingSource>(std::move(stream), blob);
}

Result<std::string> Registry::fetch_blob_text(const oci::Reference& repository, const oci::Descriptor& blob,
                                              std::size_t limit_bytes, const Stop& stop) {
    if (blob.size > limit_bytes) {
        return fail(Code::resource_exhausted, Blame::user, "blob {} of {} is {} bytes, more than the {} allowed",
                    blob.digest.to_string(), repository.familiar(), blob.size, limit_bytes);
    }
    auto stream = TRY(fetch_blob_verified(repository, blob, stop));
    return read_all(*stream, limit_bytes);
}

Result<std::vector<oci::Descriptor>> Registry::referrers(const oci::Reference& repository, const Digest& subject,
                                                         const Stop& stop) {
    const Endpoint endpoint = state_->origin(repository.domain());
    const std::string what = "list the referrers of " + repository.familiar();
    for (const std::string& path : {repository.path() + "/referrers/" + subject.to_string(),
                                    repository.path() + "/manifests/sha256-" + subject.hex()}) {
        http::Request get = State::request_to(endpoint, http::Method::get, path);
        get.headers.add("Accept", std::string(oci::kOciIndex));
        http::Response response = TRY_CONTEXT(
            state_->call(endpoint, get, scopes_for(repository, Access::pull), state_->retry, stop), "{}", what);
        if (response.status == 404 || response.status == 405 || response.status == 400) continue;
        if (response.status != 200) return detail::error_of(response, what, endpoint.domain);
        const std::string body = TRY(read_all(*response.body, oci::kMaxManifestBytes));
        return TRY_CONTEXT(oci::parse_index(body, ""), "{}", what).manifests;
    }
    return std::vector<oci::Descriptor>();
}

Result<Credential> Registry::check_login(const std::string& host, const Credential& credential, const Stop& stop) {
    const Endpoint endpoint = state_->origin(host);
    const std::string what = "log in to " + host;
    http::Request get = State::request_to(endpoint, http::Method::get, "");
    http::Response response = TRY_CONTEXT(state_->client.send_with_retry(get, state_->retry, stop), "{}", what);
    if (response.status == 200) return credential;  // it asks nobody
    if (response.status != 401) return detail::error_of(response, what, host);
    const auto challenge = detail::choose_challenge(response.headers);
    if (!challenge) {
        return fail(Code::unimplemented, Blame::world, "{}: the registry asks for a kind of login we do not know",
                    what);
    }
    response.body.reset();
    Credential good = credential;
    std::string header = detail::basic_header(credential);
    if (challenge->scheme == "bearer") {
        const detail::TokenAnswer token =
            TRY_CONTEXT(state_->authorizer.fetch_token(endpoint, *challenge, {}, credential, stop), "{}", what);
        if (!token.refresh_token.empty()) {
            good.identity_token = token.refresh_token;
            good.password.clear();
        }
        header = "Bearer " + token.token;
    }
    get.headers.set("Authorization", header);
    response = TRY_CONTEXT(state_->client.send_with_retry(get, state_->retry, stop), "{}", what);
    if (response.status == 200) return good;
    if (response.status == 401) {
        return fail(Code::unauthenticated, Blame::user, "{}: wrong user name or password", what)
            .with_hint("many registries want an access token in place of the password");
    }
    return detail::error_of(response, what, host);
}

}  // namespace cooper::registry
