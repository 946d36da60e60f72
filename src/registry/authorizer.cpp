#include "registry/detail/authorizer.hpp"

#include "base/text.hpp"
#include "codec/base64.hpp"
#include "http/url.hpp"
#include "registry/detail/answer.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace cooper::registry::detail {
namespace {

constexpr std::size_t kMaxTokenBytes = 1u << 20;
constexpr std::chrono::seconds kMargin{10};
constexpr std::string_view kClientId = "cooper";

Result<TokenAnswer> parse_token(std::string_view body) {
    const auto document = nlohmann::json::parse(body.begin(), body.end(), nullptr, false);
    if (!document.is_object()) return fail(Code::unavailable, Blame::world, "the token server's answer is not JSON");
    const auto text = [&](const char* key) {
        const auto found = document.find(key);
        return found != document.end() && found->is_string() ? found->get<std::string>() : std::string();
    };
    TokenAnswer answer;
    answer.token = text("token");
    if (answer.token.empty()) answer.token = text("access_token");
    answer.refresh_token = text("refresh_token");
    const auto expires = document.find("expires_in");
    if (expires != document.end() && expires->is_number()) {
        const double seconds = std::clamp(expires->get<double>(), 60.0, 86'400.0);
        answer.lives = std::chrono::seconds(static_cast<std::int64_t>(seconds));
    }
    if (answer.token.empty()) return fail(Code::unauthenticated, Blame::world, "the token server sent no token");
    const bool clean = std::ranges::all_of(answer.token, [](char c) { return c > ' ' && c < '\x7f'; });
    if (!clean) return fail(Code::unauthenticated, Blame::world, "the token server sent a malformed token");
    return answer;
}

// A registry that is reached over TLS must not make us send passwords in the clear.
Result<> check_realm(const Endpoint& endpoint, const std::string& realm, const Credential& credential) {
    const http::Url url = TRY_CONTEXT(http::Url::parse(realm), "token server of {}", endpoint.domain);
    const bool downgrade = endpoint.base.starts_with("https://") && url.scheme == "http";
    if (downgrade && !credential.anonymous()) {
        return fail(Code::failed_precondition, Blame::world,
                    "{} wants the password sent to {} without encryption; refused", endpoint.domain, url.host);
    }
    return {};
}

}  // namespace

std::string basic_header(const Credential& credential) {
    return "Basic " + codec::base64_encode(credential.username + ":" + credential.password);
}

std::optional<Challenge> choose_challenge(const http::Headers& headers) {
    std::optional<Challenge> chosen;
    for (const std::string& value : headers.find_all("WWW-Authenticate")) {
        for (Challenge& challenge : parse_challenges(value)) {
            if (challenge.scheme == "bearer" && !challenge.param("realm").empty()) return std::move(challenge);
            if (challenge.scheme == "basic") chosen = std::move(challenge);
        }
    }
    return chosen;
}

std::string Authorizer::key_of(const Endpoint& endpoint, const Scopes& scopes) {
    return endpoint.base + " " + join(scopes, " ");
}

std::string Authorizer::known(const Endpoint& endpoint, const Scopes& scopes) {
    auto known = known_.lock();
    const auto now = std::chrono::steady_clock::now();
    for (const std::string& key : {key_of(endpoint, scopes), key_of(endpoint, {})}) {
        const auto found = known->find(key);
        if (found != known->end() && found->second.until > now) return found->second.header;
    }
    return "";
}

Result<TokenAnswer> Authorizer::fetch_token(const Endpoint& endpoint, const Challenge& challenge, Scopes scopes,
                                            const Credential& credential, const Stop& stop) {
    const std::string realm = challenge.param("realm");
    const std::string service = challenge.param("service");
    TRY(check_realm(endpoint, realm, credential));
    for (const std::string& scope : split(challenge.param("scope"), ' ')) {
        if (!scope.empty() && std::ranges::find(scopes, scope) == scopes.end()) scopes.push_back(scope);
    }
    http::Request request{.url = realm, .tls = endpoint.config->tls};
    const bool refresh = !credential.identity_token.empty();
    if (refresh) {
        std::string form = "grant_type=refresh_token&client_id=" + std::string(kClientId) +
                           "&service=" + http::percent_encode(service) +
                           "&refresh_token=" + http::percent_encode(credential.identity_token);
        if (!scopes.empty()) form += "&scope=" + http::percent_encode(join(scopes, " "));
        request.method = http::Method::post;
        request.headers.add("Content-Type", "application/x-www-form-urlencoded");
        request.body = http::text_body(std::move(form));
    } else {
        std::string query;
        const auto add = [&](std::string_view name, std::string_view value) {
            if (!query.empty()) query += "&";
            query += std::string(name) + "=" + http::percent_encode(value);
        };
        if (!service.empty()) add("service", service);
        if (!credential.username.empty()) {
            add("account", credential.username);
            if (scopes.empty()) add("offline_token", "true");  // logging in: a refresh token is welcome
            add("client_id", kClientId);
            request.headers.add("Authorization", basic_header(credential));
        }
        for (const std::string& scope : scopes) add("scope", scope);
        request.url += (realm.contains('?') ? "&" : "?") + query;
    }
    http::Response response = TRY(client_.send_with_retry(request, retry_, stop));
    if (response.status != 200) return error_of(response, "get a token for " + endpoint.domain, endpoint.domain);
    const std::string body = TRY(read_all(*response.body, kMaxTokenBytes));
    return parse_token(body);
}

Result<std::string> Authorizer::answer(const Endpoint& endpoint, const Scopes& scopes, const http::Headers& headers,
                                       const Stop& stop) {
    const auto challenge = choose_challenge(headers);
    if (!challenge) return std::string();
    const Credential credential =
        TRY_CONTEXT(credentials_.find(endpoint.domain, stop), "credentials for {}", endpoint.domain);
    const auto remember = [&](const std::string& key, std::string header, std::chrono::seconds lives) {
        auto known = known_.lock();
        (*known)[key] = Known{header, std::chrono::steady_clock::now() + lives - kMargin};
        return header;
    };
    if (challenge->scheme == "basic") {
        if (credential.username.empty()) return std::string();
        return remember(key_of(endpoint, {}), basic_header(credential), std::chrono::hours(12));
    }
    if (!credential.registry_token.empty()) return "Bearer " + credential.registry_token;
    const TokenAnswer token = TRY(fetch_token(endpoint, *challenge, scopes, credential, stop));
    return remember(key_of(endpoint, scopes), "Bearer " + token.token, token.lives);
}

}  // namespace cooper::registry::detail
